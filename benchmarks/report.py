"""Result files of the evaluation scripts: tables in Markdown, with all it takes to repeat them."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from vlcam.metrics import Estimate
from vlcam.writing import written


def share(estimate: Estimate) -> str:
    """A share in percent with its standard error over images."""
    return f"{100 * estimate.value:.1f} ± {100 * estimate.error:.1f}"


def figure(estimate: Estimate) -> str:
    """A figure with its standard error over images."""
    return f"{estimate.value:.2f} ± {estimate.error:.2f}"


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


def write(path: Path, title: str, parts: Sequence[str], seconds: float) -> None:
    """Print a result and write it to a file, with the command and the versions behind it."""
    names = ("vlcam", "torch", "torchvision", "numpy", "pycocotools")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    script = os.path.relpath(sys.argv[0])
    text = "\n\n".join(
        [
            f"# {title}",
            *parts,
            f"    python {script} {shlex.join(sys.argv[1:])}",
            f"{seconds:.0f} s on {os.cpu_count()} cores ({platform.machine()}); "
            f"Python {platform.python_version()}, {versions}.",
            "± is the standard error, images being the independent draws.",
        ]
    )
    print(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as draft:
        draft.write_text(text + "\n", "utf-8")
    print(f"\nwritten to {path}", file=sys.stderr)
