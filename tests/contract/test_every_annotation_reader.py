"""Readers of annotations: an odd entry is left out and told, or the file refused in one line."""

from __future__ import annotations

from tests.tools.fuzzing.annotations import READERS, every_failure
from tests.tools.limited import limited


def test_nothing_odd_goes_far_or_turns_into_something_else() -> None:
    """Every value of an entry of every format replaced by every odd one, keys missing and given
    twice, and files with damaged bytes; in little memory."""
    ran = limited(every_failure, 21, 40, megabytes=700)
    count, failures = ran.result
    assert count > 2000 and len(READERS) == 13
    assert not failures, "\n".join(failures[:20])
