"""Explanations made by hand: every map has its greatest value in a cell that the test names."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from vlcam.explanation.explanation import Explanation
from vlcam.explanation.result import explained_words
from vlcam.geometry.grid import Grid, Placement

GRID = Grid((6, 8), (0.0, 0.0), (10.0, 10.0))
"""Cells whose centres are far from where stretching would put them, in an input of 60 x 80."""

CELLS = ((1, 2), (4, 5), (2, 6), (3, 1), (5, 3), (1, 7), (4, 0), (2, 4))
"""(row, column) of the first words' greatest values; they repeat after the last."""


def explanation(
    words: Sequence[str] = ("a", "red", "dog"),
    *,
    unknown: Sequence[str] = (),
    caption: str | None = None,
    flat: Collection[int] = (),
    signed: bool = False,
    size: tuple[int, int] = (90, 120),
    photo: str = "photos/photo.jpg",
    model: str = "by-hand",
    method: str = "grad-cam",
    placement: Placement | None = None,
    grey: bool = False,
) -> Explanation:
    """An explanation of a photo of (height, width) ``size``, coloured noise or ``grey``.

    ``flat``: indices of words whose map is all zero. ``signed``: the cell opposite to a map's
    greatest value holds what speaks against it just as much.
    """
    maps = torch.zeros(len(words), *GRID.size)
    for index in range(len(words)):
        row, column = CELLS[index % len(CELLS)]
        if index not in flat:
            maps[index, row, column] = 2.0 + index
            maps[index, (row + 3) % 6, (column + 4) % 8] = -2.0 - index if signed else 0.5
    scores = torch.tensor([-0.02, -0.7, -2.4, -7.5, -1.2, -0.3]).repeat(1 + len(words) // 6)
    scores = scores[: len(words)].double()
    placement = placement or Placement.resized(size, (60, 80))
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    return Explanation(
        photo=photo,
        image=np.full_like(noise, 128) if grey else noise,
        model=model,
        layer="layer4",
        method=method,
        target="log-probability of each word",
        caption=" ".join(words) if caption is None else caption,
        words=explained_words(list(words), scores, maps, GRID, placement),
        unknown=tuple(unknown),
        maps=maps,
        grid=GRID,
        placement=placement,
        details={"vlcam": "0", "nested": {"list": [1, 2.5, None]}},
    )
