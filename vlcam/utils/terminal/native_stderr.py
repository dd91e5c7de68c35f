"""What libraries in C and Rust write to standard error themselves, past Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from vlcam.utils.process_wide import Undo, in_effect

_STDERR = 2


@contextmanager
def held_back() -> Iterator[None]:
    """Within, nothing reaches standard error: for short calls whose failure is told by an error.
    What other threads write meanwhile is lost with it."""
    with in_effect({"standard error": _divert}):
        yield


def _divert() -> Undo | None:
    try:
        kept = os.dup(_STDERR)
    except OSError:  # there is none
        return None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)

    def undo() -> None:
        os.dup2(kept, _STDERR)
        os.close(kept)

    return undo
