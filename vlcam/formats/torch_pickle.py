"""Files of ``torch.save``, read without importing or running anything.

A module that is saved whole is pickled by the name of its class, and whoever reads it the ordinary
way imports that class and trusts the file. Here every class becomes an inert container of what the
file says about its object; tensors are descriptions that stay in the file until they are asked for,
so an optimizer that was saved beside a model costs next to nothing. No function is ever called,
except stand-ins of ours for the few that rebuild tensors.

Both layouts are read: the archive of PyTorch 1.6 and later, and the stream of pickles and numbers
that was written before.

``torch.load(pickle_module=...)`` with a restricted unpickler does not replace this module: the
unpickler limits what a pickle may call, but torch.load (2.14) does more than unpickle.

* An archive with a ``constants.pkl`` goes to ``torch.jit.load``, which runs the TorchScript in it.
* A stream may have a class compared with its source here. That warns for each class of a model; if
  the file has set ``dump_patches`` and ``__name__`` on a stand-in, a ``.patch`` of that name, with
  lines from the file, is written to the working directory.
* A tar file is unpacked into a temporary folder before anything is checked, and links are followed.
* No checksum is verified: numbers that have changed are read as if they were right.
* All numbers of a stream are read: 512 MiB of an optimizer's for the 0.8 MB that are wanted. (Those
  of an archive can be left in the file, by ``mmap=True``.)
* ``TORCH_FORCE_WEIGHTS_ONLY_LOAD=1`` in the environment refuses any ``pickle_module``.

With all that done by hand, finding ``data.pkl`` is what is left to torch.load.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vlcam.formats.restricted_pickle import Refused, plain_names

_KINDS = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_ARCHIVE = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a stream
_LARGEST_PICKLE = 2**28  # bytes, without the tensors
_HEAD = 2**22  # bytes at the beginning of a stream that name its tensors
_MOST_MODULES, _DEEPEST = 10_000, 50
_STANDARD = {*sys.stdlib_module_names, "__builtin__", "copy_reg", "commands"}


class _Class(type):
    """The class of classes that are named, not imported: their objects are not initialised."""

    kind = ""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise Refused(f"it calls {cls.kind}")


class Inert(metaclass=_Class):
    """An object of a class that is not imported.

    Attributes:
        kind: the class, with its module: ``torch.nn.modules.conv.Conv2d``.
        attributes: what the file says the object holds.
    """

    kind = ""
    attributes: dict[str, Any]

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        inert = super().__new__(cls)
        inert.attributes = {}
        return inert

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.attributes = state


@dataclass(frozen=True, eq=False)  # optimizers use parameters as keys
class StoredTensor:
    """A tensor that is still in its file; its shape and strides fit what it is stored in."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, state: Any) -> None:
        """Ignore the state that parameters of old files have."""

    def read(self) -> Tensor:
        """The tensor, in memory of its own.

        Raises:
            ValueError: its file is cut short or damaged.
        """
        values = self.storage.read()
        try:
            values = values.as_strided(self.shape, self.strides, self.offset)
        except (TypeError, ValueError, RuntimeError):  # sizes beyond 64 bits
            path = self.storage.storages.path
            raise ValueError(f"{path}: damaged: a tensor of no possible shape") from None
        return values.clone() if values.numel() < self.storage.count else values


def read_torch_modules(path: Path) -> Any:
    """What a file of ``torch.save`` holds: plain data, :class:`Inert` objects, and each tensor as a
    :class:`StoredTensor`.

    Raises:
        ValueError: the file is damaged or another kind of file, or asks for a function to be
            called, which is named.
    """
    with path.open("rb") as file:
        try:
            start = file.read(len(_ARCHIVE))
            file.seek(0)
            return _archive(path, file) if start == _ARCHIVE else _stream(path, file)
        except Refused as refused:
            raise ValueError(f"{path}: {refused}; only tensors and plain data are read") from None
        except Exception as error:  # whatever a broken file makes the readers stumble over
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ValueError(f"{path}: damaged, or not written by torch.save ({reason})") from error


def module_state(saved: Any, what: str) -> dict[str, Tensor]:
    """The tensors of a module, or of a state dict, that :func:`read_torch_modules` returned.

    Args:
        what: names it in errors: "encoder.pth: its encoder".

    Raises:
        ValueError: ``saved`` is neither, or its file is damaged.
    """
    if isinstance(saved, Mapping):
        stored = dict(saved)
    elif isinstance(saved, Inert) and "_modules" in saved.attributes:
        stored = _stored(saved, what)
    else:
        raise ValueError(f"{what} is neither a module nor a state dict")
    for name, tensor in stored.items():
        if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
            raise ValueError(f"{what}: {name} is no tensor")
    return {name: tensor.read() for name, tensor in stored.items()}


