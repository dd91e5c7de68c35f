"""The pointing game: does a map's peak lie on what it should (sections 4.3 and 8.1.1)?

A map *hits* if its peak lies in the mask of the category in question; over all pairs of an image
and a category (section 4.3) or a visual word (section 8.1.1)::

    accuracy = hits / (hits + misses)

which is the mean of 1 per hit and 0 per miss (:func:`vlcam.metrics.estimates.mean`). Points are
pixels (x, y), masks are (H, W): rows first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""Pixels of a picture, bool (H, W)."""


def points_at(mask: Mask, point: tuple[int, int], tolerance: float = 0) -> bool:
    """Whether a point hits a mask: it lies within the segmentation (section 8.1.1).

    A degenerate map has no point and is counted as a miss: see :func:`hit`.

    Args:
        mask: bool (H, W).
        point: (x, y), a pixel of the picture.
        tolerance: in pixels: it is a hit, too, if some pixel of the mask is *less* than that away,
            between pixel centres (15 in the pointing game of Zhang et al., ECCV 2016); 0: the point
            itself must be in the mask.

    Raises:
        ValueError: the point is outside the picture.
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
    """:func:`points_at` for a map's peak and whether the map is degenerate, as
    :func:`vlcam.geometry.peaks.peaks` gives them; a degenerate map misses."""
    return not degenerate and points_at(mask, point, tolerance)


def near(mask: Mask, tolerance: float) -> Mask:
    """All pixels that hit a mask, bool (H, W); their share is a random point's chance of a hit.

    Arguments as of :func:`points_at`, which agrees pixel by pixel.
    """
    reach = int(np.ceil(tolerance)) - 1
    if reach < 1 or not mask.any():
        return mask.copy()
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    # Only the surroundings of the mask: no other pixel hits.
    top, left = max(int(rows[0]) - reach, 0), max(int(columns[0]) - reach, 0)
    window = np.s_[top : int(rows[-1]) + reach + 1, left : int(columns[-1]) + reach + 1]
    united = mask.copy()
    united[window] = _widened(mask[window], reach, tolerance)
    return united


def centre(size: tuple[int, int]) -> tuple[int, int]:
    """The middle pixel (x, y) of a picture of (height, width): a baseline without any model."""
    return size[1] // 2, size[0] // 2


def centred_gaussian(size: tuple[int, int]) -> NDArray[np.float64]:
    """A map (H, W) that is a Gaussian about the middle of the picture: photographers tend to centre
    their subject. A baseline without any model.

    Args:
        size: (height, width); the standard deviations are a quarter of each.
    """
    height, width = size
    # Squared distances from the middle as whole numbers, so that pixels that are equally far away,
    # in units of the sides, have the same value to the last bit.
    y, x = ((2 * np.arange(n) + 1 - n) ** 2 for n in size)
    distances = np.add.outer(y * width**2, x * height**2)  # of 2 * height * width
    return np.exp(distances / (height * width) ** 2 * (-1 / (8 * 0.25**2)))


def _widened(mask: Mask, reach: int, tolerance: float) -> Mask:
    """:func:`near` of a whole picture: the mask dilated by a disc, all pixels at once.

    The picture is one long integer, one bit per pixel, so that a shift by n moves all pixels by n.
    """
    height, width = mask.shape
    inner = np.s_[reach : reach + height, reach : reach + width]
    framed = np.zeros((height + 2 * reach, width + 2 * reach), bool)
    framed[inner] = mask  # so that no shift moves a pixel out of the picture, or into another row
    packed = np.packbits(framed)
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
