"""Numbers that a file of ``torch.save`` holds: tensors that are still in it, and their reading."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vlcam.utils.messages.expected import described, described_shape

_MOST_NAMED, _FEW = 4, 2**20
"""Tensors may share their numbers, but all names together ask for no more than this many times the
bytes of the file, and some: a network with weights of its own for each of them is built."""


@dataclass(frozen=True)
class Place:
    """Where numbers lie in a file, in bytes, and their checksum where the file has one."""

    start: int
    size: int
    checksum: int | None = None


@dataclass(frozen=True, eq=False)
class Storages:
    """All numbers of a file, by the keys of their storages.

    Attributes:
        size: of the file, in bytes.
    """

    path: Path
    size: int
    places: dict[str, Place] = field(default_factory=dict)
    kinds: dict[str, torch.dtype] = field(default_factory=dict)

    def read(self, key: str) -> Tensor:
        """The numbers of one storage.

        Raises:
            ValueError: there are none, or they are cut short or damaged.
        """
        place, what = self.places.get(key), described(key)
        if place is None:
            raise ValueError(f"{self.path}: damaged: no numbers {what}")
        if place.start + place.size > self.size:
            left = max(0, self.size - place.start)
            raise ValueError(f"{self.path}: cut short: {left} of {place.size} bytes of {what}")
        data = torch.empty(place.size, dtype=torch.uint8)
        bytes_ = memoryview(cast(Any, data.numpy()))
        with self.path.open("rb") as file:
            file.seek(place.start)
            if file.readinto(bytes_) != place.size:
                raise ValueError(f"{self.path}: cut short while it was read")
        if place.checksum is not None and zlib.crc32(bytes_) != place.checksum:
            raise ValueError(f"{self.path}: damaged: the checksum of {what} is wrong")
        kind = self.kinds[key]
        return data[: place.size - place.size % kind.itemsize].view(kind)


@dataclass(frozen=True)
class Storage:
    """``count`` numbers of one type, from the ``first`` of those with a key on."""

    storages: Storages
    key: str
    count: int
    first: int = 0


@dataclass(frozen=True, eq=False)  # optimizers use parameters as keys
class StoredTensor:
    """A tensor that is still in its file; its shape and strides fit what it is stored in."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __repr__(self) -> str:
        return described(self)

    def take_state(self, state: Any) -> None:
        """Ignore the state that parameters of old files have."""

    @property
    def bytes(self) -> int:
        """How many its numbers take."""
        return math.prod(self.shape) * self.storage.storages.kinds[self.storage.key].itemsize

    def read(self) -> Tensor:
        """The tensor, in memory of its own.

        Raises:
            ValueError: its file is cut short or damaged.
        """
        return read_tensors({"": self})[""]


def read_tensors(stored: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """Those tensors. The numbers of each storage are read once, and shared by all tensors of them.

    Raises:
        ValueError: their file is cut short or damaged, or they are too many for it.
    """
    asked: dict[Storages, int] = {}
    sharing: dict[tuple[int, str], dict[StoredTensor, list[str]]] = {}
    for name, one in stored.items():
        storages = one.storage.storages
        asked[storages] = asked.get(storages, 0) + one.bytes
        same = sharing.setdefault((id(storages), one.storage.key), {})
        same.setdefault(one, []).append(name)
    for storages, bytes_ in asked.items():
        if bytes_ > _MOST_NAMED * storages.size + _FEW:
            raise ValueError(
                f"{storages.path}: damaged: its {len(stored)} tensors have {bytes_} bytes, the"
                f" file has {storages.size}"
            )
    found: dict[str, Tensor] = {}
    for tensors in sharing.values():
        for one, value in _of_one_storage(list(tensors)).items():
            found |= dict.fromkeys(tensors[one], value)
    return {name: found[name] for name in stored}


def _of_one_storage(tensors: list[StoredTensor]) -> dict[StoredTensor, Tensor]:
    storage = tensors[0].storage
    path = storage.storages.path
    numbers = storage.storages.read(storage.key)
    # Copies of parts let go of the rest; parts that overlap stay parts, or they would add up.
    apart = sum(math.prod(one.shape) for one in tensors) <= len(numbers)
    found = {}
    for one in tensors:
        if one.storage.first + one.storage.count > len(numbers):
            raise ValueError(f"{path}: damaged: too few numbers {described(storage.key)}")
        try:
            value = numbers.as_strided(one.shape, one.strides, one.storage.first + one.offset)
        except (TypeError, ValueError, RuntimeError):  # sizes beyond 64 bits
            shape = described_shape(one.shape)
            raise ValueError(f"{path}: damaged: a tensor of no possible shape {shape}") from None
        found[one] = value.clone() if apart and value.numel() < len(numbers) else value
    return found
