"""Reading files that Lua Torch7 wrote with ``torch.save`` (binary), without running anything.

A file is one value: nil, number, string, boolean, table or object. Of objects only tensors and
storages are understood; any other (a network of nn, say) becomes a :class:`LuaObject` with the
name of its class and whatever table it holds. Functions are refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_NIL, _NUMBER, _STRING, _TABLE, _OBJECT, _BOOLEAN = range(6)
_KINDS = {
    "Byte": "u1",
    "Char": "i1",
    "Short": "<i2",
    "Int": "<i4",
    "Long": "<i8",
    "Float": "<f4",
    "Double": "<f8",
    "Cuda": "<f4",
}
_DEEPEST = 200  # tables within tables


@dataclass(eq=False)  # by identity, as Lua's own: nngraph keeps tables by object
class LuaObject:
    """An object of a class that is not read: its name and its fields."""

    kind: str
    fields: Any


class LuaTable(dict[Any, Any]):
    """A table. Another table may have it as a key, as in Lua: by identity."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


def load(path: Path) -> Any:
    """The value in a Torch7 file.

    Tensors are numpy arrays; tables are :class:`LuaTable`, keys as in Lua (the first element's is
    1).

    Raises:
        ValueError: no such file, truncated, or not such a file; it is named.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    reader = _Reader(path.read_bytes())
    try:
        return reader.value()
    except (struct.error, ValueError, UnicodeDecodeError, IndexError, OverflowError) as error:
        raise ValueError(f"{path}: not a readable Torch7 file ({error})") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._depth = memoryview(data), 0, 0
        self._known: dict[int, Any] = {}

    def value(self) -> Any:
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
        if kind == _TABLE:
            return self._once(self._table)
        if kind == _OBJECT:
            return self._once(self._object)
        raise ValueError(f"a value of kind {kind} at byte {self._at - 4}")

    def _once(self, read: Any) -> Any:
        """What is shared is written once, and referred to by its number."""
        number = self._int()
        if number not in self._known:
            self._depth += 1
            if self._depth > _DEEPEST:
                raise ValueError("nested too deep")
            self._known[number] = None  # of a table within itself
            read(number)
            self._depth -= 1
        return self._known[number]

    def _table(self, number: int) -> None:
        table = LuaTable()
        self._known[number] = table
        for _ in range(self._int()):
            key = self.value()
            if isinstance(key, np.ndarray):
                raise ValueError("a table whose key is a tensor")
            table[key] = self.value()

    def _object(self, number: int) -> None:
        version = self._string()
        kind = self._string() if version.startswith("V ") else version
        name = kind.removeprefix("torch.").removesuffix("Tensor").removesuffix("Storage")
        if kind == f"torch.{name}Tensor" and name in _KINDS:
            self._known[number] = self._tensor(name)
        elif kind == f"torch.{name}Storage" and name in _KINDS:
            self._known[number] = self._storage(name)
        else:
            made = LuaObject(kind, None)
            self._known[number] = made
            made.fields = self.value()

    def _tensor(self, name: str) -> np.ndarray:
        dimensions = self._int()
        if not 0 <= dimensions <= 8:
            raise ValueError(f"a tensor of {dimensions} dimensions")
        sizes = [self._long() for _ in range(dimensions)]
        strides = [self._long() for _ in range(dimensions)]
        offset = self._long() - 1
        storage = self.value()
        kind = np.dtype(_KINDS[name])
        if storage is None or not dimensions:
            return np.empty(0, kind)
        last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
        inside = offset >= 0 and last < len(storage) and min(*sizes, *strides) >= 0
        if not isinstance(storage, np.ndarray) or storage.dtype != kind or not inside:
            raise ValueError(f"a tensor of {sizes} that its storage does not hold")
        steps = [s * kind.itemsize for s in strides]
        view = np.lib.stride_tricks.as_strided(storage[offset:], sizes, steps, writeable=False)
        return view.copy()

    def _storage(self, name: str) -> np.ndarray:
        kind = np.dtype(_KINDS[name])
        data = self._bytes(self._long() * kind.itemsize)
        return np.frombuffer(data, kind)

    def _string(self) -> str:
        return bytes(self._bytes(self._int())).decode("utf-8")

    def _int(self) -> int:
        return int(self._unpack("<i"))

    def _long(self) -> int:
        return int(self._unpack("<q"))

    def _unpack(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _bytes(self, count: int) -> memoryview:
        if not 0 <= count <= len(self._data) - self._at:
            raise ValueError(f"it ends early, or is damaged at byte {self._at}")
        self._at += count
        return self._data[self._at - count : self._at]
