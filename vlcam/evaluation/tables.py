"""Figures with their standard errors, in Markdown tables that read as text too."""

from __future__ import annotations

from collections.abc import Sequence

from vlcam.metrics.estimates import Estimate


def share(estimate: Estimate) -> str:
    """A share in percent with its standard error over images."""
    return f"{100 * estimate.value:.1f} ± {100 * estimate.error:.1f}"


def figure(estimate: Estimate, digits: int = 2) -> str:
    """A figure with its standard error over images."""
    return f"{estimate.value:.{digits}f} ± {estimate.error:.{digits}f}"


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
