"""The options of ``vlcam evaluate attention``. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", metavar="NAME|FILE", required=True, help="a VQA model, see vlcam models")
    add("--data", metavar="DIR", type=Path, required=True, help="questions in VQA's layout")
    add(
        "--maps",
        metavar="DIR",
        type=Path,
        help="human maps, QUESTION_K.png as in VQA-HAT; default: DIR/attention",
    )
    add(
        "--method",
        metavar="NAME,NAME",
        default="grad-cam",
        help="see vlcam methods; default: grad-cam",
    )
    add(
        "--answer",
        choices=("predicted", "given"),
        default="predicted",
        help="explain the model's answer, or the one people gave; default: predicted",
    )
    add("--layer", metavar="NAME", help="the explained layer; default: the model's")
    add("--limit", metavar="N", type=int, help="of the questions with maps, so many at random")
    add("--seed", metavar="S", type=int, default=0, help="of everything random; default: 0")
    add(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("attention"),
        help="for summary.md and summary.json; default: attention",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate; 0 if all went well. ValueError where it cannot be done."""
    from vqa.attention import Settings, evaluate

    evaluate(Settings(**{k: v for k, v in vars(args).items() if k not in ("run", "debug")}))
    return 0
