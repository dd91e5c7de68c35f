"""Human attention maps in VQA-HAT's format, and its protocol (Das et al., EMNLP 2016).

A folder of 8-bit grey pictures ``QUESTION_K.png``: what annotator K of a question uncovered of its
photo, bright where they looked, of the photo's shape. Maps are scaled to 14 x 14 and compared by
Spearman's rank correlation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vlcam.metrics.faithfulness import rank_correlation
from vlcam.photo.loading import is_picture, load_photo

CELLS = (14, 14)
"""Rows and columns of the grid on which maps are compared."""

_NAME = re.compile(r"(0|[1-9][0-9]*)_([0-9]+)\.png")


@dataclass(frozen=True)
class HumanMaps:
    """The maps of a folder: their files by question id, in the annotators' order.

    ``skipped``: a line for each picture whose name is not ``QUESTION_K.png``.
    """

    files: dict[int, tuple[Path, ...]]
    skipped: tuple[str, ...]


def find(folder: Path) -> HumanMaps:
    """The maps in a folder.

    Raises:
        ValueError: there is no such folder, or no map in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    found: dict[int, list[tuple[int, Path]]] = {}
    skipped = []
    for path in sorted(folder.iterdir()):
        name = _NAME.fullmatch(path.name)
        if name:
            found.setdefault(int(name[1]), []).append((int(name[2]), path))
        elif is_picture(path):
            skipped.append(f"{path}: not named QUESTION_K.png")
    if not found:
        raise ValueError(f"{folder}: no attention map in it (QUESTION_K.png, as in VQA-HAT)")
    files = {number: tuple(p for _, p in sorted(maps)) for number, maps in found.items()}
    return HumanMaps(files, tuple(skipped))


def read(path: Path, photo_size: tuple[int, int]) -> np.ndarray:
    """A human map on :data:`CELLS`, float64.

    Args:
        photo_size: (height, width) of the photo. The map may be of another size, not of another
            shape.

    Raises:
        ValueError: it cannot be read, is not of the photo's shape, or is the same everywhere.
    """
    levels = np.asarray(load_photo(path).convert("L"), np.float64)
    (height, width), (photo_height, photo_width) = levels.shape, photo_size
    # Rounded to whole pixels, a side may be half a pixel off.
    if abs(height * photo_width - width * photo_height) > max(photo_height, photo_width):
        raise ValueError(
            f"{path}: {width} x {height} pixels are not of the shape of the photo,"
            f" {photo_width} x {photo_height}"
        )
    if levels.min() == levels.max():
        what = "all black" if levels.max() == 0 else "the same everywhere"
        raise ValueError(f"{path}: {what}, so it shows nothing")
    return on_cells(torch.from_numpy(levels)[None])[0]


def on_cells(maps: Tensor) -> np.ndarray:
    """Maps at photo size (T, H, W) on :data:`CELLS`: each cell is the mean over its area."""
    rows, columns = (_areas(n, cells) for n, cells in zip(maps.shape[1:], CELLS, strict=True))
    return np.asarray(rows @ maps.double().cpu() @ columns.T)


def _areas(pixels: int, cells: int) -> Tensor:
    """Weights (cells, pixels) of a mean over areas, pixels at a border counted by their share."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * (pixels / cells)
    pixel = torch.arange(pixels, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    return functional.normalize(overlap.clamp(min=0), p=1, dim=1)


@dataclass(frozen=True)
class Agreement:
    """How a map agrees with what people looked at.

    Attributes:
        value: the mean over annotators of the rank correlation; 0 for a constant map.
        constant: whether the map is constant, so that nothing can be ranked.
    """

    value: float
    constant: bool = False


def agreement(cells: np.ndarray, human: Sequence[np.ndarray]) -> Agreement:
    """Of a map on :data:`CELLS` with each annotator's."""
    found = [rank_correlation(cells, one) for one in human]
    measured = [value for value in found if value is not None]
    if not measured:
        return Agreement(0.0, True)
    return Agreement(float(np.mean(measured)))


def between_people(human: Sequence[np.ndarray]) -> Agreement | None:
    """The mean over pairs of annotators; None where there is but one."""
    pairs = [(a, b) for i, a in enumerate(human) for b in human[i + 1 :]]
    if not pairs:
        return None
    return Agreement(float(np.mean([agreement(a, [b]).value for a, b in pairs])))
