"""How far long work has come: a bar on a terminal, elsewhere a plain line every ten seconds.

Nothing is told unless it is asked for by :func:`shown`, as the command line does; and then only of
the thread that asked. Work that is over within ten seconds says nothing where there is no terminal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

Thing = TypeVar("Thing")

EVERY = 10.0
"""Seconds from one line to the next."""

Clock = Callable[[], float]
_CLOCK: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextmanager
def shown(clock: Clock = time.monotonic) -> Iterator[None]:
    """Long work inside tells on standard error how far it has come.

    Args:
        clock: the present time in seconds.
    """
    before = _CLOCK.set(clock)
    try:
        yield
    finally:
        _CLOCK.reset(before)


class Work:
    """Work of some steps, of which nothing is told."""

    def advance(self, steps: int = 1) -> None:
        """So many further steps are done."""

    def note(self, text: str) -> None:
        """What else is to be told of the work at present: a loss, say."""


class Lines(Work):
    """Work that is told of in a line every :data:`EVERY` seconds, the last one when it ends.

    Args:
        what: the things that are worked on: "photos".
        total: how many there are; None: nobody knows.
        done: how many were done before.
        clock: the present time in seconds.
    """

    def __init__(self, what: str, total: int | None, done: int, clock: Clock) -> None:
        self._what, self._total, self._done, self._before = what, total, done, done
        self._clock, self._note = clock, ""
        self._begun = self._told = clock()
        self._last = done  # that was told of

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if self._clock() - self._told >= EVERY:
            self._tell()

    def note(self, text: str) -> None:
        self._note = text

    def end(self) -> None:
        if self._told > self._begun and self._done > self._last:
            self._tell()

    def _tell(self) -> None:
        self._told, self._last = self._clock(), self._done
        print(self._line(self._told - self._begun), file=sys.stderr, flush=True)

    def _line(self, seconds: float) -> str:
        """After so many seconds: ``photos: 30 of 120 (25 %), 2.5/s, about 36 s left``."""
        steps = self._done - self._before
        parts = [f"{self._what}: {self._done:,}"]
        if self._total:
            parts[0] += f" of {self._total:,} ({100 * self._done // self._total} %)"
        if steps:
            parts.append(_rate(steps / seconds))
        if steps and self._total and self._done < self._total:
            left = (self._total - self._done) * seconds / steps
            parts.append(f"about {duration(left)} left")
        else:
            parts.append(f"after {duration(seconds)}")
        return ", ".join([*parts, self._note] if self._note else parts)


class _Bar(Work):
    """Work with a bar on a terminal; one within another vanishes when it is full."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def advance(self, steps: int = 1) -> None:
        self._bar.update(steps)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)


@contextmanager
def of(what: str, total: int | None, *, unit: str, done: int = 0) -> Iterator[Work]:
    """Work that is begun here, and over at the end of the block.

    Args:
        what: the things that are worked on: "photos".
        total: how many there are; None: nobody knows.
        unit: one of them: "photo".
        done: how many were done before.
    """
    clock = _CLOCK.get()
    if clock is None or (total is not None and total < 2):  # a single step is done, or it is not
        yield Work()
    elif _on_terminal():
        from tqdm import tqdm

        scaled = unit == "B"
        with tqdm(
            total=total, initial=done, desc=what, unit=unit, unit_scale=scaled, leave=None
        ) as bar:
            yield _Bar(bar)
    else:
        lines = Lines(what, total, done, clock)
        yield lines
        lines.end()


def each(
    things: Iterable[Thing], what: str, *, unit: str, total: int | None = None
) -> Iterator[Thing]:
    """Things, one after the other; each is done when the next one is asked for.

    Args:
        what, unit: as of :func:`of`.
        total: how many, where the things have no length.
    """
    if total is None and isinstance(things, Sized):
        total = len(things)
    with of(what, total, unit=unit) as work:
        for thing in things:
            yield thing
            work.advance()


@contextmanager
def aside() -> Iterator[None]:
    """What is printed inside stands above the bars that there may be."""
    bars: Any = nullcontext()
    if _CLOCK.get() is not None and _on_terminal():
        from tqdm import tqdm

        bars = tqdm.external_write_mode(sys.stderr)
    with bars:
        yield


def duration(seconds: float) -> str:
    """``14 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _rate(per_second: float) -> str:
    if per_second < 1:
        return f"{1 / per_second:.1f} s each"
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
