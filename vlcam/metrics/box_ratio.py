"""The box ratio: how much of a map lies in a region's box (section 8.1).

For a map m, which has no negative value, and a box B of pixels in a picture P::

    ratio = mean of m(p) over p in B / mean of m(p) over p in P without B

A uniform map has 1. Boxes are (left, top, right, bottom) in pixels, maps and masks (H, W).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlcam.geometry.grid import Placement
from vlcam.metrics.estimates import Estimate, mean, ratio_of_sums
from vlcam.metrics.pointing import Mask

Box = tuple[float, float, float, float]
"""Left, top, right, bottom: the edges, in pixels (the first pixel spans 0 ... 1)."""

BoxStatus = Literal["measured", "degenerate map", "empty box", "whole picture", "nothing outside"]
"""Whether an item has a ratio, or why not: see :class:`BoxMeans`."""


def box_mask(box: Box, size: tuple[int, int]) -> Mask:
    """The pixels whose centres lie in a box, bool (H, W); the box may reach beyond the picture.

    Args:
        size: (height, width) of the picture.
    """
    left, top, right, bottom = box
    xs, ys = np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5
    return np.outer((ys >= top) & (ys < bottom), (xs >= left) & (xs < right))


def box_in_input(box: Box, placement: Placement) -> Box:
    """A box given in photo pixels, in pixels of the model's input."""
    left, top, right, bottom = box
    # Placement counts from pixel centres, boxes from edges: half a pixel apart.
    y0, x0 = placement.to_input(top - 0.5, left - 0.5)
    y1, x1 = placement.to_input(bottom - 0.5, right - 0.5)
    return x0 + 0.5, y0 + 0.5, x1 + 0.5, y1 + 0.5


def box_in_photo(box: Box, placement: Placement) -> Box:
    """Inverse of :func:`box_in_input`."""
    left, top, right, bottom = box
    y0, x0 = placement.to_photo(top - 0.5, left - 0.5)
    y1, x1 = placement.to_photo(bottom - 0.5, right - 0.5)
    return x0 + 0.5, y0 + 0.5, x1 + 0.5, y1 + 0.5


def boxes_in_input(boxes: Sequence[Box], placement: Placement) -> Mask:
    """The pixels of the model's input that at least one box covers, bool (H, W).

    Args:
        boxes: in photo pixels.

    Raises:
        ValueError: there is no box.
    """
    if not boxes:
        raise ValueError("no box")
    size = placement.input_size
    every = [box_mask(box_in_input(box, placement), size) for box in boxes]
    covered: Mask = np.logical_or.reduce(every)
    return covered


@dataclass(frozen=True)
class BoxMeans:
    """Means of a map inside and outside a box, after scaling the map to a mean of 1.

    ``status`` says why an item has no ratio: ``nothing outside``: the mean outside is 0;
    ``degenerate map`` (constant or not finite): both means are 1, as of a uniform map, which
    favours no place either; ``empty box`` and ``whole picture``: one side has no pixels, and both
    means are 0.
    """

    inside: float
    outside: float
    status: BoxStatus

    @property
    def ratio(self) -> float | None:
        """The paper's ratio of section 8.1, where there is one."""
        return self.inside / self.outside if self.status == "measured" else None


def box_means(values: ArrayLike, inside: Mask) -> BoxMeans:
    """Means of a map inside and outside a box, after scaling the map to a mean of 1.

    Args:
        values: a map without negative values, (H, W).
        inside: bool (H, W), of :func:`box_mask` or of several boxes (:func:`boxes_in_input`).

    Raises:
        ValueError: the shapes differ, or a value is negative, so that a ratio means nothing.
    """
    ((found,),) = every_box_means([values], [inside])
    return found


def every_box_means(maps: Sequence[ArrayLike], boxes: Sequence[Mask]) -> list[list[BoxMeans]]:
    """:func:`box_means` of each of some maps: one list per box, with one entry per map."""
    every = [_Map.of(values) for values in maps]
    return [[_box_means(one, part) for one in every] for part in map(_Part.of, boxes)]


