"""What stands for the names in a pickle of plain data: each is a few lines that make the data."""

from __future__ import annotations

import argparse
from typing import Any

from vlcam.formats.budget import Budget
from vlcam.formats.pickles.keys import Keys, RefusedError
from vlcam.formats.pickles.machine import Named
from vlcam.formats.pickles.numpy_names import numpy_names
from vlcam.utils.messages.expected import described

_OBJECT = ("builtins.object", "__builtin__.object")
_ELEMENT = 40  # rough bytes in memory


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
    found = _python_names(budget) | numpy_names(budget)
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
        return text.encode("latin1") if isinstance(text, str) else text

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


def _as_list(values: Any) -> Any:
    if not isinstance(values, list | tuple | set | frozenset):
        raise RefusedError(f"it makes a container of {described(values)}")
    return values


def _pair(pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise RefusedError(f"an entry of a dictionary is {described(pair)}")
    return pair[0], pair[1]
