"""Means over photos, which are the independent draws, with their standard errors.

Of n photos with values x_k and mean m:

* the standard error is ``sqrt(sum((x_k - m) ** 2) / (n - 1) / n)``, which is that of
  :mod:`vlcam.metrics.estimates` where each photo is one item;
* the 95 % interval is ``m ± t * error``, with the 97.5 % quantile t of Student's distribution of
  n - 1 degrees of freedom. Photos are few here, for which that module's bootstrap is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mean:
    """A mean over photos.

    Attributes:
        value: the mean.
        error: its standard error; None: of a single photo there is none.
    """

    value: float
    error: float | None

    def __str__(self) -> str:
        return f"{self.value:.2f}" + ("" if self.error is None else f" ± {self.error:.2f}")


def mean(values: Sequence[float]) -> Mean:
    """Of at least one value."""
    count = len(values)
    middle = math.fsum(values) / count
    if count < 2:
        return Mean(middle, None)
    squares = math.fsum((value - middle) ** 2 for value in values)
    return Mean(middle, math.sqrt(squares / (count - 1) / count))


def interval(found: Mean, count: int) -> tuple[float, float] | None:
    """The 95 % interval of a mean of so many values, by Student's t; None: of one there is none."""
    if found.error is None:
        return None
    from scipy.stats import t

    reach = float(t.ppf(0.975, count - 1)) * found.error
    return found.value - reach, found.value + reach


def shown(count: int, what: str) -> str:
    """``1 photo``, ``3 photos``; ``2 words or answers``."""
    first, _, rest = what.partition(" ")
    last = f" {' '.join(f'{w}s' if w != 'or' else w for w in rest.split())}" if rest else ""
    return f"{count} {what}" if count == 1 else f"{count} {first}s{last}"
