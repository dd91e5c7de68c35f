"""How well maps agree with where things are: the pointing game and the box ratio.

Pure functions on arrays at one resolution, (H, W), rows first; pixel (x, y) of a picture spans
x ... x + 1 and y ... y + 1 in box coordinates, its centre being at (x + 0.5, y + 0.5).

What cannot be measured is never dropped in silence: a degenerate map is a miss where one points
and says no more than a uniform one where ratios are taken; boxes without an inside or an outside
are counted.
Every figure here is a sum over items divided by another (:func:`ratio_of_sums`), so one function
gives all standard errors and intervals, with images, not items, as the independent draws.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlcam.geometry.grid import Placement

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom: the edges, in pixels (the first pixel spans 0 ... 1)."""


# Pointing


def points_at(mask: Mask, point: tuple[int, int], tolerance: float = 0) -> bool:
    """Whether a point hits a mask (the paper, section 8.1.1: it lies within the segmentation).

    Args:
        mask: bool (H, W).
        point: (x, y), a pixel of the picture.
        tolerance: in pixels: a hit too if some pixel of the mask is *less* than that away, between
            centres (15 in the pointing game of Zhang et al. 2016); 0: the point itself must be
            in the mask.

    A degenerate map has no point: its caller counts a miss (see :func:`hit`).
    """
    x, y = point
    if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]):
        raise ValueError(f"point {point} is outside a picture of {mask.shape[1]} x {mask.shape[0]}")
    if mask[y, x] or tolerance <= 0:
        return bool(mask[y, x])
    reach = int(np.ceil(tolerance))
    top, left = max(y - reach, 0), max(x - reach, 0)
    rows, columns = np.nonzero(mask[top : y + reach + 1, left : x + reach + 1])
    distances = (rows + top - y) ** 2 + (columns + left - x) ** 2
    return bool((distances < tolerance**2).any())


def hit(mask: Mask, point: tuple[int, int], degenerate: bool, tolerance: float = 0) -> bool:
    """:func:`points_at` for a map's peak as :func:`vlcam.geometry.grid.peak` gives it."""
    return not degenerate and points_at(mask, point, tolerance)


def near(mask: Mask, tolerance: float) -> Mask:
    """The pixels from which :func:`points_at` would hit; their share is a random point's chance."""
    reach = int(np.ceil(tolerance)) - 1
    if reach < 1 or not mask.any():
        return mask.copy()
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # Only about the mask: elsewhere there is nothing.
    top, left = max(int(rows[0]) - reach, 0), max(int(columns[0]) - reach, 0)
    window = np.s_[top : int(rows[-1]) + reach + 1, left : int(columns[-1]) + reach + 1]
    united = mask.copy()
    united[window] = _widened(mask[window], reach, tolerance)
    return united


def _widened(mask: Mask, reach: int, tolerance: float) -> Mask:
    """:func:`near`, by way of every pixel."""
    height, width = mask.shape
    inner = np.s_[reach : reach + height, reach : reach + width]
    framed = np.zeros((height + 2 * reach, width + 2 * reach), bool)
    framed[inner] = mask  # so that nothing leaves the picture, or its row
    packed = np.packbits(framed)
    # As one long number, a bit a pixel, which moves whole when it is shifted.
    picture = int.from_bytes(packed.tobytes(), "big")
    runs = [picture]  # widened along its rows by 0, 1, 2 ... pixels to each side
    for n in range(1, reach + 1):
        runs.append(runs[-1] | picture << n | picture >> n)
    united = 0
    for dy in range(reach + 1):  # a disc is a run in each row
        run = runs[math.ceil(math.sqrt(tolerance**2 - dy**2)) - 1]
        down = dy * framed.shape[1]
        united |= run << down | run >> down
    found = np.frombuffer(united.to_bytes(len(packed), "big"), np.uint8)
    bits = np.unpackbits(found, count=framed.size).reshape(framed.shape)
    return bits[inner].view(bool)


def centre(size: tuple[int, int]) -> tuple[int, int]:
    """The middle pixel (x, y) of a picture of (height, width): the baseline without any model."""
    return size[1] // 2, size[0] // 2


