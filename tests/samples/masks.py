"""Masks drawn with characters."""

from __future__ import annotations

import numpy as np


def mask_of(rows: list[str]) -> np.ndarray:
    """A mask (H, W), true where there is a ``#``."""
    return np.array([[cell == "#" for cell in row] for row in rows])
