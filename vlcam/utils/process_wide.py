"""Changes that all threads see, in effect for as long as one of them needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

Undo = Callable[[], object]
Change = Callable[[], Undo | None]
"""Makes a change that other threads see; returns what undoes it, None if nothing had to change."""


@dataclass
class _Made:
    """A change in effect, and how many calls need it."""

    undo: Undo
    calls: int = 0


_lock = threading.Lock()
_made: dict[Hashable, _Made] = {}


@contextmanager
def in_effect(changes: Mapping[Hashable, Change]) -> Iterator[None]:
    """Within, these changes are in effect, whichever thread made them.

    A change is made by the first of the calls that overlap, and undone by the last.

    Args:
        changes: by what they change (any hashable key): calls with the same key share the change.
    """
    needed = []
    try:
        with _lock:
            for key, change in changes.items():
                if key not in _made:
                    undo = change()
                    if undo is None:
                        continue
                    _made[key] = _Made(undo)
                _made[key].calls += 1
                needed.append(key)
        yield
    finally:
        with _lock:
            for key in needed:
                _made[key].calls -= 1
                if not _made[key].calls:
                    _made.pop(key).undo()
