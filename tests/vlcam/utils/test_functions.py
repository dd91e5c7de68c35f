"""What a function takes, before it is called."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from vlcam.utils.functions import check_takes


class Called(nn.Module):
    def forward(self, one: Any) -> Any:
        return one


def test_what_does_not_take_what_it_is_given() -> None:
    for function, said in (
        (lambda a: a, r"two: it takes \(a\), but is called as two\(x, y\): let it take just that"),
        (lambda a, b, c: a, r"takes \(a, b, c\)"),
        (lambda a, *, b: a, r"takes \(a, \*, b\)"),
        (Called(), r"takes \(one\)"),
        (Called, "expected a function, got the class Called; it is called as"),
        ({}, "expected a function, got a dict"),
    ):
        with pytest.raises(ValueError, match=said):
            check_takes(function, "two", "x", "y")
    for takes in (lambda a, b: a, lambda *a: a, lambda a, b=1, c=2: a, max):
        check_takes(takes, "two", "x", "y")
