"""Files of ``torch.save``, read without importing or running anything.

A module that is saved whole is pickled by the name of its class, and whoever reads it the ordinary
way imports that class and trusts the file. Here every class becomes an inert container of what the
file says about its object; tensors are descriptions that stay in the file until they are asked for,
so an optimizer that was saved beside a model costs next to nothing. No function is ever called:
:mod:`vlcam.formats.pickles.machine` makes what the few that rebuild tensors would.

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

import math
import struct
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlcam.formats.budget import Budget, TooMuchError
from vlcam.formats.mapped import Bytes, mapped
from vlcam.formats.pickles.keys import RefusedError
from vlcam.formats.pickles.machine import Machine, Named
from vlcam.formats.pickles.names import plain_names
from vlcam.formats.pickles.storages import Place, Storage, Storages, StoredTensor, read_tensors
from vlcam.formats.restricted_pickle import described_name, reason
from vlcam.formats.wrapped_names import unwrapped, without_wrappers
from vlcam.utils.messages.expected import described, described_shape, expect

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
_HELD = {"_parameters": "tensors", "_buffers": "tensors", "_modules": "modules"}
_MODULES = ("torch", "torch.cuda")  # of storages
_MOST_DIMENSIONS = 64
_LARGEST_PICKLE = 2**28  # bytes, without the tensors
_HEAD = 2**22  # bytes at the beginning of a stream that name its tensors
_MOST_MODULES, _DEEPEST = 10_000, 50
_STANDARD = {*sys.stdlib_module_names, "__builtin__", "copy_reg", "commands"}


class Inert:
    """An object of a class that is not imported.

    Attributes:
        kind: the class, with its module: ``torch.nn.modules.conv.Conv2d``.
        attributes: what the file says the object holds.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.attributes: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<{described(self)}>"

    def take_state(self, state: Any) -> None:
        """Set the attributes, from what a file says of them."""
        if isinstance(state, dict):
            self.attributes = state


def read_torch_modules(path: Path, checksums: bool = True) -> Any:
    """What a file of ``torch.save`` holds: plain data, :class:`Inert` objects, and each tensor as a
    :class:`StoredTensor`.

    Args:
        checksums: whether numbers are compared with their checksums, where the file has any, when
            they are read.

    Raises:
        ValueError: the file is damaged or another kind of file, asks for a function to be called,
            which is named, or for more memory or time than its size gives reason to.
    """
    with mapped(path) as data:
        try:
            if data[:4] == _ARCHIVE:
                return _archive(path, data, checksums)
            return _stream(path, data)
        except RefusedError as refused:
            raise ValueError(f"{path}: {refused}; only tensors and plain data are read") from None
        except TooMuchError as error:
            raise ValueError(f"{path}: {error}") from None
        except Exception as error:  # whatever a broken file makes the readers stumble over
            why = reason(error)
            raise ValueError(f"{path}: damaged, or not written by torch.save ({why})") from error


def module_state(saved: Any, what: str) -> dict[str, Tensor]:
    """The tensors of a module, or of a state dict, that :func:`read_torch_modules` returned.

    Args:
        what: names it in errors: "encoder.pth: its encoder".

    Raises:
        ValueError: ``saved`` is neither, or its file is damaged.
    """
    if isinstance(saved, Inert) and "_modules" in saved.attributes:
        stored = _stored(saved, what)
    else:
        stored = expect(saved, dict, what, "a module or a state dict")
    for name, tensor in stored.items():
        expect(name, str, f"{what}: a name of a tensor", "a text")
        expect(tensor, StoredTensor, f"{what}: {described(name)}", "a tensor")
    return read_tensors(unwrapped(stored, what))


def read_checkpoint(path: Path, key: str = "state_dict") -> dict[str, Tensor]:
    """The state dict that a file holds: itself one (or a module), or a dict with one under ``key``.

    Every floating-point tensor becomes float32.

    Raises:
        ValueError: the file cannot be read, or holds no state dict.
    """
    saved = read_torch_modules(path)
    if isinstance(saved, Mapping) and key in saved:
        saved = saved[key]
    state = module_state(saved, f"{path}: its {key}")
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


