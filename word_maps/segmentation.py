"""Whether a segmentation in COCO's format can be drawn, and if not, why.

pycocotools draws what it is given: run lengths that end too early show whatever was in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import Annotated, TypedDict

import msgspec
import numpy as np

_FAR = 10  # how many sides of the photo a polygon may reach beyond it

_LONG, _LONGEST = 100, 2**24
"""How many sides of the photo polygons may be long, beside a pixel for each of the photo's; and how
many pixels at most. pycocotools keeps five points a pixel, and counts them in 32 bits."""


class RunLengths(TypedDict):
    """A mask as COCO encodes it: how many pixels are off, on, off, ..., column by column."""

    size: tuple[int, int]
    counts: str | list[Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]]


Segmentation = list[list[float]] | RunLengths
"""Polygons, each x, y, x, y, ...; or an RLE, compressed (text) or not."""


def problem(found: Segmentation, size: tuple[int, int]) -> str | None:
    """What is wrong with the segmentation of an image of (height, width); None: nothing."""
    if isinstance(found, dict):
        if tuple(found["size"]) != size:
            return f"RLE of size {list(found['size'])}, the image is {list(size)}"
        return _of_run_lengths(found["counts"], size)
    if not found:
        return "no segmentation"
    wrong = (_of_polygon(polygon, size) for polygon in found)
    if first := next((line for line in wrong if line), None):
        return first
    most = min(size[0] * size[1], _LONGEST) + _LONG * sum(size)
    sides = sum(len(polygon) // 2 for polygon in found)
    widest = max(max(polygon) - min(polygon) for polygon in found)
    if sides * widest > most and sum(map(_length, found)) > most:  # few need the exact length
        return f"polygons longer than {most} pixels, the image has {list(size)}"
    return None if any(_area(polygon) for polygon in found) else "polygons without an area"


def _of_polygon(polygon: Sequence[float], size: tuple[int, int]) -> str | None:
    if len(polygon) < 6 or len(polygon) % 2:
        return "a polygon that is no list of three or more points"
    for values, side in ((polygon[::2], size[1]), (polygon[1::2], size[0])):
        # A sum is finite only where all are.
        low, high = min(values), max(values)
        if not (math.isfinite(sum(values)) and -_FAR * side <= low <= high <= (_FAR + 1) * side):
            return f"a polygon with points far from the image's {list(size)} pixels"
    return None


def _area(polygon: Sequence[float]) -> float:
    """Of a polygon, by the shoelace formula; its sign says which way around it goes."""
    xs, ys = polygon[::2], polygon[1::2]
    return (sum(map(mul, xs, [*ys[1:], ys[0]])) - sum(map(mul, ys, [*xs[1:], xs[0]]))) / 2


def _length(polygon: Sequence[float]) -> float:
    """Of its sides, in pixels; a slanted one is as long as the larger of its two differences."""
    xs, ys = (np.array(polygon[i::2], float) for i in range(2))
    return float(np.maximum(np.abs(xs - np.roll(xs, 1)), np.abs(ys - np.roll(ys, 1))).sum())


def _of_run_lengths(counts: str | Sequence[int], size: tuple[int, int]) -> str | None:
    try:
        lengths = _decompressed(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    except ValueError as error:
        return f"an RLE without counts ({error})"
    pixels = size[0] * size[1]
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > pixels:
        return f"an RLE with counts outside 0..{pixels}"
    if lengths.sum() != pixels:
        return f"RLE of {lengths.sum()} pixels, the image has {pixels}"
    return None if lengths[1::2].any() else "an RLE without an area"


def _decompressed(text: str) -> np.ndarray:
    """Run lengths of a compressed RLE (pycocotools, maskApi.c). Its characters stand for six bits,
    counted from "0": five bits of a number, the lowest first, and one that is set where more
    follow. From the fourth number on, each is the difference from the last but one.

    Raises:
        ValueError: a character is of another kind, or the last number is incomplete.
    """
    bits = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - ord("0")
    if not len(bits):
        return bits
    last = bits & 32 == 0  # of a number
    if bits.min() < 0 or bits.max() > 63 or not last[-1]:
        raise ValueError("cut in the middle, or no characters of one")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    shifts = 5 * (np.arange(len(bits)) - np.repeat(starts, ends - starts + 1))
    if shifts.max() > 55:
        raise ValueError("a number of more than 60 bits")
    numbers = np.add.reduceat((bits & 31) << shifts, starts)
    negative = bits[ends] & 16 != 0
    numbers[negative] -= 1 << (shifts[ends][negative] + 5)
    for parity in (1, 2):
        numbers[parity::2] = np.cumsum(numbers[parity::2])
    return numbers