@dataclass(frozen=True)
class BoxRatio:
    """The box ratio over items in two aggregates, and how many items could not be measured.

    Attributes:
        mean_of_ratios: the paper's (section 8.1): the mean of the items' ratios. A single item with
            almost nothing outside its box can make it arbitrarily large.
        ratio_of_means: the mean of the means inside divided by the mean of the means outside. Each
            map is scaled to a mean of 1 first, so that a bright map counts no more than others; an
            item with nothing outside adds 0 to the denominator. Degenerate maps count as uniform.
        heaviest: the largest share of a single item in the sum of the means inside, 0 ... 1; the
            ratio of means would change by about that share without it.
        statuses: number of items by status (:data:`BoxStatus`).
    """

    mean_of_ratios: Estimate
    ratio_of_means: Estimate
    heaviest: float
    statuses: Mapping[BoxStatus, int]


def box_ratio(items: Sequence[BoxMeans], images: Iterable[Hashable]) -> BoxRatio:
    """The box ratio over items; ``images`` gives the image of each, the independent draws."""
    pairs = list(zip(items, images, strict=True))
    ratios = [(item.ratio, image) for item, image in pairs if item.ratio is not None]
    means = [pair for pair in pairs if pair[0].status not in ("empty box", "whole picture")]
    inside = [item.inside for item, _ in means]
    statuses: dict[BoxStatus, int] = {}
    for item in items:
        statuses[item.status] = statuses.get(item.status, 0) + 1
    return BoxRatio(
        mean_of_ratios=mean([ratio for ratio, _ in ratios], [image for _, image in ratios]),
        ratio_of_means=ratio_of_sums(
            inside, [item.outside for item, _ in means], [image for _, image in means]
        ),
        heaviest=max(inside) / sum(inside) if inside and sum(inside) > 0 else 0.0,
        statuses=statuses,
    )


@dataclass(frozen=True)
class _Map:
    """A map with its extremes, which are not finite if any value is not."""

    values: NDArray[np.float64]
    low: float
    high: float

    @classmethod
    def of(cls, values: ArrayLike) -> _Map:
        found = np.asarray(values, dtype=np.float64)
        return cls(found, found.min(), found.max())


@dataclass(frozen=True)
class _Part:
    """A mask, its number of pixels, and its rows and columns if it is a single box."""

    mask: Mask
    pixels: int
    box: tuple[slice, slice] | None

    @classmethod
    def of(cls, mask: Mask) -> _Part:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return cls(mask, 0, None)
        box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        pixels = int(np.count_nonzero(mask))
        return cls(mask, pixels, box if mask[box].size == pixels else None)


def _box_means(one: _Map, part: _Part) -> BoxMeans:
    values, inside = one.values, part.mask
    if values.shape != inside.shape:
        raise ValueError(f"a map of {values.shape} does not fit a box's mask of {inside.shape}")
    if part.pixels == 0:
        return BoxMeans(0.0, 0.0, "empty box")
    if part.pixels == inside.size:
        return BoxMeans(0.0, 0.0, "whole picture")
    if not np.isfinite(one.low) or not np.isfinite(one.high) or one.low == one.high:
        return BoxMeans(1.0, 1.0, "degenerate map")
    if one.low < 0:
        raise ValueError("the box ratio needs a map without negative values")
    mass, rest = _sums(values, part)
    mean = (mass + rest) / inside.size
    status: BoxStatus = "measured" if rest > 0 else "nothing outside"
    return BoxMeans(mass / mean / part.pixels, rest / mean / (inside.size - part.pixels), status)


def _sums(values: NDArray[np.float64], part: _Part) -> tuple[float, float]:
    """The sums of a map inside and outside. The outside is summed, not the total minus the inside:
    an outside of exactly zero must come out as zero."""
    if part.box is None:
        # Products with zeros and ones are faster than selecting the pixels.
        return float((values * part.mask).sum()), float((values * ~part.mask).sum())
    rows, columns = part.box
    middle = values[rows]
    above, below = values[: rows.start], values[rows.stop :]
    around = (above, below, middle[:, : columns.start], middle[:, columns.stop :])
    return float(middle[:, columns].sum()), float(sum(some.sum() for some in around))
