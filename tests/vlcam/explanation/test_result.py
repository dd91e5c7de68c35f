"""Where a word's map has its peak, and words without a map."""

from __future__ import annotations

import re

import torch

from tests.samples import by_hand
from vlcam.explanation.result import explained_words
from vlcam.geometry.grid import Placement


def test_a_peak_is_the_pixel_at_the_centre_of_the_strongest_cell() -> None:
    found = by_hand.explanation(["a", "red", "dog", "runs"])
    for word, cell in zip(found.words, by_hand.CELLS, strict=False):
        y, x = found.placement.to_photo(*found.grid.center(*cell))
        assert abs(word.peak[0] - x) <= 0.5 and abs(word.peak[1] - y) <= 0.5, word


def test_a_peak_is_not_where_the_model_saw_nothing() -> None:
    """What was cropped away is drawn as zero, more than anywhere else in a map all negative."""
    placement = Placement.resized((60, 240), (60, 240), (60, 80), corner=(0, 80))
    maps = torch.full((1, 6, 8), -2.0)
    maps[0, 3, 4] = -1.0
    (word,) = explained_words(["dog"], torch.zeros(1), maps, by_hand.GRID, placement)
    assert word.peak == (120, 30) and not word.degenerate


def test_words_without_a_map_are_marked() -> None:
    maps = torch.zeros(4, 6, 8)
    maps[1] = 3.0
    maps[2, 1, 1] = float("nan")
    maps[3, 1, 1] = 1.0
    placement = Placement.resized((60, 80), (60, 80))
    words = explained_words(list("abcd"), torch.zeros(4), maps, by_hand.GRID, placement)
    assert [word.degenerate for word in words] == [True, True, True, False]


def test_a_result_is_printed_in_a_line() -> None:
    """It was 7,000 characters."""
    found = by_hand.explanation(["a", "red", "dog"] * 40)
    assert re.fullmatch(
        r"<Explanation of .* by .*, .* at .*: 'a red dog .*\.\.\.'; a .* %, red .* and 112 more>",
        repr(found),
    )
    assert len(repr(found)) < 400 and len(repr(found.words[0])) < 120
    assert found.explained == found.words
