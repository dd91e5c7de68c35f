"""Captioners' part of ``vlcam evaluate faithfulness``: the words they write. Light to import."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vlcam.cli.early import count
from vlcam.cli.faithfulness import Subject

if TYPE_CHECKING:
    from captioning.experiments.faithfulness import OfWords
    from vlcam.attribution.occlusion import Patch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--words", metavar="K", type=count, default=3, help="visual words a caption; default: 3"
    )


def experiment(args: argparse.Namespace, patch: Patch, with_curves: bool) -> OfWords:
    from captioning.experiments.faithfulness import OfWords

    return OfWords(
        args.photos,
        patch=patch,
        with_curves=with_curves,
        words=args.words,
        limit=args.limit,
        seed=args.seed,
    )


SUBJECT = Subject("photos", "a captioner's words on a folder of photos", add_arguments, experiment)
