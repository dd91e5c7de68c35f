"""The options of ``vlcam evaluate faithfulness``. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from vlcam.cli import evaluate as command

if TYPE_CHECKING:
    from vlcam.evaluation.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--photos", metavar="DIR", type=Path, help="a captioner's words on a folder of photos"
    )
    asked.add_argument(
        "--data", metavar="DIR", type=Path, help="a VQA model's answers to questions (VQA's layout)"
    )
    add("--words", metavar="K", type=int, default=3, help="visual words a caption; default: 3")
    add("--patch-size", metavar="PIXELS", type=int, default=45, help="default: 45")
    add("--patch-stride", metavar="PIXELS", type=int, default=16, help="default: 16")
    add("--no-curves", action="store_true", help="leave out deletion and insertion, to save time")
    command.add_arguments(parser, "faithfulness")


def run(args: argparse.Namespace) -> int:
    def experiment() -> Experiment:
        from vlcam.attribution.occlusion import Patch

        patch, curves = Patch(args.patch_size, args.patch_stride), not args.no_curves
        found: Experiment
        if args.photos is not None:
            of_words = import_module("captioning.experiments.faithfulness").OfWords
            found = of_words(args.photos, patch, curves, args.words, args.limit, args.seed)
        else:
            of_answers = import_module("vqa.experiments.faithfulness").OfAnswers
            found = of_answers(args.data, patch, curves, args.limit, args.seed)
        return found

    return command.run(args, experiment)
