"""Values that would be equal, had nothing been rounded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHARE, _REST = 2.0**-40, 2.0**-46
"""Of a value itself, and of the largest there is. A float64 sum of a thousand terms is off by some
2**-47 of their size, which is the sum's own, or more where they cancel. Two float32 numbers, as
maps are made of, differ by 2**-24 of their size or more."""


def slack(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference up to which each value counts as equal to another, where they were computed in
    float64 of float32 numbers."""
    sizes = np.abs(values)
    return np.maximum(_SHARE * sizes, _REST * sizes.max(initial=0))
