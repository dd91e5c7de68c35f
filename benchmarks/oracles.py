"""Foreign models against what their original code says, end to end through our adapters.

    python benchmarks/oracles.py --oracles DIR [--only NAME ...]

DIR holds one folder a model: the checkpoint, its inputs and the original's outputs (see its
README). Prints the largest difference of log-probabilities or logits (absolute) and of maps
(relative to the largest value), and whether captions are the same word for word. Exits with 1 if
any of them is not, or if a folder is missing.
"""

from __future__ import annotations

import argparse
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

import oracle_checks
from oracle_checks.report import Check, Report


def checks() -> dict[str, Check]:
    """All there are, by the names of the oracles' folders."""
    found: dict[str, Check] = {}
    for module in pkgutil.iter_modules(oracle_checks.__path__):
        loaded = import_module(f"oracle_checks.{module.name}")
        found |= getattr(loaded, "CHECKS", {})
    return dict(sorted(found.items()))


def main() -> int:
    known = checks()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--oracles", type=Path, required=True, help="folder with one folder a model"
    )
    parser.add_argument("--only", nargs="+", choices=known, metavar="NAME", default=list(known))
    args = parser.parse_args()
    report = Report()
    for name in args.only:
        known[name](args.oracles / name, report)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
