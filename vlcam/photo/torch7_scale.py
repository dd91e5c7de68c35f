"""Resizing as Lua Torch7's ``image.scale`` does it: columns first, then rows, in float32.

Where an axis shrinks, each new pixel is the exact average of the old ones that it covers; where it
grows, it is interpolated linearly between two of them, and the first and the last pixel stay what
they are. Pictures of bytes are rounded after either step. Sums are taken in Torch7's own order, so
that no rounding differs.
"""

from __future__ import annotations

import numpy as np


def scale(picture: np.ndarray, size: tuple[int, int], rounded: bool) -> np.ndarray:
    """A picture (H, W, C), uint8 or float32, resized: float32 (h, w, C).

    Args:
        size: (h, w).
        rounded: whether numbers are rounded to whole ones after each of the two steps, as Torch7
            does with pictures of bytes.
    """
    narrow = _axis(picture, 1, size[1], rounded)
    return _axis(narrow, 0, size[0], rounded)


def _axis(values: np.ndarray, axis: int, new: int, rounded: bool) -> np.ndarray:
    old = values.shape[axis]
    if new == old:
        return values.astype(np.float32)
    scaled = _grown(values, axis, new) if new > old else _shrunk(values, axis, new)
    return np.floor(scaled + np.float32(0.5)) if rounded else scaled


def _grown(values: np.ndarray, axis: int, new: int) -> np.ndarray:
    old = values.shape[axis]
    at = np.arange(new, dtype=np.float32) * (np.float32(old - 1) / np.float32(new - 1))
    at[-1] = old - 1
    first = at.astype(np.intp)
    second = np.minimum(first + 1, old - 1)
    share = _along(at - first.astype(np.float32), axis)
    return (1 - share) * _at(values, first, axis) + share * _at(values, second, axis)


def _shrunk(values: np.ndarray, axis: int, new: int) -> np.ndarray:
    old = values.shape[axis]
    ends = np.arange(1, new + 1, dtype=np.float32) * (np.float32(old) / np.float32(new))
    last = ends.astype(np.intp)
    part = ends - last.astype(np.float32)  # the share of the last pixel that is covered
    first = np.concatenate([[0], last[:-1]])
    share = 1 - np.concatenate([[np.float32(0)], part[:-1]])  # that of the first
    total, count = _along(share, axis) * _at(values, first, axis), share
    for step in range(1, int((last - first).max()) + 1):
        pixel = first + step
        # All of a pixel between the two, nothing of one beyond the last or behind the edge.
        share = np.where(pixel < last, np.float32(1), np.where(pixel == last, part, np.float32(0)))
        share[pixel >= old] = 0
        total += _along(share, axis) * _at(values, np.minimum(pixel, old - 1), axis)
        count = count + share
    averages: np.ndarray = total / _along(count, axis)
    return averages


def _at(values: np.ndarray, pixels: np.ndarray, axis: int) -> np.ndarray:
    return values.take(pixels, axis).astype(np.float32)


def _along(numbers: np.ndarray, axis: int) -> np.ndarray:
    """One number per pixel of an axis, shaped to be multiplied with a picture."""
    return numbers[:, None, None] if axis == 0 else numbers[:, None]
