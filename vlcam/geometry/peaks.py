"""Where in the photo a map is highest: at the centre of its highest cell.

A placed map (:func:`vlcam.geometry.grid.place`) is bilinear between the cells' centres, so that it
is highest at one of these, or at the edge of what the photo shows where the cell beyond is higher
still. A peak is looked for among these points alone: that is exact, and takes no map at photo size.
(Beyond the outermost centres a placed map repeats the edge cell's value as far as the photo goes;
the first pixel of these is not where the cell lies.)

Points of equal value that are neighbours in a row or a column are a plateau. The peak is the centre
of the one of most points (the first of equals): the mean of its points, or, where the map is lower
there, the one of its points that is nearest to it. Of the pixels around it that is told where the
placed map is highest, of equals the nearest.

Of :class:`~vlcam.geometry.grid.Boxes` the peak is the centre of the shown part of the highest box;
of equals, of the one of which most is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlcam.geometry.grid import Boxes, Cells, Grid, Placement
from vlcam.utils.rounding import slack


class Peak(NamedTuple):
    """Where a map is highest.

    Attributes:
        point: the pixel (x, y) of the photo.
        degenerate: the map has no peak: it holds a value that is not finite, or is constant where
            the photo shows it (all-zero included). A metric must count it as a miss, never score
            its pixel, (0, 0).
    """

    point: tuple[int, int]
    degenerate: bool


def peaks(maps: Tensor, grid: Cells, placement: Placement) -> list[Peak]:
    """Where in the photo each raw map (T, u, v) is highest.

    Args:
        grid: where the maps' cells lie in the input.
        placement: where the input lies in the photo. What was cropped away is not looked at.

    Raises:
        ValueError: the maps' last two sizes are not the grid's.
    """
    if tuple(maps.shape[-2:]) != tuple(grid.size):
        raise ValueError(f"maps of {tuple(maps.shape[-2:])} cells do not fit a grid of {grid.size}")
    every = (one.detach().cpu().double().numpy() for one in maps)
    if isinstance(grid, Boxes):
        shown = _shown_boxes(grid, placement)
        return [_of_boxes(one[0], shown) for one in every]
    rows, columns = _points(0, grid, placement), _points(1, grid, placement)
    return [_of_cells(one, rows, columns) for one in every]


_NONE = Peak((0, 0), True)
_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Points:
    """Where along an axis of the photo a placed map may be highest, in the cells' order.

    Attributes:
        axis: 0 of the rows, 1 of the columns.
        grid, placement: where the cells lie in the photo.
        cells: the cell of each point, with its fraction, float64 (n,).
        places: where they lie in the photo, float64 (n,).
    """

    axis: int
    grid: Grid
    placement: Placement
    cells: _Array
    places: _Array

    def values(self, of: _Array) -> _Array:
        """A map's values at the points."""
        return _along(of, self.axis, self.cells)

    def around(self, place: float) -> range:
        """The shown pixels before and behind a place, or the one that lies there."""
        shown = self.placement.shown(self.axis)
        before, behind = math.floor(place + 1e-6), math.ceil(place - 1e-6)
        first = min(max(before, shown[0]), shown[-1])
        return range(first, max(first, min(behind, shown[-1])) + 1)

    def at_pixels(self, of: _Array, pixels: range) -> _Array:
        """A map's values at pixels of the photo."""
        scale, shift = self.placement.scale[self.axis], self.placement.shift[self.axis]
        places = scale * torch.tensor([*pixels], dtype=torch.float64) + shift
        return _along(of, self.axis, self.grid.cells_at(self.axis, places).numpy())


def _along(values: _Array, axis: int, cells: _Array) -> _Array:
    """A map, interpolated along one of its axes at cells with their fractions."""
    low, high = np.floor(cells).astype(np.intp), np.ceil(cells).astype(np.intp)
    if np.array_equal(low, high):  # each at a cell's centre
        return values.take(low, axis)
    share = (cells - low)[:, None] if axis == 0 else cells - low
    return values.take(low, axis) * (1 - share) + values.take(high, axis) * share


