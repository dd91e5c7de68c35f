"""Values that would be equal, had nothing been rounded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SHARE = 2.0**-40
"""Of the largest magnitude. A float64 sum of a few thousand terms is off by some 2**-45 of it; two
float32 numbers of that size, as maps are, differ by 2**-24 or more."""


def slack(values: NDArray[np.float64]) -> float:
    """The difference up to which values that were computed in float64 of float32 numbers count as
    equal."""
    return _SHARE * float(np.abs(values).max(initial=0))