def read_checkpoint(path: Path, key: str = "state_dict") -> dict[str, Tensor]:
    """The state dict that a file holds: itself one (or a module), or a dict with one under ``key``.

    Names lose the ``module.`` that ``nn.DataParallel`` puts before them; every floating-point
    tensor becomes float32.

    Raises:
        ValueError: the file cannot be read, or holds no state dict.
    """
    saved = read_torch_modules(path)
    if isinstance(saved, Mapping) and key in saved:
        saved = saved[key]
    state = module_state(saved, f"{path}: its {key}")
    return {
        name.removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }


def mentions(path: Path, *names: str) -> bool:
    """Whether all these names (of tensors, say) are in a file of ``torch.save``; False for others.

    Cheap: no tensor is read.
    """
    try:
        head = _head(path)
    except Exception:  # whatever a broken file makes zipfile stumble over
        return False
    return all(name.encode() in head for name in names)


def _head(path: Path) -> bytes:
    """The bytes of a file that name its tensors."""
    with path.open("rb") as file:
        start = file.read(len(_ARCHIVE))
        if start[:1] == b"\x80":  # a pickle, with which a stream begins
            return file.read(_HEAD)
        if start != _ARCHIVE:
            return b""
        try:
            with zipfile.ZipFile(file) as archive:
                pickles = [m for m in archive.infolist() if m.filename.endswith("/data.pkl")]
                if not pickles or pickles[0].file_size > _HEAD:
                    return b""
                return archive.read(pickles[0])
        except zipfile.BadZipFile:  # cut short; the names come first
            file.seek(0)
            return file.read(_HEAD)


def _stored(module: Inert, what: str) -> dict[str, Any]:
    """A module's parameters and persistent buffers by their full names."""
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [("", module)]
    for prefix, part in waiting:  # which grows in the loop
        if len(waiting) > _MOST_MODULES or prefix.count(".") > _DEEPEST:
            raise ValueError(f"{what}: its modules have no end")
        if not isinstance(part, Inert):
            raise ValueError(f"{what}: {prefix[:-1]} is no module")
        kinds = ("_parameters", "_buffers", "_modules")
        parameters, buffers, parts = held = [part.attributes.get(kind, {}) for kind in kinds]
        passing = part.attributes.get("_non_persistent_buffers_set", set())
        if not isinstance(passing, set) or not all(isinstance(values, dict) for values in held):
            raise ValueError(f"{what}: damaged: {part.kind} without its dicts of tensors")
        for name, tensor in (buffers | parameters).items():
            if tensor is not None and name not in passing:
                found[f"{prefix}{name}"] = tensor
        inner = ((f"{prefix}{name}.", inner) for name, inner in parts.items() if inner is not None)
        waiting.extend(inner)
    return found


@dataclass(frozen=True)
class _Place:
    """Where numbers lie in a file, in bytes, and their checksum where the file has one."""

    start: int
    size: int
    checksum: int | None = None


@dataclass(frozen=True)
class _Storages:
    """All numbers of a file, by the keys of their storages."""

    path: Path
    places: dict[str, _Place] = field(default_factory=dict)
    kinds: dict[str, torch.dtype] = field(default_factory=dict)

    def read(self, key: str) -> bytearray:
        place = self.places.get(key)
        if place is None:
            raise ValueError(f"{self.path}: damaged: no numbers {key!r}")
        with self.path.open("rb") as file:
            file.seek(place.start)
            left = max(0, file.seek(0, io.SEEK_END) - place.start)
            if left < place.size:
                raise ValueError(f"{self.path}: cut short: {left} of {place.size} bytes of {key!r}")
            file.seek(place.start)
            data = bytearray(file.read(place.size))
        if place.checksum is not None and zlib.crc32(data) != place.checksum:
            raise ValueError(f"{self.path}: damaged: the checksum of {key!r} is wrong")
        return data


