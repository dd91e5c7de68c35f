"""Where a cell of a map lies in the photo.

There are three coordinate systems, all in (y, x) order, all with pixel *centres* at whole numbers
(the first pixel's centre is 0, a picture of n pixels spans -0.5 ... n - 0.5):

* **cells** (i, j) of the feature maps;
* **input** pixels, what the CNN is fed: cell i lies at ``offset + stride * i`` (:class:`Grid`);
* **photo** pixels, what the user gave: :class:`Placement` says where preprocessing put the photo in
  the input.

Both steps treat each axis by itself, so a map is drawn at photo size by one bilinear interpolation
whose weights are two small matrices, one per axis (:func:`place`). Some models are fed regions that
were found beforehand: their cells are boxes (:class:`Boxes`), and are painted as such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vlcam.utils.messages.brief import Brief


@dataclass(frozen=True, repr=False)
class Grid(Brief):
    """Centres of a map's cells in input pixels: cell (i, j) lies at ``offset + stride * (i, j)``.

    Attributes:
        size: (rows u, columns v).
        offset: the centre (y, x) of cell (0, 0).
        stride: pixels (y, x) from one cell to the next.
        centres: where cells are unevenly spaced, those of the rows and those of the columns,
            ascending; ``offset`` and ``stride`` are then a line through them.
    """

    size: tuple[int, int]
    offset: tuple[float, float]
    stride: tuple[float, float]
    centres: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @classmethod
    def pixels(cls, size: tuple[int, int]) -> Grid:
        """The grid of the input pixels themselves, for maps computed at the pixels."""
        return cls(size, (0.0, 0.0), (1.0, 1.0))

    @classmethod
    def patches(cls, input_size: tuple[int, int], patch: int) -> Grid:
        """The grid of a vision transformer's square patches."""
        middle, stride = (patch - 1) / 2, float(patch)
        size = (input_size[0] // patch, input_size[1] // patch)
        return cls(size, (middle, middle), (stride, stride))

    @classmethod
    def stretched(cls, size: tuple[int, int], input_size: tuple[int, int]) -> Grid:
        """The grid that is assumed where a map is simply stretched over the input.

        Only right for layers whose cells happen to lie so; here to measure what it costs.
        """
        stride = (input_size[0] / size[0], input_size[1] / size[1])
        return cls(size, (stride[0] / 2 - 0.5, stride[1] / 2 - 0.5), stride)

    def pooled(self, size: tuple[int, int]) -> Grid:
        """The grid of the (u, v) cells that adaptive average pooling makes of this one's cells;
        exact, also where they are unevenly spaced."""
        lines, centres = [], []
        for axis in (0, 1):
            first, step = self.offset[axis], self.stride[axis]
            middles = pooled_cells(self.size[axis], size[axis])
            start, steps = line_through(middles, self.size[axis] / size[axis])
            lines.append((first + step * start, step * steps))
            centres.append(tuple(first + step * middle for middle in middles))
        (y, down), (x, across) = lines
        grid = Grid(size, (y, x), (down, across))
        even = (tuple(grid.center(i, i)[a] for i in range(size[a])) for a in (0, 1))
        if tuple(even) == tuple(centres):
            return grid
        return Grid(size, (y, x), (down, across), (centres[0], centres[1]))

    def center(self, row: float, column: float) -> tuple[float, float]:
        """Input pixel (y, x) at the centre of a cell."""
        if self.centres is not None:
            y, x = (
                float(np.interp(cell, range(len(centres)), centres))
                for cell, centres in zip((row, column), self.centres, strict=True)
            )
            return y, x
        return (
            self.offset[0] + self.stride[0] * row,
            self.offset[1] + self.stride[1] * column,
        )

    def cells_at(self, axis: int, at: Tensor) -> Tensor:
        """The cell, with its fraction, at each input pixel ``at`` of an axis, float64; from the
        first cell to the last."""
        last = self.size[axis] - 1
        if self.centres is None or last == 0:
            return ((at - self.offset[axis]) / self.stride[axis]).clamp(0, last)
        centres = torch.tensor(self.centres[axis], dtype=torch.float64)
        high = torch.searchsorted(centres, at, right=True).clamp(1, last)
        low = high - 1
        # Cells of the same centre are means of the same cells, so that either will do.
        gap = (centres[high] - centres[low]).clamp(min=torch.finfo(torch.float64).tiny)
        return (low + (at - centres[low]) / gap).clamp(0, last)


def pooled_cells(cells: int, out: int) -> list[float]:
    """Centres of the ``out`` cells that adaptive average pooling makes of an axis of cells, in the
    numbers of these: cell k pools floor(k cells / out) ... ceil((k + 1) cells / out) - 1."""
    return [(k * cells // out - (-(k + 1) * cells // out) - 1) / 2 for k in range(out)]


def line_through(centres: Sequence[float], step: float) -> tuple[float, float]:
    """Start and step of the line with that step through the middle of uneven centres."""
    return sum(centres) / len(centres) - step * (len(centres) - 1) / 2, step


@dataclass(frozen=True, repr=False)
class Boxes(Brief):
    """Cells that are boxes anywhere in the input, as of models that are fed regions.

    Maps over them have one row, one cell per box. They are drawn by painting each box with its
    value: the largest one where boxes overlap, 0 where there is none.

    Attributes:
        boxes: edges (top, left, bottom, right), in input pixels (the first pixel spans
            -0.5 ... 0.5).
    """

    boxes: tuple[tuple[float, float, float, float], ...]

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of a map: one row, of all boxes."""
        return 1, len(self.boxes)

    @classmethod
    def of_corners(cls, corners: Tensor) -> Boxes:
        """Boxes (R, 4) given as x1, y1, x2, y2 with the input's top left corner at (0, 0)."""
        x1, y1, x2, y2 = (corners.double() - 0.5).unbind(1)
        edges = torch.stack([y1, x1, y2, x2], 1).tolist()
        return cls(tuple((top, left, bottom, right) for top, left, bottom, right in edges))


Cells = Grid | Boxes
"""Where a map's cells lie in the input."""


@dataclass(frozen=True)
class Placement:
    """Where a photo lies in the CNN's input: ``input = scale * photo + shift``, in (y, x).

    What lies outside the input (cropped away) is not seen by the model, and maps are zero there.

    Attributes:
        photo_size, input_size: (height, width) in pixels.
        scale, shift: (y, x).
    """

    photo_size: tuple[int, int]
    input_size: tuple[int, int]
    scale: tuple[float, float]
    shift: tuple[float, float]

    @classmethod
    def resized(
        cls,
        photo_size: tuple[int, int],
        resized_size: tuple[int, int],
        input_size: tuple[int, int] | None = None,
        *,
        corner: tuple[int, int] = (0, 0),
        fixed: float = -0.5,
    ) -> Placement:
        """A photo that is resized, then cropped or padded.

        Args:
            photo_size, resized_size, input_size: (height, width); ``input_size`` None: as resized.
            corner: (y, x), the first pixel that a crop keeps, or minus the padding of a letterbox.
            fixed: the coordinate that resizing leaves where it is, on both axes: -0.5, the photo's
                edge; or 0, the first pixel's centre, where the pixels' numbers are scaled.
        """
        scale = (resized_size[0] / photo_size[0], resized_size[1] / photo_size[1])
        shift = (fixed * (1 - scale[0]) - corner[0], fixed * (1 - scale[1]) - corner[1])
        return cls(photo_size, input_size or resized_size, scale, shift)

    @classmethod
    def identity(cls, size: tuple[int, int]) -> Placement:
        """The input is the photo itself."""
        return cls(size, size, (1.0, 1.0), (0.0, 0.0))

    def shown(self, axis: int) -> range:
        """The photo's pixels of an axis (0: rows, 1: columns) that lie in the input."""
        edges = (-0.5 - 1e-9, self.input_size[axis] - 0.5 + 1e-9)
        first, last = ((edge - self.shift[axis]) / self.scale[axis] for edge in edges)
        return self._pixels(axis, math.ceil(first), math.floor(last) + 1)

    def touched(self, axis: int, low: float, high: float) -> range:
        """The photo's pixels of an axis that lie, if only in part, between two places in the
        input."""
        first, last = ((edge - self.shift[axis]) / self.scale[axis] + 0.5 for edge in (low, high))
        return self._pixels(axis, math.floor(first + 1e-6), math.ceil(last - 1e-6))

    def to_input(self, y: float, x: float) -> tuple[float, float]:
        """Input pixel (y, x) of a photo pixel."""
        return self.scale[0] * y + self.shift[0], self.scale[1] * x + self.shift[1]

    def to_photo(self, y: float, x: float) -> tuple[float, float]:
        """Photo pixel (y, x) of an input pixel."""
        return (y - self.shift[0]) / self.scale[0], (x - self.shift[1]) / self.scale[1]

    def _pixels(self, axis: int, start: int, stop: int) -> range:
        """Those of an axis of the photo, from ``start`` up to ``stop``, that there are."""
        return range(max(0, start), max(0, min(stop, self.photo_size[axis])))


def place(maps: Tensor, grid: Cells, placement: Placement) -> Tensor:
    """Draw maps at photo size, every cell at its true centre.

    Args:
        maps: (..., u, v), any float type.
        grid: where the cells lie in the input.
        placement: where the input lies in the photo.

    Returns:
        (..., H, W) float32 (float64 stays) on the maps' device, (H, W) the photo's size;
        bilinear between cell centres, the nearest cells' value beyond the outermost centres, and
        0 where the photo was cropped away. Over :class:`Boxes` they are painted as said there.

    Raises:
        ValueError: the maps' last two sizes are not the grid's.
    """
    if tuple(maps.shape[-2:]) != tuple(grid.size):
        raise ValueError(f"maps of {tuple(maps.shape[-2:])} cells do not fit a grid of {grid.size}")
    maps = maps if maps.dtype == torch.float64 else maps.float()
    if isinstance(grid, Boxes):
        return _paint(maps, grid, placement)
    rows = _weights(0, grid, placement).to(maps)
    columns = _weights(1, grid, placement).to(maps)
    with torch.autocast(maps.device.type, enabled=False):
        return rows @ maps @ columns.T


@lru_cache(maxsize=64)  # most photos of a collection have one of a few sizes
def _weights(axis: int, grid: Grid, placement: Placement) -> Tensor:
    """Interpolation weights of one axis, (photo pixels, cells), float64. Shared: do not write to
    them."""
    photo, cells = placement.photo_size[axis], grid.size[axis]
    pixels = torch.arange(photo, dtype=torch.float64)
    at_cell = grid.cells_at(axis, placement.scale[axis] * pixels + placement.shift[axis])
    low = at_cell.floor().long().clamp(max=max(cells - 2, 0))
    high = (low + 1).clamp(max=cells - 1)
    fraction = at_cell - low
    weights = torch.zeros(photo, cells, dtype=torch.float64)
    every = torch.arange(photo)
    weights[every, low] += 1 - fraction
    weights[every, high] += fraction
    shown = placement.shown(axis)
    weights[: shown.start] = 0
    weights[shown.stop :] = 0
    return weights


def _paint(maps: Tensor, grid: Boxes, placement: Placement) -> Tensor:
    """Maps (..., 1, R) over boxes at photo size (..., H, W)."""
    nothing = -torch.inf
    drawn = maps.new_full((*maps.shape[:-2], *placement.photo_size), nothing)
    values = maps[..., 0, :].unbind(-1)
    for value, (top, left, bottom, right) in zip(values, grid.boxes, strict=True):
        rows, columns = placement.touched(0, top, bottom), placement.touched(1, left, right)
        inside = drawn[..., rows.start : rows.stop, columns.start : columns.stop]
        inside.copy_(torch.maximum(inside, value[..., None, None]))
    return drawn.masked_fill(drawn == nothing, 0)