def mentions(path: Path, *names: str) -> bool:
    """Whether all these names (of tensors, say) are in a file of ``torch.save``; False for others.

    Cheap: no tensor is read.
    """
    try:
        head = _head(path)
    except Exception:  # whatever a broken file makes zipfile stumble over
        return False
    heads = (head, without_wrappers(head))
    return all(any(name.encode() in text for text in heads) for name in names)


def _head(path: Path) -> bytes:
    """The bytes of a file that name its tensors."""
    if not path.is_file():
        return b""
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
        here = f"{what}: {prefix[:-1]}" if prefix else what
        attributes = expect(part, Inert, here, "a module").attributes
        parameters, buffers, parts = (
            expect(attributes.get(kind, {}), dict, f"{here}: its {kind}", f"a dictionary of {held}")
            for kind, held in _HELD.items()
        )
        passing = attributes.get("_non_persistent_buffers_set", set())
        expect(passing, set, f"{here}: its _non_persistent_buffers_set", "a set of names")
        for name in (*parameters, *buffers, *parts):
            expect(name, str, f"{here}: a name of what it holds", "a text")
        for name, tensor in (buffers | parameters).items():
            if tensor is not None and name not in passing:
                found[f"{prefix}{name}"] = tensor
        inner = ((f"{prefix}{name}.", inner) for name, inner in parts.items() if inner is not None)
        waiting.extend(inner)
    return found


def _machine(data: Bytes, storages: Storages) -> Machine:
    """What reads the pickles of one file."""
    budget = Budget(len(data))
    names = plain_names(budget) | _torch_names(budget)
    kinds = {names[module, name]: k for name, k in _KINDS.items() for module in _MODULES}

    def find(module: str, name: str) -> Named:
        if (module, name) not in names:
            whole = described_name(module, name)
            if module.partition(".")[0] in _STANDARD:  # no class of a model
                raise RefusedError(f"it asks for {whole}")
            names[module, name] = Named(whole, new=lambda: Inert(whole))
        return names[module, name]

    def refer(saved: Any) -> Any:
        tag, *told = saved if isinstance(saved, tuple) and saved else (saved,)
        if tag == "module" and told:  # a class and its source, of no interest here
            return told[0]
        if tag != "storage" or len(told) < 4:
            raise RefusedError(f"it refers to {described(tag)}")
        kind, key, _, count, *view = told
        # A name, before it is looked up: to hash anything else may take for ever.
        if not isinstance(kind, Named) or kind not in kinds or not isinstance(key, str):
            raise RefusedError(f"it asks for numbers of type {described(kind)}")
        if storages.kinds.setdefault(key, kinds[kind]) != kinds[kind]:
            raise RefusedError(f"it asks for numbers {described(key)} of two types")
        first = 0
        if view and view[0] is not None:  # part of another storage, in the oldest files
            _, first, count = view[0]
        if not _whole(first, count):
            raise RefusedError(f"it asks for {described(count)} numbers from {described(first)} on")
        return Storage(storages, key, count, first)

    return Machine(data, budget, find, refer)


