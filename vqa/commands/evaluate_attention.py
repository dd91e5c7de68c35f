"""The options of ``vlcam evaluate attention``. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vlcam.cli import early, evaluate

if TYPE_CHECKING:
    from vqa.experiments.attention import Attention


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", metavar="DIR", type=early.folder, required=True, help="questions in VQA's layout")
    add(
        "--maps",
        metavar="DIR",
        type=early.folder,
        help="human maps, QUESTION_K.png as in VQA-HAT; default: DIR/attention",
    )
    add(
        "--answer",
        choices=("predicted", "given"),
        default="predicted",
        help="explain the model's answer, or the one people gave; default: predicted",
    )
    evaluate.add_arguments(parser, "attention", "so many of the questions with maps")


def run(args: argparse.Namespace) -> int:
    def check() -> None:
        from vqa.data.questions import question_files

        question_files(args.data)

    def experiment() -> Attention:
        from vqa.experiments.attention import Attention

        return Attention(
            args.data, maps=args.maps, answer=args.answer, limit=args.limit, seed=args.seed
        )

    return evaluate.run(args, experiment, check)
