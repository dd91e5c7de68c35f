"""Reading files that Lua Torch7 wrote with ``torch.save`` (binary), without running anything.

A file is one value: nil, number, string, boolean, table or object. Of objects only tensors and
storages are understood; any other (a network of nn, say) becomes a :class:`LuaObject` with the
name of its class and the table it holds. The code of functions, which networks' graphs may hold, is
skipped: a :class:`LuaObject` of class ``function`` stands for each.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlcam.formats.budget import Budget
from vlcam.formats.mapped import Bytes, mapped
from vlcam.formats.pickles.keys import Keys
from vlcam.utils.messages.errors import one_line

_NIL, _NUMBER, _STRING, _TABLE, _OBJECT, _BOOLEAN = range(6)
_FUNCTION, _OLD_REFERENCED_FUNCTION, _REFERENCED_FUNCTION = 6, 7, 8
_KINDS = {
    "Byte": "u1",
    "Char": "i1",
    "Short": "<i2",
    "Int": "<i4",
    "Long": "<i8",
    "Half": "<f2",
    "Float": "<f4",
    "Double": "<f8",
}
_KINDS |= {f"Cuda{name}": kind for name, kind in _KINDS.items()} | {"Cuda": "<f4"}
_DEEPEST = 10_000  # values within values: a network's graph is one long chain
_VALUE, _HOLDER = 40, 350  # rough bytes in memory of a value, and of a table or an object


@dataclass(eq=False, repr=False)  # compared by identity, as in Lua: nngraph uses objects as keys
class LuaObject:
    """An object of a class that is not interpreted.

    Attributes:
        kind: the name of its class: ``nn.Linear``.
        fields: the value it holds, mostly a table; None for a tensor that is not read.
    """

    kind: str
    fields: Any

    def __repr__(self) -> str:
        return f"<{self.kind[:60]!r}>"  # no more: it may be a graph


class LuaTable(dict[Any, Any]):
    """A table. It can be a key of another table, compared by identity, as in Lua."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<table of {len(self)}>"


def load_torch7(path: Path) -> Any:
    """The value in a Torch7 file.

    Tensors become NumPy arrays; tables become :class:`LuaTable`, with keys as in Lua (from 1).
    Tensors that share a storage in the file share memory here. A tensor of more numbers than its
    storage holds (one row repeated) stays a :class:`LuaObject`.

    Raises:
        ValueError: there is no such file, which is named, or it is truncated or of another kind, or
            asks for more memory or time than its size gives reason to.
    """
    return _read(path, numbers=True)


def outline(path: Path) -> Any:
    """As :func:`load_torch7`, but all tensors stay :class:`LuaObject`: to see what a file holds.

    However large the file, little of it is read.
    """
    return _read(path, numbers=False)


def get(value: Any, *names: Any) -> Any:
    """The value under a path of names through nested tables and objects; None if there is none."""
    for name in names:
        table = value.fields if isinstance(value, LuaObject) else value
        value = table.get(name) if isinstance(table, LuaTable) else None
    return value


def items(table: Any) -> list[Any]:
    """The values of a table under 1, 2, 3, ...; empty for anything else."""
    found: list[Any] = []
    while isinstance(table, LuaTable) and len(found) + 1 in table:
        found.append(table[len(found) + 1])
    return found


def mentions(path: Path, *names: str) -> bool:
    """Whether a file begins like a table of Torch7 and contains all these texts anywhere."""
    with mapped(path) as data:
        begins = data[:4] == struct.pack("<i", _TABLE)
        return begins and all(data.find(name.encode()) >= 0 for name in names)


def class_of(path: Path) -> str:
    """The class of the object that a file holds; "" if it does not begin like an object."""
    with path.open("rb") as file:
        head = file.read(1024)
    try:
        kind, _, length = struct.unpack_from("<3i", head)
        name = head[12 : 12 + length]
        if name.startswith(b"V "):  # its version comes first
            (size,) = struct.unpack_from("<i", head, 12 + length)
            length, name = size, head[16 + length : 16 + length + size]
    except struct.error:
        return ""
    return name.decode("utf-8", "replace") if kind == _OBJECT and len(name) == length else ""


def _read(path: Path, numbers: bool) -> Any:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with mapped(path) as data:
        try:
            return _Reader(data, numbers).read()
        except Exception as error:  # whatever a broken file makes the reader stumble over
            raise ValueError(f"{path}: not a readable Torch7 file ({one_line(error)})") from error


_Reading = Generator[Any, Any, Any]
"""The reading of one value: yields the readings of the values in it, is sent their results."""


