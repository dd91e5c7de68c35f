"""Reading TensorFlow's checkpoints of version 2 (``tf.train.Saver`` since 1.0), without TensorFlow.

A checkpoint is several files of one prefix. ``PREFIX.index`` is a sorted table in the format of
LevelDB: blocks of keys and values (each key says how much it shares with the one before; the
offsets of whole keys, the restart array, stand at the block's end) and a footer with the place of
the index of blocks. The keys are the variables' names, the values protocol buffers
(``tensorflow/core/protobuf/tensor_bundle.proto``) with a variable's type, shape and place in
``PREFIX.data-SSSSS-of-NNNNN``, which hold the bare numbers. Nothing in them is ever run; checksums
are verified.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from vlcam.utils.messages.expected import described

STATE = "checkpoint"
"""The file of a folder that names its newest checkpoint."""

_INDEX = ".index"
_PART = re.compile(r"(.+)(\.index|\.data-\d{5}-of-\d{5})")
_NAMED = re.compile(r'^\s*model_checkpoint_path:\s*"([^"\n]+)"', re.MULTILINE)
_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48  # bytes
_TRAILER = 5  # bytes behind each block: how it is compressed, its checksum
_LONGEST_KEY = 2**12
_MOST_KEYS = 2**17
_MOST_DIMENSIONS = 16
_TYPES = {
    1: "f4",
    2: "f8",
    3: "i4",
    4: "u1",
    5: "i2",
    6: "i1",
    9: "i8",
    10: "?",
    17: "u2",
    19: "f2",
    22: "u4",
    23: "u8",
}
"""NumPy's types by TensorFlow's numbers (``DataType``), where it reads values as stored."""


@dataclass(frozen=True)
class Variable:
    """Where the numbers of one variable lie.

    Attributes:
        kind: TensorFlow's number of their type.
        shape: of the variable.
        shard: number of the data file.
        offset, size: of their bytes in it.
        checksum: masked CRC-32C of these bytes; None where there is none.
        sliced: whether they are stored in several pieces.
    """

    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int | None
    sliced: bool


@dataclass(frozen=True)
class TensorFlowCheckpoint:
    """The variables of a checkpoint by name; their numbers are read when asked for.

    Attributes:
        prefix: the path that all its files' names begin with.
        shards: number of data files.
        variables: where each variable lies, by name.
    """

    prefix: Path
    shards: int
    variables: dict[str, Variable]

    def check(self, name: str) -> np.dtype:
        """The type of a variable's numbers, once it is known that its file may hold them.

        Raises:
            ValueError: its file is missing or cut short, or of a kind that is not read.
            KeyError: there is no such variable.
        """
        variable = self.variables[name]
        path = self.data_file(variable.shard)
        what = f"{path}: {described(name)}"
        kind = np.dtype("<" + _TYPES[variable.kind]) if variable.kind in _TYPES else None
        if kind is None or variable.sliced:
            how = "in slices" if kind is not None else f"of TensorFlow's type {variable.kind}"
            raise ValueError(f"{what} is stored {how}, which is not read")
        if variable.size != math.prod(variable.shape) * kind.itemsize:
            raise ValueError(f"{what} of shape {variable.shape} has {variable.size} bytes: damaged")
        if not path.is_file():
            raise ValueError(f"{path}: no such file; {self.prefix.name}{_INDEX} refers to it")
        if variable.offset + variable.size > path.stat().st_size:
            raise ValueError(f"{what} is cut short: the file ends early")
        return kind

    def read(self, name: str) -> np.ndarray:
        """The numbers of a variable, in its shape.

        Raises:
            ValueError: as :meth:`check`; or they are damaged.
            KeyError: there is no such variable.
        """
        kind, variable = self.check(name), self.variables[name]
        path = self.data_file(variable.shard)
        what = f"{path}: {described(name)}"
        with path.open("rb") as file:
            file.seek(variable.offset)
            data = file.read(variable.size)
        if variable.checksum not in (None, _checksum(data)):
            raise ValueError(f"{what} is damaged: its checksum is wrong")
        return np.frombuffer(data, kind).reshape(variable.shape)

    def data_file(self, shard: int) -> Path:
        """The path of a data file, by its number from 0."""
        name = f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}"
        return self.prefix.with_name(name)


def read_checkpoint(path: Path) -> TensorFlowCheckpoint:
    """A checkpoint by its prefix, any of its files, its folder or the folder's ``checkpoint`` file.

    Of several in a folder, it is the one that the ``checkpoint`` file names.

    Raises:
        ValueError: there is none, there are several and none is named, or it is damaged or of
            version 1; one line says which.
    """
    prefix = prefix_of(path)
    index = prefix.with_name(prefix.name + _INDEX)
    if not index.is_file():
        raise ValueError(f"{index}: no such file; a checkpoint is one and {prefix.name}.data-*")
    try:
        entries = dict(_table(index.read_bytes()))
        shards = _header(entries.pop(b"", b""))
        variables = {key.decode(): _variable(value, shards) for key, value in entries.items()}
        _check_apart(variables.values())
    except (ValueError, struct.error) as error:
        raise ValueError(f"{index}: not a readable index of a checkpoint ({error})") from error
    return TensorFlowCheckpoint(prefix, shards, variables)


def prefix_of(path: Path) -> Path:
    """What the names of a checkpoint's files begin with; arguments as of :func:`read_checkpoint`.

    Raises:
        ValueError: there are several and none is named, or it is of version 1.
    """
    if path.is_dir() or path.name == STATE:
        return _chosen(path if path.is_dir() else path.parent)
    part = _PART.fullmatch(path.name)
    prefix = path.with_name(part[1]) if part else path
    if is_version_1(path) and not part:
        raise ValueError(
            f"{path}: a TensorFlow checkpoint of version 1, which is not read; convert it with"
            " TensorFlow: restore it and save it by tf.compat.v1.train.Saver()"
        )
    return prefix


def prefixes(folder: Path) -> list[Path]:
    """The prefixes of a folder's checkpoints, sorted; each has an index or a data file."""
    parts = [_PART.fullmatch(file.name) for file in folder.iterdir()]
    return [folder / name for name in sorted({part[1] for part in parts if part})]


