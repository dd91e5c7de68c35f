"""Simulated attention."""

from __future__ import annotations

import numpy as np

from vlcam.scenes.attention import attention
from vlcam.scenes.scene import Scene


def test_attention_falls_on_what_shows_the_answer(many: list[Scene]) -> None:
    rng = np.random.default_rng(0)
    ratios = []
    for one in many[:20]:
        item = one.items[-1]
        drawn = attention([item], rng)
        assert drawn.shape == item.mask.shape and drawn.dtype == np.uint8
        ratios.append(drawn[item.mask].mean() / drawn[~item.mask].mean())
    assert np.median(ratios) > 4
