"""How many values containers within containers are when they are written out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from vlcam.formats.pickles.keys import RefusedError

_DEEPEST = 100  # containers within containers
_CONTAINERS = (list, tuple, dict, set, frozenset)


def check_nesting(values: list[Any], most: int) -> None:
    """Refuses what is small in memory, as parts of it are shared, and has no end when it is gone
    through part by part: written out, compared, copied.

    Raises:
        RefusedError: one is more than that many values, is nested too deep, or holds itself.
    """
    known: dict[int, tuple[int, int]] = {}  # values in a container, and levels
    begun: set[int] = set()
    waiting: list[tuple[Any, Iterator[Any]]] = [(None, iter(values))]
    while waiting:
        container, parts = waiting[-1]
        inner = next((p for p in parts if isinstance(p, _CONTAINERS) and id(p) not in known), None)
        if inner is not None:
            if id(inner) in begun:
                raise RefusedError("what it makes holds itself")
            begun.add(id(inner))
            waiting.append((inner, iter(_parts(inner))))
            continue
        waiting.pop()
        if waiting:
            known[id(container)] = count, levels = _size(container, known)
            if count > most:
                raise RefusedError("what it makes has no end when it is written out")
            if levels > _DEEPEST:
                raise RefusedError(f"what it makes is nested more than {_DEEPEST} deep")


def _parts(container: Any) -> Iterable[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else container


def _size(container: Any, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values are in a container, and how many levels, from those of the containers in
    it. Long texts count as several values."""
    count = depth = 1
    for part in _parts(container):
        if isinstance(part, _CONTAINERS):
            inner, levels = known[id(part)]
            count, depth = count + inner, max(depth, levels + 1)
        else:
            count += 1 + len(part) // 32 if isinstance(part, str | bytes) else 1
    return count, depth
