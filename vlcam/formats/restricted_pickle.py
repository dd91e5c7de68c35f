"""Reading pickles of plain data, and nothing but plain data.

Training scripts of published captioners keep their options and vocabulary in pickle files. A
pickle is a program: it may name any function and have it called. Here it may name only what such
files need (containers, ``argparse.Namespace``, NumPy numbers and arrays); nothing it names is
imported or called, :mod:`vlcam.formats.pickles.machine` makes the same data by itself. Dictionaries
of all kinds come back as ``dict``, a ``deque`` as a list, NumPy numbers as Python numbers, arrays
as (nested) lists.

Vocabularies are often objects of a class of the training script: where the reader names such a
class, its objects come back as namespaces of their attributes.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np

from vlcam.formats.budget import Budget, TooMuchError
from vlcam.formats.mapped import mapped
from vlcam.formats.pickles.keys import Keys, RefusedError
from vlcam.formats.pickles.machine import Machine, Named
from vlcam.utils.errors import one_line
from vlcam.utils.expected import described

_PLAIN_NUMBERS = re.compile(r"[|<>=]?([?]|b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,9})")
_OBJECT = ("builtins.object", "__builtin__.object")
_MOST_DIMENSIONS = 32
_ELEMENT, _LIST = 40, 64  # rough bytes in memory
_LONGEST_REASON = 300  # characters


def read_pickle(path: Path, classes: Container[str] = ()) -> Any:
    """The data in a pickle file of any protocol, also one written by Python 2.

    Args:
        classes: names of classes, of any module, whose objects are read as namespaces of their
            attributes (``argparse.Namespace``). The classes themselves are never imported.

    Raises:
        ValueError: the file is damaged, names anything but plain data, or asks for more memory or
            time than its size gives reason to; nothing of it is run.
    """
    with mapped(path) as data:
        budget = Budget(len(data))
        names = plain_names(budget)

        def find(module: str, name: str) -> Named:
            if (module, name) in names:
                return names[module, name]
            if name in classes:
                return names["argparse", "Namespace"]
            raise RefusedError(f"it asks for {described_name(module, name)}")

        try:
            return Machine(data, budget, find).load()
        except RefusedError as refused:
            raise ValueError(f"{path}: {refused}; only plain data is read from pickles") from None
        except TooMuchError as error:
            raise ValueError(f"{path}: {error}") from None
        except Exception as error:  # whatever a broken pickle makes the machine stumble over
            raise ValueError(f"{path}: damaged, or not a pickle ({reason(error)})") from error


def reason(error: Exception) -> str:
    """What an error says, in one line of bounded length."""
    return one_line(error)[:_LONGEST_REASON]


def described_name(module: str, name: str) -> str:
    """A name that a pickle asks for, for an error."""
    return " ".join(f"{module}.{name}".split())[:_LONGEST_REASON]


class Namespace(argparse.Namespace):
    """Attributes of an object. Unlike its parent's, its text does not show what they hold, and two
    are never compared attribute by attribute: either may have no end."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<Namespace of {len(vars(self))}>"

    def take_state(self, state: Any) -> None:
        """Set the attributes, from what a pickle says of them."""
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise RefusedError(f"the attributes of an object are {described(state)}")
        vars(self).update(state)


def plain_names(budget: Budget) -> dict[tuple[str, str], Named]:
    """What stands for the names that a pickle of plain data may hold, by module and name."""
    found = _python_names(budget) | _numpy_names(budget)
    return {key: _named(key, *made) for key, made in found.items()}


def _named(key: tuple[str, str], make: Any = None, new: Any = None) -> Named:
    return Named(".".join(key), make, new)


