"""VQA models' part of ``vlcam evaluate faithfulness``: their answers. Light to import."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vlcam.cli.faithfulness import Subject

if TYPE_CHECKING:
    from vlcam.attribution.occlusion import Patch
    from vqa.experiments.faithfulness import OfAnswers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none of its own."""


def experiment(args: argparse.Namespace, patch: Patch, with_curves: bool) -> OfAnswers:
    from vqa.experiments.faithfulness import OfAnswers

    return OfAnswers(
        args.data, patch=patch, with_curves=with_curves, limit=args.limit, seed=args.seed
    )


def check(args: argparse.Namespace) -> None:
    """Whether there are files of questions."""
    from vqa.data.questions import question_files

    question_files(args.data)


SUBJECT = Subject(
    "data", "a VQA model's answers to questions (VQA's layout)", add_arguments, experiment, check
)
