"""Figures with their uncertainty: standard errors and bootstrap intervals over images.

Every figure is a sum over items divided by another (:func:`ratio_of_sums`), so one function gives
all standard errors and intervals, with images, not items, as the independent draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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
