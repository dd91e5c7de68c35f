"""Figures with their standard errors, in Markdown tables that read as text too."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vlcam.metrics.estimates import Estimate

ALONE = "one photo: no error"
"""Instead of a standard error, and of an interval, of a single photo."""

NOTHING = "none measured"
"""Instead of a figure over no items."""


def share(estimate: Estimate) -> str:
    """A share in percent with its standard error over images."""
    return figure(estimate, 1, 100)


def figure(estimate: Estimate, digits: int = 2, factor: float = 1) -> str:
    """A figure with its standard error over images, both times a factor."""
    if math.isnan(estimate.value):
        return NOTHING
    value = f"{factor * estimate.value:.{digits}f}"
    if math.isnan(estimate.error):
        return f"{value} ({ALONE})"
    return f"{value} ± {factor * estimate.error:.{digits}f}"


def interval(estimate: Estimate, digits: int = 2, factor: float = 1) -> str:
    """The bounds of a figure's 95 %, times a factor."""
    if math.isnan(estimate.value):
        return NOTHING
    if math.isnan(estimate.interval[0]):
        return ALONE
    return " ... ".join(f"{factor * bound:.{digits}f}" for bound in estimate.interval)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, padded so that it reads as text too."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *rest = (cell.ljust(w) if not i else cell.rjust(w)
                        for i, (cell, w) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|".join(["", "-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:]), ""])
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])