def centred_gaussian(size: tuple[int, int]) -> NDArray[np.float64]:
    """A Gaussian about the middle of (height, width), its standard deviation a quarter of each
    side: what photographers do. A baseline without any model."""
    y, x = (np.exp(-(((np.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * 0.25**2)) for n in size)
    return np.outer(y, x)


# Boxes


def box_mask(box: Box, size: tuple[int, int]) -> Mask:
    """The pixels of a picture of (height, width) whose centres lie in a box; what lies outside the
    picture is cut off."""
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
    """What at least one of some boxes, given in photo pixels, covers of the model's input (H, W).

    Raises:
        ValueError: there is no box.
    """
    if not boxes:
        raise ValueError("no box")
    size = placement.input_size
    every = [box_mask(box_in_input(box, placement), size) for box in boxes]
    covered: Mask = np.logical_or.reduce(every)
    return covered


BoxStatus = Literal["measured", "degenerate map", "empty box", "whole picture", "nothing outside"]


@dataclass(frozen=True)
class BoxMeans:
    """Means of a map inside and outside a box, the map's own mean being 1.

    ``status`` says what is the matter where an item has no ratio. ``nothing outside``: the mean
    outside is 0. ``degenerate map``: both means are 1, those of the uniform map, as it favours no
    place either. The other two have no means (both 0).
    """

    inside: float
    outside: float
    status: BoxStatus

    @property
    def ratio(self) -> float | None:
        """The paper's ratio of section 8.1, where there is one."""
        return self.inside / self.outside if self.status == "measured" else None


def box_means(values: ArrayLike, inside: Mask) -> BoxMeans:
    """Means of a map inside and outside of a box, after scaling the map to a mean of 1.

    Args:
        values: a map without negative values, (H, W).
        inside: bool (H, W), see :func:`box_mask`. A union of boxes will do.

    Raises:
        ValueError: shapes differ, or a value is negative (a ratio says nothing then).
    """
    ((found,),) = every_box_means([values], [inside])
    return found


def every_box_means(maps: Sequence[ArrayLike], boxes: Sequence[Mask]) -> list[list[BoxMeans]]:
    """:func:`box_means` of every one of some maps, for each of some boxes' masks."""
    every = [_Map.of(values) for values in maps]
    return [[_box_means(one, part) for one in every] for part in map(_Part.of, boxes)]


@dataclass(frozen=True)
class _Map:
    """A map with its extremes, which are not finite where any value is not."""

    values: NDArray[np.float64]
    low: float
    high: float

    @classmethod
    def of(cls, values: ArrayLike) -> _Map:
        found = np.asarray(values, dtype=np.float64)
        return cls(found, found.min(), found.max())


@dataclass(frozen=True)
class _Part:
    """A mask with its number of pixels, and its rows and columns if it is a single box."""

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
    """The sums inside and outside. Summed, not subtracted: an outside of exactly zero must come out
    as zero."""
    if part.box is None:
        # Products with zeros and ones are faster than picking the pixels.
        return float((values * part.mask).sum()), float((values * ~part.mask).sum())
    rows, columns = part.box
    middle = values[rows]
    above, below = values[: rows.start], values[rows.stop :]
    around = (above, below, middle[:, : columns.start], middle[:, columns.stop :])
    return float(middle[:, columns].sum()), float(sum(some.sum() for some in around))


# Figures with their uncertainty


Values = Sequence[float] | NDArray[np.floating]
"""A number of each item."""


@dataclass(frozen=True)
class Estimate:
    """A figure over items.

    Attributes:
        value: the figure; nan where no item could be measured.
        error: its standard error, images being drawn at random (items of one image are not
            independent).
        item_error: its standard error if each item were drawn by itself, as papers report it.
        interval: bounds of the bootstrap's 95 %, over images.
        items, images: how many went in.
    """

    value: float
    error: float
    item_error: float
    interval: tuple[float, float]
    items: int
    images: int


def ratio_of_sums(
    above: Values,
    below: Values,
    images: Iterable[Hashable],
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """``sum(above) / sum(below)`` over items, and how sure it is.

    Args:
        above, below: of each item. All ones below gives a mean.
        images: which image each item is of.
        resamples: of the bootstrap, which draws images with replacement.

    Raises:
        ValueError: the lengths differ.
    """
    images = list(images)
    if not len(above) == len(below) == len(images):
        raise ValueError(f"{len(above)} above, {len(below)} below and {len(images)} images differ")
    tops, bottoms = np.asarray(above, np.float64), np.asarray(below, np.float64)
    if bottoms.sum() == 0:
        return Estimate(np.nan, np.nan, np.nan, (np.nan, np.nan), len(tops), len(set(images)))
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
    which = [numbers[image] for image in images]
    top = np.bincount(which, tops)
    bottom = np.bincount(which, bottoms)
    value = tops.sum() / bottoms.sum()
    tops_drawn, drawn = _resampled([top, bottom], resamples, seed)
    estimates = tops_drawn[drawn > 0] / drawn[drawn > 0]
    low, high = np.quantile(estimates, (0.025, 0.975))
    return Estimate(
        float(value),
        _error(_influences(top, bottom)),
        _error(_influences(tops, bottoms)),
        (float(low), float(high)),
        len(tops),
        len(top),
    )


Sums = tuple[Values, Values]
"""Of each item, what is above and what is below the line of a ratio of sums."""


def difference_of_ratios(
    ours: Sums, theirs: Sums, images: Iterable[Hashable], resamples: int = 1000, seed: int = 0
) -> Estimate:
    """The difference of two ratios of sums over the same items, paired: an image that is drawn is
    drawn for both. Otherwise as :func:`ratio_of_sums`.

    Raises:
        ValueError: the lengths differ.
    """
    images = list(images)
    if not {len(part) for part in (*ours, *theirs)} == {len(images)}:
        raise ValueError(f"not all of {len(images)} items, of both")
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
    which = [numbers[image] for image in images]
    items = [np.asarray(part, np.float64) for part in (*ours, *theirs)]
    sums = [np.bincount(which, part) for part in items]
    if sums[1].sum() == 0 or sums[3].sum() == 0:
        return Estimate(np.nan, np.nan, np.nan, (np.nan, np.nan), len(images), len(numbers))
    a, b, c, d = _resampled(sums, resamples, seed)
    known = (b > 0) & (d > 0)
    low, high = np.quantile(a[known] / b[known] - c[known] / d[known], (0.025, 0.975))
    return Estimate(
        float(sums[0].sum() / sums[1].sum() - sums[2].sum() / sums[3].sum()),
        _error(_influences(sums[0], sums[1]) - _influences(sums[2], sums[3])),
        _error(_influences(items[0], items[1]) - _influences(items[2], items[3])),
        (float(low), float(high)),
        len(images),
        len(numbers),
    )


def mean(values: Values, images: Iterable[Hashable], resamples: int = 1000) -> Estimate:
    """The mean over items, and how sure it is. Hits as 0 and 1 give a share."""
    return ratio_of_sums(values, np.ones(len(values)), images, resamples)


def mean_by_class(values: Values, classes: Iterable[Hashable]) -> float:
    """The mean over classes of each class's mean (the pointing game's macro average)."""
    groups: dict[Hashable, list[float]] = {}
    for value, name in zip(values, classes, strict=True):
        groups.setdefault(name, []).append(value)
    return float(np.mean([np.mean(group) for group in groups.values()])) if groups else np.nan


@dataclass(frozen=True)
class BoxRatio:
    """The box ratio over items in two aggregates, and what could not be measured.

    Attributes:
        mean_of_ratios: the paper's (section 8.1): the mean of the items' ratios. One item with next
            to nothing outside its box can make it anything.
        ratio_of_means: the mean of the means inside, divided by the mean of the means outside, each
            map scaled to a mean of 1 first, so that no item counts for more because its map is
            bright, and one without anything outside adds 0 below instead of dividing by it.
            Degenerate maps count as uniform ones.
        heaviest: the greatest share that a single item has in the sum inside, 0 ... 1; the ratio of
            means would move by about that much without it.
        statuses: number of items by status (:data:`BoxStatus`).
    """

    mean_of_ratios: Estimate
    ratio_of_means: Estimate
    heaviest: float
    statuses: Mapping[BoxStatus, int]


def box_ratio(items: Sequence[BoxMeans], images: Iterable[Hashable]) -> BoxRatio:
    """The box ratio over items, and the images they are of."""
    pairs = list(zip(items, images, strict=True))
    ratios = [(item.ratio, image) for item, image in pairs if item.ratio is not None]
    means = [pair for pair in pairs if pair[0].status not in ("empty box", "whole picture")]
    inside = [item.inside for item, _ in means]
    statuses: dict[BoxStatus, int] = {}
    for item in items:
        statuses[item.status] = statuses.get(item.status, 0) + 1
    return BoxRatio(
        mean([ratio for ratio, _ in ratios], [image for _, image in ratios]),
        ratio_of_sums(inside, [item.outside for item, _ in means], [image for _, image in means]),
        max(inside) / sum(inside) if inside and sum(inside) > 0 else 0.0,
        statuses,
    )


_AT_ONCE = 2**22  # draws made at a time
_KEPT = 2**27  # draws kept, a byte each: of all of COCO's training photos


def _resampled(sums: Sequence[np.ndarray], resamples: int, seed: int) -> list[np.ndarray]:
    """Totals (resamples,) of values by image, the images drawn with replacement, alike for all."""
    images = len(sums[0])
    draws = _kept_draws if images * resamples <= _KEPT else _draws
    parts = [[drawn @ values for values in sums] for drawn in draws(images, resamples, seed)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@lru_cache(maxsize=2)
def _kept_draws(images: int, resamples: int, seed: int) -> list[NDArray[np.unsignedinteger]]:
    """Figures of the same images follow one another, and drawing takes longer than adding up."""
    return list(_draws(images, resamples, seed))


def _draws(images: int, resamples: int, seed: int) -> Iterator[NDArray[np.unsignedinteger]]:
    """How often each image is drawn in each resample, (resamples, images), some at a time."""
    rng, shares = np.random.default_rng(seed), np.full(images, 1 / images)
    step = max(1, _AT_ONCE // images)
    for start in range(0, resamples, step):
        drawn = rng.multinomial(images, shares, min(step, resamples - start))
        yield drawn.astype(np.min_scalar_type(drawn.max()))


def _influences(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """What each draw adds to sum(top) / sum(bottom), by linearisation."""
    found: np.ndarray = (top - top.sum() / bottom.sum() * bottom) / bottom.sum()
    return found


def _error(influences: np.ndarray) -> float:
    """The standard error, draws being the entries; nan of a single one."""
    count = len(influences)
    if count < 2:
        return np.nan
    return float(np.sqrt(count / (count - 1) * (influences**2).sum()))