def _torch_names(budget: Budget) -> dict[tuple[str, str], Named]:
    """What stands for the names of torch that a file may hold."""

    def tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
        """``torch._utils._rebuild_tensor`` and its second version."""
        fits = isinstance(storage, Storage) and len(shape) == len(strides) <= _MOST_DIMENSIONS
        if not fits or not _whole(offset, *shape, *strides):
            raise RefusedError("it asks for a tensor of no numbers")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        count = math.prod(shape)
        if count and (last >= storage.count or count > storage.count):
            asked = described_shape(tuple(shape))
            raise RefusedError(f"it asks for a tensor {asked} of {storage.count} numbers")
        return StoredTensor(storage, offset, tuple(shape), tuple(strides))

    def parameter(data: Any = None, *_: Any) -> Any:
        """``torch._utils._rebuild_parameter``: the tensor itself."""
        return data

    def sizes(values: Any = ()) -> tuple[Any, ...]:
        """``torch.Size``."""
        budget.take(8 * len(values))
        return tuple(values)

    def of_type(function: Any, _: Any, arguments: Any, *__: Any) -> Any:
        """``torch._tensor._rebuild_from_type_v2``: tensors with attributes of their own."""
        if not isinstance(function, Named) or function.make is None:
            raise RefusedError(f"it calls {described(function)}")
        return function.make(*arguments)

    def nothing(*_: Any) -> None:
        """Stands for what is not needed here."""

    made: dict[tuple[str, str], Any] = {
        ("torch._utils", "_rebuild_tensor"): tensor,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): of_type,
        ("torch.nn.parameter", "Parameter"): parameter,
        ("torch", "Size"): sizes,
        ("torch", "device"): nothing,
        # Every module held one before PyTorch 1.4.
        ("torch.nn.backends.thnn", "_get_thnn_function_backend"): nothing,
        **{(module, name): None for module in _MODULES for name in _KINDS},
    }
    return {key: Named(".".join(key), function) for key, function in made.items()}


def _whole(*values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _archive(path: Path, data: Bytes, checksums: bool) -> Any:
    """The archive: ``NAME/data.pkl``, and the numbers as ``NAME/data/KEY``."""
    storages = Storages(path, len(data))
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [n for n in members if n.endswith("/data.pkl") and n.count("/") == 1]
        if len(pickles) != 1 or members[pickles[0]].file_size > _LARGEST_PICKLE:
            raise ValueError("no data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if len(members) != len(archive.infolist()):
            raise ValueError("two files of one name in it")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise ValueError("compressed")
        if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("of a big-endian machine")
        for name, member in members.items():
            if name.startswith(f"{root}data/"):
                start, checksum = _behind_header(data, member), member.CRC if checksums else None
                place = Place(start, member.file_size, checksum)
                storages.places[name.removeprefix(f"{root}data/")] = place
        pickled = archive.read(pickles[0])
    _check_apart(storages.places.values())
    return _machine(pickled, storages).load()


def _behind_header(data: Bytes, member: zipfile.ZipInfo) -> int:
    """Where a member's own bytes begin."""
    at = member.header_offset
    return at + 30 + sum(struct.unpack_from("<HH", data, at + 26))


def _check_apart(places: Iterable[Place]) -> None:
    """Raises ValueError where numbers lie over each other, so that a small file has many."""
    end = 0
    for place in sorted(places, key=lambda place: place.start):
        if place.start < end:
            raise ValueError("numbers of it lie over each other")
        end = place.start + place.size


def _stream(path: Path, data: Bytes) -> Any:
    """The stream: magic number, version, machine, data, keys; and the numbers of each key."""
    storages = Storages(path, len(data))
    pickles = _machine(data, storages)
    if pickles.load() != _MAGIC:
        raise ValueError("no magic number")
    _, told = (pickles.load() for _ in range(2))
    if expect(told, dict, "its machine", "a dictionary").get("little_endian") is not True:
        raise ValueError("of a big-endian machine")
    saved, keys = (pickles.load() for _ in range(2))
    at = pickles.at
    for key in expect(keys, list, "its storages", "a list of keys"):
        (count,) = struct.unpack_from("<q", data, at)
        expect(key, str, "a key of its storages", "a text")
        if key not in storages.kinds or key in storages.places or count < 0:
            raise ValueError(f"{count} numbers {described(key)} of no tensor")
        place = Place(at + 8, count * storages.kinds[key].itemsize)
        storages.places[key] = place
        at = place.start + place.size
        if at > len(data):
            raise ValueError(f"the numbers {described(key)} end beyond its end")
    return saved
