"""Foreign models against what their original code says, end to end through our adapters.

    python -m benchmarks.oracle_checks --oracles DIR [--only NAME ...] [--out FILE]

DIR holds one folder a model: the checkpoint, its inputs and the original's outputs (see its
README). Prints the largest difference of log-probabilities or logits (absolute) and of maps
(relative to the largest value), and whether captions are the same word for word; writes a table of
them to FILE. Exits with 1 if any is too large or not the same, or if a folder is missing.
"""

from __future__ import annotations

import argparse
import pkgutil
import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks import oracle_checks
from benchmarks.oracle_checks.report import Check, Report
from benchmarks.shared.report import write
from vlcam.evaluation import tables


def checks() -> dict[str, Check]:
    """All there are, by the names of the oracles' folders."""
    found: dict[str, Check] = {}
    for module in pkgutil.iter_modules(oracle_checks.__path__):
        if module.name != "__main__":
            loaded = import_module(f"{oracle_checks.__name__}.{module.name}")
            found |= getattr(loaded, "CHECKS", {})
    return dict(sorted(found.items()))


def main() -> int:
    known = checks()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--oracles", type=Path, required=True, help="folder with one folder a model"
    )
    parser.add_argument("--only", nargs="+", choices=known, metavar="NAME", default=list(known))
    parser.add_argument("--out", type=Path, metavar="FILE", help="a table in Markdown")
    args = parser.parse_args()
    start = time.perf_counter()
    reports = {name: Report() for name in args.only}
    for name, report in reports.items():
        known[name](args.oracles / name, report)
    if args.out:
        rows = [[name, *report.row()] for name, report in reports.items()]
        head = ["oracle", "compared", "numbers", "maps", "texts the same", "all good"]
        said = (
            "Largest differences from the original code's outputs: of log-probabilities, logits,"
            " attention and pixels (absolute, at most 1e-5 where nothing else is printed), and of"
            " feature maps and Grad-CAM maps (relative to the largest value, at most 1e-4)."
        )
        seconds = time.perf_counter() - start
        write(args.out, "Oracles", [said, tables.table(head, rows)], seconds)
    return int(any(report.failed for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())
