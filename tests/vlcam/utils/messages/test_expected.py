"""What is found in the place of something else is said in a few words, whatever it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vlcam.utils.messages.expected import described, expect


def test_what_is_found_is_said_in_a_few_words() -> None:
    doubled: Any = ()
    for _ in range(200):
        doubled = (doubled, doubled)
    assert described(doubled) == "a tuple of 2"
    assert described("x" * 10**6) == repr("x" * 60) + "..." and described("a\nb") == "'a\\nb'"
    assert described(10**5000) == "a number of 16610 bits" and described(True) == "True"
    assert described({1: 2}) == "a dictionary of 1" and described({1, 2}) == "a set of 2"
    assert described(np.zeros((2, 3))) == "a tensor of shape (2, 3)"
    assert described(np.zeros(5)) == "a tensor of shape (5,)"
    assert described(object()) == "an object of class object"


def test_what_is_expected_is_given_back() -> None:
    assert expect([1], list, "it", "a list") == [1] and expect(True, bool, "it", "a flag") is True
    for wrong in (True, "1", None):
        with pytest.raises(ValueError, match=r"^x\.pth: its size is .*, expected a whole number$"):
            expect(wrong, int, "x.pth: its size", "a whole number")
