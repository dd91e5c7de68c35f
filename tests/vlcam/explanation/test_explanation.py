"""Explanations as objects."""

from __future__ import annotations

from tests.samples import by_hand


def test_explanations_can_be_compared_and_collected() -> None:
    """They hold arrays, which are neither equal nor unequal as a whole."""
    one, other = by_hand.explanation(), by_hand.explanation()
    assert one == one and one != other and len({one, other}) == 2