def _python_names(budget: Budget) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Containers, bytes, complex numbers and ``argparse.Namespace``, in Python 2 and 3; and names
    of types that are not called."""
    keys = Keys(budget)

    def dictionary(pairs: Any = (), *_: Any) -> dict[Any, Any]:
        """An ``OrderedDict`` or a ``Counter`` of what is in it."""
        pairs = pairs.items() if isinstance(pairs, dict) else _as_list(pairs)
        return keys.entries((_pair(pair) for pair in pairs), {})

    def empty_dictionary(*_: Any) -> dict[Any, Any]:
        """A ``defaultdict``, whose entries follow."""
        return {}

    def members(kind: Any) -> Any:
        return lambda values=(): kind(keys.members(_as_list(values)))

    def listed(values: Any = (), *_: Any) -> list[Any]:
        """A ``deque``."""
        budget.take(_ELEMENT * len(_as_list(values)))
        return list(values)

    def encoded(text: str | bytes = b"", encoding: str = "latin1") -> bytes:
        """Bytes as old protocols write them: a text, by ``_codecs.encode`` or ``bytearray``."""
        if encoding not in ("latin1", "latin-1"):
            raise RefusedError(f"it asks for the encoding {described(encoding)}")
        budget.take(len(text))
        return _bytes(text)

    def rebuilt(kind: Any, base: Any, _: Any = None) -> Any:
        """``copyreg._reconstructor``, with which old protocols write objects."""
        plain = isinstance(base, Named) and base.kind in _OBJECT
        new = kind.new if plain and isinstance(kind, Named) else None
        if new is None:
            raise RefusedError("it rebuilds an object that is more than its attributes")
        return new()

    names: dict[tuple[str, str], tuple[Any, ...]] = {
        ("argparse", "Namespace"): (None, Namespace),
        ("collections", "OrderedDict"): (dictionary,),
        ("collections", "defaultdict"): (empty_dictionary,),
        ("collections", "Counter"): (dictionary,),
        ("collections", "deque"): (listed,),
        ("_codecs", "encode"): (encoded,),
        ("__builtin__", "long"): (),
        ("__builtin__", "unicode"): (),
    }
    for module in ("builtins", "__builtin__"):
        for name in ("dict", "list", "tuple", "int", "float", "str", "bool", "object"):
            names[module, name] = ()
        names[module, "set"], names[module, "frozenset"] = (members(set),), (members(frozenset),)
        names[module, "bytes"] = names[module, "bytearray"] = (encoded,)
        names[module, "complex"] = (lambda real, imaginary: complex(real, imaginary),)
    for module in ("copyreg", "copy_reg"):
        names[module, "_reconstructor"] = (rebuilt,)
    return names


def _numpy_names(budget: Budget) -> dict[tuple[str, str], tuple[Any, ...]]:
    """NumPy's types, numbers and arrays."""

    class Type:
        """``numpy.dtype`` of plain numbers or strings."""

        def __init__(self, code: Any, *_: Any) -> None:
            if not isinstance(code, str) or not _PLAIN_NUMBERS.fullmatch(code):
                raise RefusedError(f"it asks for NumPy data of type {described(code)}")
            self.dtype = np.dtype(code)

        def take_state(self, state: Any) -> None:
            """Its byte order."""
            if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
                self.dtype = self.dtype.newbyteorder(state[1])

    class Array(list[Any]):
        """``numpy.ndarray`` as a list."""

        def take_state(self, state: Any) -> None:
            """Its numbers."""
            _, shape, of, fortran, data = state
            self[:] = _nested(_numbers(data, of), shape, "F" if fortran else "C")

    def _numbers(data: Any, of: Any) -> np.ndarray:
        if not isinstance(of, Type) or not isinstance(data, str | bytes):
            raise RefusedError(f"it asks for an array of {described(data)}")
        budget.take(len(data))
        return np.frombuffer(_bytes(data), of.dtype)

    def _nested(values: np.ndarray, shape: Any, order: Any) -> list[Any]:
        """An array's lists within lists. They are counted first: of (2**40, 0) there are 2**40."""
        if not isinstance(shape, tuple) or not 0 < len(shape) <= _MOST_DIMENSIONS:
            raise RefusedError(f"it asks for an array of shape {described(shape)}")
        values = values.reshape(shape, order="F" if order == "F" else "C")
        lists, sizes = 1, list[int](values.shape)
        for size in sizes:
            budget.take(_LIST * lists)
            lists *= size
        budget.take((_ELEMENT + values.itemsize) * values.size)
        return list(values.tolist())

    def scalar(of: Any, data: Any) -> Any:
        return _numbers(data, of)[0].item()

    def empty_array(*_: object) -> Array:
        return Array()

    def whole_array(data: Any, of: Any, shape: Any, order: Any) -> list[Any]:
        """As protocol 5 has arrays."""
        return _nested(_numbers(data, of), shape, order)

    names: dict[tuple[str, str], tuple[Any, ...]] = {
        ("numpy", "dtype"): (Type,),
        ("numpy", "ndarray"): (),
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "scalar"] = (scalar,)
        names[f"{core}.multiarray", "_reconstruct"] = (empty_array,)
        names[f"{core}.numeric", "_frombuffer"] = (whole_array,)
    return names


def _bytes(data: str | bytes) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else data


def _as_list(values: Any) -> Any:
    if not isinstance(values, list | tuple | set | frozenset):
        raise RefusedError(f"it makes a container of {described(values)}")
    return values


def _pair(pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise RefusedError(f"an entry of a dictionary is {described(pair)}")
    return pair[0], pair[1]
