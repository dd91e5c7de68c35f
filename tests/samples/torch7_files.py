"""Writes what Lua Torch7's ``torch.save`` writes, for tests of readers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlcam.formats.torch7 import LuaObject

KINDS = {"f4": "Float", "f8": "Double", "i8": "Long", "u1": "Byte"}


@dataclass(frozen=True)
class Storage:
    """Numbers that are to be written as a storage, not a tensor."""

    numbers: np.ndarray


class Writer:
    def __init__(self, float_: str = "Float") -> None:
        """``float_``: what 32-bit tensors are called; ``Cuda`` those of a GPU."""
        self.float = float_
        self.data = bytearray()
        self.count = 0

    def value(self, value: Any) -> Writer:
        if value is None:
            self.ints(0)
        elif isinstance(value, bool):
            self.ints(5, int(value))
        elif isinstance(value, int | float):
            self.ints(1)
            self.data += struct.pack("<d", value)
        elif isinstance(value, str):
            self.ints(2)
            self.text(value)
        elif isinstance(value, dict):
            self.ints(3, self.number(), len(value))
            for key, one in value.items():
                self.value(key).value(one)
        elif isinstance(value, LuaObject):
            self.begin(value.kind)
            self.value(value.fields)
        elif isinstance(value, Storage):
            self.storage(value.numbers)
        else:
            self.tensor(value)
        return self

    def tensor(self, array: np.ndarray) -> None:
        self.begin(f"torch.{self.kind(array)}Tensor")
        self.ints(array.ndim)
        strides = [s // array.itemsize for s in array.strides]
        self.data += struct.pack(f"<{2 * array.ndim + 1}q", *array.shape, *strides, 1)
        self.storage(array)

    def storage(self, array: np.ndarray) -> None:
        self.begin(f"torch.{self.kind(array)}Storage")
        flat = array.ravel(order="K")
        self.data += struct.pack("<q", flat.size) + flat.tobytes()

    def kind(self, array: np.ndarray) -> str:
        return self.float if array.dtype == np.float32 else KINDS[array.dtype.str[1:]]

    def begin(self, kind: str) -> None:
        """An object of a class; what it holds must follow."""
        self.ints(4, self.number())
        self.text("V 1")
        self.text(kind)

    def number(self) -> int:
        self.count += 1
        return self.count

    def ints(self, *values: int) -> None:
        self.data += struct.pack(f"<{len(values)}i", *values)

    def text(self, text: str) -> None:
        self.ints(len(text.encode()))
        self.data += text.encode()


def save(path: Path, value: Any, float_: str = "Float") -> None:
    path.write_bytes(Writer(float_).value(value).data)
