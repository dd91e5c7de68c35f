"""Nobody is surprised by a large download."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vlcam.formats.hub.consent import ASKED_ABOVE, Fetch, agreed, check_agreed


def fetch(size: int | None) -> Fetch:
    return Fetch("a/b", size, "mit", 2e9, measured=True, into=Path("cache"))


@pytest.mark.parametrize(
    ("typed", "goes"),
    [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("\x04", False)],
)
def test_a_question_on_a_terminal(typed: str, goes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as stdin, os.fdopen(os.dup(theirs), "w") as stderr:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stderr", stderr)
        os.write(ours, typed.encode())
        if goes:
            check_agreed(fetch(ASKED_ABOVE + 1))
        else:
            with pytest.raises(ValueError, match="a/b: not fetched"):
                check_agreed(fetch(None))
        said = ""
        while "[y/N]" not in said:  # after the echo of what was typed
            said += os.read(ours, 1000).decode()
    os.close(ours)
    assert "a/b: fetch" in said and "licence mit, about 2.0 GB of memory) into cache? [y/N]" in said


def test_where_nobody_can_be_asked() -> None:
    check_agreed(fetch(ASKED_ABOVE))
    for size, much in ((ASKED_ABOVE + 10**6, "501 MB"), (None, "an unknown amount")):
        with pytest.raises(ValueError, match=rf"a/b: would fetch {much} .*--yes") as error:
            check_agreed(fetch(size))
        assert "\n" not in str(error.value)
        with agreed(), agreed(False):
            check_agreed(fetch(size))
    with agreed(False), pytest.raises(ValueError, match="would fetch"):
        check_agreed(fetch(None))