def is_version_1(path: Path) -> bool:
    """Whether a file is a whole table by itself, as checkpoints were before TensorFlow 1.0."""
    if not path.is_file() or path.suffix == _INDEX or path.stat().st_size < _FOOTER:
        return False
    with path.open("rb") as file:
        file.seek(-len(_MAGIC), 2)
        return file.read() == _MAGIC


def _chosen(folder: Path) -> Path:
    """The prefix of a folder's only checkpoint, or of the one that is named."""
    found = prefixes(folder)
    if len(found) == 1:
        return found[0]
    if not found:
        old = [file for file in sorted(folder.iterdir()) if is_version_1(file)]
        if old:
            return prefix_of(old[0])
        raise ValueError(f"{folder}: no TensorFlow checkpoint (no file *{_INDEX})")
    state, named = folder / STATE, ""
    if state.is_file():
        match = _NAMED.search(state.read_text("utf-8", "replace"))
        # Its folder may have moved since the name was written.
        named = re.split(r"[/\\]", match[1])[-1] if match else ""
    for prefix in found:
        if prefix.name == named:
            return prefix
    which = f"{STATE} names {named or 'none'}" if state.is_file() else f"no file {STATE}"
    names = ", ".join(prefix.name for prefix in found)
    raise ValueError(f"{folder}: several checkpoints ({names}), and {which}; give one of them")


def _check_apart(variables: Iterable[Variable]) -> None:
    """Raises ValueError where variables lie over each other, so that a small file has many."""
    end = shard = 0
    for one in sorted(variables, key=lambda one: (one.shard, one.offset)):
        if one.shard != shard:
            end, shard = 0, one.shard
        if one.size and one.offset < end:
            raise ValueError("its variables overlap")
        end = max(end, one.offset + one.size)


