"""What went wrong, in one line."""

from __future__ import annotations

import errno

import pytest

from vlcam.utils.messages.errors import flat, one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n  two"), "one two"),
        (ValueError(), "ValueError"),
        (
            OSError(errno.ENOENT, "No such file or directory", "a\nb"),
            "a b: No such file or directory",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("of another kind"), "of another kind"),
    ],
)
def test_one_line(error: Exception, line: str) -> None:
    assert one_line(error) == line and flat(line) == line
