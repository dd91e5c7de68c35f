"""The frame of a benchmark's program: the options that all have, its errors, its result file."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.shared import report
from vlcam.utils.terminal import progress

Measure = Callable[[argparse.Namespace], tuple[str, Sequence[str]]]
"""From the options to the result's title and its parts in Markdown."""


def options(file: str, doc: str | None, *, threads: int = 2) -> argparse.ArgumentParser:
    """A parser that knows ``--threads`` and ``--out``.

    Args:
        file: of the benchmark's module; the result lies beside it, by default.
        doc: of the module, whose first line says what is measured.
        threads: by default.
    """
    path = Path(file)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{path.parent.name}.{path.stem}",
        description=(doc or "").partition("\n")[0],
    )
    parser.add_argument("--threads", type=int, default=threads, help=f"default: {threads}")
    parser.add_argument("--out", type=Path, default=path.with_suffix(".md"))
    return parser


def run(parser: argparse.ArgumentParser, measure: Measure) -> None:
    """Measure, and write what was found with the command, the versions and the time it took.

    What raises a ValueError ends the program with 2 and one line, and nothing is written.
    """
    args = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    begun = time.perf_counter()
    try:
        with progress.shown():
            title, parts = measure(args)
    except ValueError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    finally:  # of a test's process, in which others follow
        torch.set_num_threads(threads)
    report.write(args.out, title, parts, time.perf_counter() - begun)