@dataclass(frozen=True)
class _Storage:
    """``count`` numbers of one type, from the ``first`` of those with a key on."""

    storages: _Storages
    key: str
    kind: torch.dtype
    count: int
    first: int = 0

    def read(self) -> Tensor:
        data, size = self.storages.read(self.key), self.kind.itemsize
        if len(data) < (self.first + self.count) * size:
            raise ValueError(f"{self.storages.path}: damaged: too few numbers {self.key!r}")
        if self.count == 0:
            return torch.empty(0, dtype=self.kind)
        return torch.frombuffer(data, dtype=self.kind, count=self.count, offset=self.first * size)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, storages: _Storages) -> None:
        super().__init__(file, encoding="latin1")  # as Python 2 wrote strings
        self._names = plain_names() | _torch_names()
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            whole = f"{module}.{name}"
            if module.partition(".")[0] in _STANDARD:  # no class of a model
                raise Refused(f"it asks for {whole}")
            self._names[module, name] = _Class(name, (Inert,), {"kind": whole})
        return self._names[module, name]

    def persistent_load(self, saved: Any) -> Any:
        tag, *told = saved
        if tag == "module":  # a class and its source, of no interest here
            return told[0]
        if tag != "storage":
            raise Refused(f"it refers to a {tag!r}")
        kind, key, _, count, *view = told
        if not isinstance(kind, torch.dtype) or not isinstance(key, str):
            raise Refused(f"it asks for numbers of type {getattr(kind, 'kind', kind)!r}")
        if self._storages.kinds.setdefault(key, kind) != kind:
            raise Refused(f"it asks for numbers {key!r} of two types")
        first = 0
        if view and view[0] is not None:  # part of another storage, in the oldest files
            _, first, count = view[0]
        if not _whole(first, count):
            raise Refused(f"it asks for numbers {first} ... of {count}")
        return _Storage(self._storages, key, kind, count, first)


def _torch_names() -> dict[tuple[str, str], Any]:
    """What a file may name of torch; made anew for each file."""

    def tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
        """``torch._utils._rebuild_tensor`` and its second version."""
        shape, strides = tuple(shape), tuple(strides)
        fits = isinstance(storage, _Storage) and len(shape) == len(strides)
        if not fits or not _whole(offset, *shape, *strides):
            raise Refused("it asks for a tensor of no numbers")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        count = math.prod(shape)
        if count and (last >= storage.count or count > storage.count):
            raise Refused(f"it asks for a tensor {shape} of {storage.count} numbers")
        return StoredTensor(storage, offset, shape, strides)

    def parameter(data: Any = None, *_: Any) -> Any:
        """``torch._utils._rebuild_parameter``: the tensor itself."""
        return data

    def nothing(*_: Any) -> None:
        """Stands for what is not needed here."""

    names: dict[tuple[str, str], Any] = {
        ("torch._utils", "_rebuild_tensor"): tensor,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch.nn.parameter", "Parameter"): parameter,
        ("torch", "Size"): tuple,
        ("torch", "device"): nothing,
        # Every module held one before PyTorch 1.4.
        ("torch.nn.backends.thnn", "_get_thnn_function_backend"): nothing,
    }
    for name, kind in _KINDS.items():
        names["torch", name] = names["torch.cuda", name] = kind
    return names


def _whole(*values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _archive(path: Path, file: BinaryIO) -> Any:
    """The archive: ``NAME/data.pkl``, and the numbers as ``NAME/data/KEY``."""
    storages = _Storages(path)
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [n for n in members if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(pickles) != 1 or members[pickles[0]].file_size > _LARGEST_PICKLE:
            raise ValueError("no data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise ValueError("compressed")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("of a big-endian machine")
        for name, member in members.items():
            if name.startswith(f"{root}data/"):
                place = _Place(_behind_header(file, member), member.file_size, member.CRC)
                storages.places[name.removeprefix(f"{root}data/")] = place
        data = archive.read(pickles[0])
    return _Unpickler(io.BytesIO(data), storages).load()


def _behind_header(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Where a member's own bytes begin."""
    file.seek(member.header_offset)
    header = file.read(30)
    return member.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))


def _stream(path: Path, file: BinaryIO) -> Any:
    """The stream: magic number, version, machine, data, keys; and the numbers of each key."""
    storages = _Storages(path)
    if _Unpickler(file, storages).load() != _MAGIC:
        raise ValueError("no magic number")
    _, machine = (_Unpickler(file, storages).load() for _ in range(2))
    if machine.get("little_endian") is not True:
        raise ValueError("of a big-endian machine")
    saved = _Unpickler(file, storages).load()
    for key in _Unpickler(file, storages).load():
        (count,) = struct.unpack("<q", file.read(8))
        if key not in storages.kinds or count < 0:
            raise ValueError(f"numbers {key!r} of no tensor")
        storages.places[key] = _Place(file.tell(), count * storages.kinds[key].itemsize)
        file.seek(storages.places[key].size, io.SEEK_CUR)
    return saved
