"""Pictures and maps cut into tiles of one size, and put together again."""

from __future__ import annotations

from torch import Tensor


def in_tiles(whole: Tensor, tiles: tuple[int, int]) -> Tensor:
    """Pictures or maps (B, K, H, W) cut into (rows, columns) of tiles: (B, rows columns, K, h, w),
    row by row."""
    rows, columns = tiles
    cut = whole.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def of_tiles(cut: Tensor, tiles: tuple[int, int]) -> Tensor:
    """Inverse of :func:`in_tiles`."""
    laid = cut.unflatten(1, tiles).permute(0, 3, 1, 4, 2, 5)
    return laid.flatten(4, 5).flatten(2, 3)
