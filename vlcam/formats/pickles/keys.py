"""Keys of dictionaries and members of sets: hashed and compared in bounded time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vlcam.formats.budget import Budget
from vlcam.utils.messages.expected import described

_ENTRY = 70  # rough bytes in memory
_LONG = 1024  # characters; beyond, the time to compare two texts is counted
_LARGEST = 2**63
_MOST = 32  # values in one key
_CONTAINERS = (list, tuple, dict, set, frozenset)


class RefusedError(ValueError):
    """A file asks for something it may not have, which the message names."""


class Keys:
    """Fills dictionaries and sets within a budget.

    A tuple of tuples that are one object in memory is hashed as if each were one of its own, so 60
    of them, each twice in the next, take for ever. Keys that are made to have the same hash are
    compared with each other.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget, self._count = budget, 0

    def entries(self, pairs: Iterable[tuple[Any, Any]], into: dict[Any, Any]) -> dict[Any, Any]:
        """The dictionary, with these entries put into it."""
        for key, value in pairs:
            self._check(key)
            into[key] = value
        return into

    def members(self, values: Iterable[Any]) -> list[Any]:
        """The values, of which a set may be made."""
        found = []
        for value in values:
            self._check(value)
            found.append(value)
        return found

    def _check(self, key: Any) -> None:
        self._budget.take(_ENTRY)
        self._count += 1
        if not self._count & 255:
            self._budget.check_time()
        if type(key) in (str, bytes):
            if len(key) > _LONG:
                self._budget.take(len(key))
            return
        parts = [key]
        for part in parts:  # which grows in the loop
            if type(part).__hash__ is object.__hash__:
                continue  # compared by identity
            if type(part) is tuple and len(parts) + len(part) <= _MOST:
                parts.extend(part)
            elif isinstance(part, _CONTAINERS):
                raise RefusedError(f"a key of a dictionary is, or holds, {described(part)}")
            elif type(part) is int and not -_LARGEST <= part < _LARGEST:
                raise RefusedError("a key of a dictionary is a number of more than 64 bits")
