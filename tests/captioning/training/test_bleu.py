"""BLEU by hand."""

from __future__ import annotations

import pytest

from captioning.training.bleu import bleu


def test_bleu_by_hand() -> None:
    same = bleu([["a", "b", "c", "d"]], [[["a", "b", "c", "d"]]])
    assert same == pytest.approx((1, 1, 1, 1))
    # 3 of 4 words and 1 of 3 pairs are right.
    assert bleu([["a", "b", "x", "d"]], [[["a", "b", "c", "d"]]])[:2] == pytest.approx((0.75, 0.5))