def _header(data: bytes) -> int:
    """The number of data files, from the value of the empty key, a ``BundleHeaderProto``."""
    fields = dict(_fields(data))
    if fields.get(2, 0) != 0:
        raise ValueError("its numbers are big-endian")
    shards = _number(fields.get(1, 0))
    if not 0 < shards < 100_000:
        raise ValueError(f"{shards} data files")
    return shards


def _variable(data: bytes, shards: int) -> Variable:
    """A variable from its ``BundleEntryProto``."""
    kind, shard, offset, size = 0, 0, 0, 0
    shape: tuple[int, ...] = ()
    checksum, sliced = None, False
    for field, value in _fields(data):
        if field == 2 and isinstance(value, bytes):
            shape = tuple(_sizes(value))
        elif field == 7:
            sliced = True
        elif field == 1:
            kind = _number(value)
        elif field == 3:
            shard = _number(value)
        elif field == 4:
            offset = _number(value)
        elif field == 5:
            size = _number(value)
        elif field == 6:
            checksum = _number(value)
    if shard >= shards or len(shape) > _MOST_DIMENSIONS or max(shape, default=0) >= 2**31:
        raise ValueError(f"a variable of shape {shape} in data file {shard}")
    return Variable(
        kind=kind,
        shape=shape,
        shard=shard,
        offset=offset,
        size=size,
        checksum=checksum,
        sliced=sliced,
    )


def _sizes(shape: bytes) -> Iterator[int]:
    """The sizes of the dimensions in a ``TensorShapeProto``."""
    for field, dimension in _fields(shape):
        if field == 2 and isinstance(dimension, bytes):
            yield _number(dict(_fields(dimension)).get(1, 0))


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("bytes where a number should be")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: their numbers, and their values (integers or bytes)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            number, at = _varint(data, at)
            yield tag >> 3, number
            continue
        length = {1: 8, 5: 4}.get(wire, 0)
        if wire == 2:
            length, at = _varint(data, at)
        elif not length:
            raise ValueError(f"a field of kind {wire}")
        value = data[at : at + length]
        if len(value) < length:
            raise ValueError("a field beyond its end")
        yield tag >> 3, value if wire == 2 else int.from_bytes(value, "little")
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number written with seven bits per byte, and the position behind it."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a number beyond its end")
        byte = data[at]
        number |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return number, at
    raise ValueError("a number of more than ten bytes")


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table, in order."""
    if len(data) < _FOOTER or not data.endswith(_MAGIC):
        raise ValueError("its end is missing")
    footer = data[-_FOOTER:]
    _, at = _handle(footer, 0)  # of the block of properties, which is empty
    index, _ = _handle(footer, at)
    count, end, last = 0, 0, b""
    for _, value in _entries(_block(data, index)):
        where, _ = _handle(value, 0)
        if where[0] < end:
            raise ValueError("its blocks overlap")
        end = sum(where)
        for key, entry in _entries(_block(data, where)):
            count += 1
            if count > _MOST_KEYS:
                raise ValueError(f"more than {_MOST_KEYS} keys")
            if count > 1 and key <= last:
                raise ValueError("its keys are not in order")
            last = key
            yield key, entry


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the position behind the two numbers."""
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _block(data: bytes, where: tuple[int, int]) -> bytes:
    """A block of a table, by its offset and size, its checksum verified."""
    start, end = where[0], sum(where)
    if end + _TRAILER > len(data) - _FOOTER:
        raise ValueError(f"a block at bytes {start} to {end}, beyond its end")
    if data[end]:
        how = "by Snappy, which is not read" if data[end] == 1 else "in an unknown way"
        raise ValueError(f"a block is compressed {how}")
    (checksum,) = struct.unpack_from("<I", data, end + 1)
    if checksum != _checksum(data[start : end + 1]):
        raise ValueError(f"the block at byte {start} is damaged: its checksum is wrong")
    return data[start:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block, without its restart array, which serves to find a key."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError(f"a block of {len(block)} bytes with {restarts} restarts")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or shared + own > _LONGEST_KEY or at + own + length > end:
            raise ValueError("a block whose keys do not fit")
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _checksum(data: bytes) -> int:
    """TensorFlow's masked CRC-32C: rotated, and a constant added, as data may hold checksums."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
