"""Before much is fetched from the hub, it is said how much and what, and agreed to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from vlcam.formats.hub.published import sized

ASKED_ABOVE = 500 * 10**6
"""Bytes that are fetched without a question, at most."""

_agreed: ContextVar[bool] = ContextVar("fetching agreed to", default=False)


@contextmanager
def agreed(yes: bool = True) -> Iterator[None]:
    """Within, whatever a model needs is fetched without a question; ``yes=False`` changes
    nothing."""
    token = _agreed.set(yes or _agreed.get())
    try:
        yield
    finally:
        _agreed.reset(token)


@dataclass(frozen=True)
class Fetch:
    """What is about to be fetched.

    Attributes:
        repository: of which model.
        bytes: how much; None: the hub does not say.
        licence: of the model.
        memory: bytes that it takes to explain a photo; None: unknown.
        measured: whether that was measured; else it is what the weights alone take.
        into: the folder of the cache.
    """

    repository: str
    bytes: int | None
    licence: str
    memory: float | None
    measured: bool
    into: Path

    def __str__(self) -> str:
        """In one line."""
        much = sized(self.bytes) if self.bytes is not None else "an unknown amount"
        terms = [f"licence {self.licence}"]
        if self.memory is not None:
            terms.append(
                f"{'about' if self.measured else 'at least'} {sized(self.memory)} of memory"
            )
        return f"{much} from the Hugging Face hub ({', '.join(terms)}) into {self.into}"


def check_agreed(fetch: Fetch) -> None:
    """Ask, on a terminal, whether something large may be fetched.

    Raises:
        ValueError: the answer is no; there is no terminal to ask on.
    """
    if _agreed.get() or (fetch.bytes is not None and fetch.bytes <= ASKED_ABOVE):
        return
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise ValueError(
            f"{fetch.repository}: would fetch {fetch}, and nobody can be asked here: agree with"
            " --yes (in Python: vlcam.load(..., yes=True))"
        )
    print(f"{fetch.repository}: fetch {fetch}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ValueError(f"{fetch.repository}: not fetched")
