"""The options of ``vlcam scenes``. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlcam.cli.early import count, natural


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="a new folder")
    parser.add_argument("--images", metavar="N", type=count, required=True, help="how many")
    parser.add_argument("--seed", metavar="S", type=natural, default=0, help="default: 0")


def run(args: argparse.Namespace) -> int:
    """Write them; 0 if all went well. ValueError where it cannot be done."""
    from vlcam.scenes.write import write

    write(args.directory, images=args.images, seed=args.seed)
    return 0