@lru_cache(maxsize=64)  # most photos of a collection have one of a few sizes
def _points(axis: int, grid: Grid, placement: Placement) -> _Points:
    shown = placement.shown(axis)
    if not shown:
        return _Points(axis, grid, placement, np.empty(0), np.empty(0))
    scale, shift = placement.scale[axis], placement.shift[axis]

    def place(cell: float) -> float:
        return (grid.center(cell, cell)[axis] - shift) / scale

    found = {}
    for cell in range(grid.size[axis]):
        if shown[0] - 0.5 - 1e-6 <= (at := place(cell)) <= shown[-1] + 0.5 + 1e-6:
            found[float(cell)] = at
    ends = torch.tensor([shown[0], shown[-1]], dtype=torch.float64)
    cells = grid.cells_at(axis, scale * ends + shift).tolist()
    known = list(found.values())
    for pixel, cell in zip((shown[0], shown[-1]), cells, strict=True):
        outermost = all(pixel < at for at in known) or all(pixel > at for at in known)
        # Where no cell's centre lies beyond, the value there is that of the outermost cell.
        if outermost and cell not in found:
            found[cell] = float(pixel)
    order = sorted(found)
    places = np.array([found[cell] for cell in order])
    return _Points(axis, grid, placement, np.array(order), places)


def _of_cells(values: _Array, rows: _Points, columns: _Points) -> Peak:
    """The peak of one map (u, v)."""
    if not (len(rows.places) and len(columns.places)) or not np.isfinite(values).all():
        return _NONE
    highest = _highest(columns.values(rows.values(values)))
    if highest.all():
        return _NONE
    y, x = _centre(highest, rows.places, columns.places)
    down, across = rows.around(y), columns.around(x)
    nearby = columns.at_pixels(rows.at_pixels(values, down), across)
    distance = np.hypot.outer(np.array(down) - y, np.array(across) - x)
    distance[~_highest(nearby)] = np.inf
    row, column = np.unravel_index((distance > distance.min() + 1e-6).argmin(), distance.shape)
    return Peak((across[column], down[row]), False)


def _highest(values: _Array) -> NDArray[np.bool_]:
    """Which values are the highest, but for rounding."""
    top = values.argmax()
    return values >= values.flat[top] - slack(values).flat[top]


def _centre(highest: NDArray[np.bool_], y: _Array, x: _Array) -> tuple[float, float]:
    """The centre (y, x) of the largest plateau among points; ``y`` and ``x`` are those of their
    rows and columns."""
    rows, columns = np.nonzero(highest)
    if len(rows) > 1:
        from scipy.ndimage import label

        plateaus, _ = label(highest)
        largest = np.bincount(plateaus.ravel())[1:].argmax() + 1
        rows, columns = np.nonzero(plateaus == largest)
    middle = y[rows].mean(), x[columns].mean()
    between = [_between(some, at) for some, at in zip((y, x), middle, strict=True)]
    if highest[np.ix_(*between)].all():
        return middle
    nearest = np.hypot(y[rows] - middle[0], x[columns] - middle[1]).argmin()
    return y[rows[nearest]], x[columns[nearest]]


def _between(places: _Array, at: float) -> list[int]:
    """The one point of an axis that lies at a place, or the two that it lies between."""
    nearest = int(np.abs(places - at).argmin())
    if abs(places[nearest] - at) < 1e-6:
        return [nearest]
    order = np.argsort(places)
    after = int(np.searchsorted(places[order], at))
    return [int(order[after - 1]), int(order[after])]


def _shown_boxes(grid: Boxes, placement: Placement) -> list[tuple[range, range]]:
    """The photo's pixels, rows and columns, that show each box."""
    return [
        (placement.touched(0, top, bottom), placement.touched(1, left, right))
        for top, left, bottom, right in grid.boxes
    ]


def _of_boxes(values: _Array, shown: Sequence[tuple[range, range]]) -> Peak:
    """The peak of one map (R,) over boxes."""
    areas = np.array([len(rows) * len(columns) for rows, columns in shown])
    seen = np.flatnonzero(areas)
    if not np.isfinite(values).all() or not len(seen):
        return _NONE
    highest = _highest(values[seen])
    if highest.all():
        return _NONE
    best = seen[(areas[seen] * highest).argmax()]
    rows, columns = shown[int(best)]
    return Peak((columns[(len(columns) - 1) // 2], rows[(len(rows) - 1) // 2]), False)
