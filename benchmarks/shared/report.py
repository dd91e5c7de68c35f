"""Result files of the benchmarks: what was measured, in tables in Markdown, with the command and
the versions that repeat it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from vlcam.evaluation import tables
from vlcam.metrics.box_ratio import BoxMeans, box_ratio
from vlcam.metrics.estimates import Estimate, mean
from vlcam.utils.files.atomic import written


class Table:
    """Values by row and column, each with the photo it is of."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[tuple[float, Hashable]]] = defaultdict(list)

    def add(self, row: str, column: str, value: float, *, photo: Hashable) -> None:
        self.values[row, column].append((value, photo))

    def share(self, row: str, column: str) -> str:
        """The mean in percent with its standard error; empty where there are no values."""
        found = self._mean(row, column)
        return tables.share(found) if found else ""

    def figure(self, row: str, column: str) -> str:
        """The mean with its standard error; empty where there are no values."""
        found = self._mean(row, column)
        return tables.figure(found) if found else ""

    def count(self, row: str, column: str) -> int:
        return len(self.values.get((row, column), ()))

    def _mean(self, row: str, column: str) -> Estimate | None:
        found = self.values.get((row, column))
        return mean([v for v, _ in found], [photo for _, photo in found]) if found else None


def box_table(
    head: Sequence[str], rows: Mapping[tuple[str, ...], Sequence[tuple[Hashable, BoxMeans]]]
) -> str:
    """Box ratios, as a ratio of means and as a mean of ratios.

    Args:
        head: the names of the first columns.
        rows: those columns' cells to (photo, box means) of each item.
    """
    lines = []
    for names, found in rows.items():
        ratio = box_ratio([item for _, item in found], [photo for photo, _ in found])
        lines.append(
            (
                *names,
                tables.figure(ratio.ratio_of_means),
                tables.interval(ratio.ratio_of_means),
                tables.figure(ratio.mean_of_ratios),
                len(found),
                ", ".join(f"{n} {s}" for s, n in ratio.statuses.items() if s != "measured") or "0",
            )
        )
    columns = ("ratio of means", "95 %", "mean of ratios (paper's)", "items", "not measured")
    return tables.table((*head, *columns), lines)


def command() -> str:
    """The command line that this process runs, as ``python -m MODULE ARGUMENTS``."""
    spec = sys.modules["__main__"].__spec__
    what = f"-m {spec.name.removesuffix('.__main__')}" if spec else os.path.relpath(sys.argv[0])
    return f"python {what} {shlex.join(sys.argv[1:])}".rstrip()


def processor() -> str:
    """What the figures were measured on: the processors, and the instructions PyTorch uses."""
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{os.cpu_count()} cores ({platform.machine()}, {instructions})"


def write(path: Path, title: str, parts: Sequence[str], seconds: float) -> None:
    """Print a result and write it to a file, with the command and the versions behind it."""
    names = ("vlcam", "torch", "torchvision", "numpy", "pycocotools")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    text = "\n\n".join(
        [
            f"# {title}",
            *parts,
            f"    {command()}",
            f"{seconds:.0f} s on {processor()}; Python {platform.python_version()}, {versions}.",
            "± is the standard error, images being the independent draws.",
        ]
    )
    print(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as draft:
        draft.write_text(text + "\n", "utf-8")
    print(f"\nwritten to {path}", file=sys.stderr)