class _Reader:
    def __init__(self, data: Bytes, numbers: bool) -> None:
        self._data, self._at = data, 0
        self._budget = Budget(len(data))
        self._keys = Keys(self._budget)
        self._numbers = numbers
        self._known: dict[int, Any] = {}
        self._readers = {
            _TABLE: self._table,
            _OBJECT: self._object,
            _REFERENCED_FUNCTION: self._function,
            _OLD_REFERENCED_FUNCTION: self._function,
        }

    def read(self) -> Any:
        """The file's value, on a stack of our own: graphs nest deeper than Python's calls may."""
        stack: list[_Reading] = [self._value()]
        given: Any = None
        while stack:
            try:
                stack.append(stack[-1].send(given))
                given = None
            except StopIteration as end:
                stack.pop()
                given = end.value
            if len(stack) > _DEEPEST:
                raise ValueError("nested too deep")
        return given

    def _value(self) -> _Reading:
        self._budget.take(_VALUE)
        kind = self._int()
        if kind == _NIL:
            return None
        if kind == _NUMBER:
            number = self._unpack("<d")
            return int(number) if number.is_integer() else number
        if kind == _STRING:
            return self._string()
        if kind == _BOOLEAN:
            return bool(self._int())
        if kind == _FUNCTION:
            return (yield self._function(None))
        if kind not in self._readers:
            raise ValueError(f"a value of kind {kind} at byte {self._at - 4}")
        # A shared value is written once; later it is referred to by its number.
        number = self._int()
        if number not in self._known:
            self._budget.take(_HOLDER)
            self._known[number] = None  # if it refers to itself before it is read
            yield self._readers[kind](number)
        return self._known[number]

    def _table(self, number: int) -> _Reading:
        table = LuaTable()
        self._known[number] = table
        for _ in range(self._int()):
            key = yield self._value()
            if isinstance(key, np.ndarray):
                raise ValueError("a table whose key is a tensor")
            value = yield self._value()
            self._keys.entries([(key, value)], table)

    def _object(self, number: int) -> _Reading:
        version = self._string()
        kind = self._string() if version.startswith("V ") else version
        name = kind.removeprefix("torch.").removesuffix("Tensor").removesuffix("Storage")
        if kind == f"torch.{name}Tensor" and name in _KINDS:
            self._known[number] = yield self._tensor(name)
        elif kind == f"torch.{name}Storage" and name in _KINDS:
            self._known[number] = self._storage(name)
        else:
            made = LuaObject(kind, None)
            self._known[number] = made
            made.fields = yield self._value()

    def _function(self, number: int | None) -> _Reading:
        """Its code is skipped. Its variables are read, as later values may refer to shared ones."""
        made = LuaObject("function", None)
        if number is not None:
            self._known[number] = made
        self._skip(self._int())
        yield self._value()
        return made

    def _tensor(self, name: str) -> _Reading:
        dimensions = self._int()
        if not 0 <= dimensions <= 8:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        sizes = [self._long() for _ in range(dimensions)]
        strides = [self._long() for _ in range(dimensions)]
        offset = self._long() - 1
        storage = yield self._value()
        unread = LuaObject(f"torch.{name}Tensor", None)
        if not self._numbers:
            return unread
        kind = np.dtype(_KINDS[name])
        if storage is None or not dimensions:
            return np.empty(0, kind)
        if not isinstance(storage, np.ndarray) or storage.dtype != kind:
            raise ValueError(f"a tensor of {sizes} without a storage of its kind")
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        if offset < 0 or last >= len(storage) or min(*sizes, *strides) < 0:
            raise ValueError(f"a tensor of {sizes} that its storage does not hold")
        if math.prod(sizes) > len(storage):
            return unread
        steps = [s * kind.itemsize for s in strides]
        return np.lib.stride_tricks.as_strided(storage[offset:], sizes, steps)

    def _storage(self, name: str) -> np.ndarray | None:
        kind = np.dtype(_KINDS[name])
        count = self._long()
        at = self._skip(count * kind.itemsize)
        if not self._numbers:
            return None
        # A copy, as numbers in a file need not be aligned in memory.
        return np.frombuffer(self._data, kind, count, at).copy() if count else np.empty(0, kind)

    def _string(self) -> str:
        count = self._int()
        at = self._skip(count)
        self._budget.take(4 * count)
        return self._data[at : at + count].decode("utf-8", "backslashreplace")

    def _int(self) -> int:
        return int(self._unpack("<i"))

    def _long(self) -> int:
        return int(self._unpack("<q"))

    def _unpack(self, form: str) -> Any:
        return struct.unpack_from(form, self._data, self._skip(struct.calcsize(form)))[0]

    def _skip(self, count: int) -> int:
        """Move on by so many bytes; returns where they begin."""
        if not 0 <= count <= len(self._data) - self._at:
            raise ValueError(f"it ends early, or is damaged at byte {self._at}")
        self._at += count
        return self._at - count
