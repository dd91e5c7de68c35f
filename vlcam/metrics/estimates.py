"""Figures with their uncertainty: standard errors and bootstrap intervals over images.

Every figure is a ratio of sums over items, ``R = sum(a_i) / sum(b_i)`` (a mean has ``b_i = 1``), so
one function, :func:`ratio_of_sums`, gives all errors and intervals. Images, not items, are the
independent draws: of n images, image k having the sums ``a_k`` and ``b_k`` over its items,

* the standard error is ``sqrt(n / (n - 1) * sum(d_k ** 2))`` with the influences
  ``d_k = (a_k - R * b_k) / sum(b_k)`` (linearisation, also known as the infinitesimal jackknife);
* the interval runs from the 2.5 % to the 97.5 % quantile of R over resamples of the images, drawn
  with replacement (the percentile bootstrap).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.floating]
"""One number per item."""

Sums = tuple[Values, Values]
"""Per item, what a ratio of sums has above its line and below it."""

_AT_ONCE = 2**22  # draws made at a time
_KEPT = 2**27  # draws kept, one byte each: enough for COCO's training photos


@dataclass(frozen=True)
class Estimate:
    """A figure over items.

    Attributes:
        value: the figure; nan where no item could be measured.
        error: its standard error with images as the independent draws (items of one image are not
            independent); nan of a single image, which tells nothing of others.
        item_error: its standard error with items as the independent draws, as papers report it; nan
            of a single item.
        interval: lower and upper bound of the 95 % bootstrap interval, over images; both nan of a
            single image.
        items, images: how many the figure was computed from.
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
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """``sum(above) / sum(below)`` over items, with its errors and interval.

    Args:
        above, below: one number per item each. Ones below give a mean.
        images: the image of each item.
        resamples: how many the bootstrap draws.
        seed: of the bootstrap.

    Raises:
        ValueError: the lengths differ.
    """
    images = list(images)
    if not len(above) == len(below) == len(images):
        raise ValueError(f"{len(above)} above, {len(below)} below and {len(images)} images differ")
    tops, bottoms = np.asarray(above, np.float64), np.asarray(below, np.float64)
    which = _numbered(images)
    if bottoms.sum() == 0:
        return _unknown(which)
    top, bottom = np.bincount(which, tops), np.bincount(which, bottoms)
    value = tops.sum() / bottoms.sum()
    tops_drawn, drawn = _resampled([top, bottom], resamples, seed)
    return Estimate(
        value=float(value),
        error=_error(_influences(top, bottom)),
        item_error=_error(_influences(tops, bottoms)),
        interval=_interval(tops_drawn[drawn > 0] / drawn[drawn > 0], len(top)),
        items=len(tops),
        images=len(top),
    )


def difference_of_ratios(
    ours: Sums,
    theirs: Sums,
    images: Iterable[Hashable],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimate:
    """The difference of two ratios of sums over the same items, paired: each resample draws the
    same images for both. Otherwise as :func:`ratio_of_sums`.

    Raises:
        ValueError: the lengths differ.
    """
    images = list(images)
    if not {len(part) for part in (*ours, *theirs)} == {len(images)}:
        raise ValueError(f"not all of {len(images)} items, of both")
    which = _numbered(images)
    items = [np.asarray(part, np.float64) for part in (*ours, *theirs)]
    sums = [np.bincount(which, part) for part in items]
    if sums[1].sum() == 0 or sums[3].sum() == 0:
        return _unknown(which)
    a, b, c, d = _resampled(sums, resamples, seed)
    known = (b > 0) & (d > 0)
    return Estimate(
        value=float(sums[0].sum() / sums[1].sum() - sums[2].sum() / sums[3].sum()),
        error=_error(_influences(sums[0], sums[1]) - _influences(sums[2], sums[3])),
        item_error=_error(_influences(items[0], items[1]) - _influences(items[2], items[3])),
        interval=_interval(a[known] / b[known] - c[known] / d[known], len(sums[0])),
        items=len(which),
        images=len(sums[0]),
    )


def mean(values: Values, images: Iterable[Hashable], resamples: int = 1000) -> Estimate:
    """The mean over items, as :func:`ratio_of_sums`. Of hits (1) and misses (0): the accuracy."""
    return ratio_of_sums(values, np.ones(len(values)), images, resamples=resamples)


def mean_by_class(values: Values, classes: Iterable[Hashable]) -> float:
    """The mean over classes of each class's mean: the macro average of the pointing game (Zhang et
    al., ECCV 2016); nan without items."""
    groups: dict[Hashable, list[float]] = {}
    for value, name in zip(values, classes, strict=True):
        groups.setdefault(name, []).append(value)
    return float(np.mean([np.mean(group) for group in groups.values()])) if groups else np.nan


def _numbered(images: Sequence[Hashable]) -> list[int]:
    """For each item the number of its image, counted from 0 in order of appearance."""
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
    return [numbers[image] for image in images]


def _unknown(which: Sequence[int]) -> Estimate:
    """Where nothing could be measured; ``which`` are the numbers of the items' images."""
    return Estimate(
        value=np.nan,
        error=np.nan,
        item_error=np.nan,
        interval=(np.nan, np.nan),
        items=len(which),
        images=len(set(which)),
    )


def _resampled(sums: Sequence[np.ndarray], resamples: int, seed: int) -> list[np.ndarray]:
    """Totals (resamples,) of each of some sums per image, over the same images drawn."""
    images = len(sums[0])
    draws = _kept_draws if images * resamples <= _KEPT else _draws
    parts = [[drawn @ values for values in sums] for drawn in draws(images, resamples, seed)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@lru_cache(maxsize=2)
def _kept_draws(images: int, resamples: int, seed: int) -> list[NDArray[np.unsignedinteger]]:
    """:func:`_draws`, kept: several figures in a row are of the same images, and drawing takes
    longer than adding up."""
    return list(_draws(images, resamples, seed))


def _draws(images: int, resamples: int, seed: int) -> Iterator[NDArray[np.unsignedinteger]]:
    """How often each resample draws each image, (resamples, images), some resamples at a time."""
    rng, shares = np.random.default_rng(seed), np.full(images, 1 / images)
    step = max(1, _AT_ONCE // images)
    for start in range(0, resamples, step):
        drawn = rng.multinomial(images, shares, min(step, resamples - start))
        yield drawn.astype(np.min_scalar_type(drawn.max()))


def _influences(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The influence of each draw on ``sum(top) / sum(bottom)``: see the top of this file."""
    found: np.ndarray = (top - top.sum() / bottom.sum() * bottom) / bottom.sum()
    return found


def _interval(drawn: np.ndarray, images: int) -> tuple[float, float]:
    """The interval from what the resamples gave; all of one image's are that image again."""
    if images < 2:
        return np.nan, np.nan
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def _error(influences: np.ndarray) -> float:
    """The standard error from the draws' influences; nan for a single draw."""
    count = len(influences)
    if count < 2:
        return np.nan
    return float(np.sqrt(count / (count - 1) * (influences**2).sum()))
