"""What several commands read from the command line. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from vlcam.utils.errors import flat

DEVICE = "cuda, cuda:1, cpu, ...; auto spreads a model of transformers over what there is"
"""What ``--device`` is for."""


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, at least 1")
    return int(text)


_MOST_ANSWERS = 100
"""More would make an unreadable page."""


def top(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST_ANSWERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 to {_MOST_ANSWERS}")
    return int(text)


def model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="NAME|FILE", default="scenes", help="see vlcam models; default: scenes"
    )


def add_asking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--caption", metavar="TEXT", help="explain this one, not the model's own")
    parser.add_argument("--question", metavar="TEXT", help="ask a VQA model this instead")
    parser.add_argument(
        "--answers", metavar="TEXT", nargs="+", help="explain these answers, not the likeliest ones"
    )
    parser.add_argument(
        "--top", metavar="K", type=top, default=5, help="explain the K likeliest; default: 5"
    )
    parser.add_argument(
        "--contrast", metavar=("A", "B"), nargs=2, help="explain why answer A rather than B"
    )
    parser.add_argument(
        "--method", metavar="NAME", default="grad-cam", help="see vlcam methods; default: grad-cam"
    )


def checked(args: argparse.Namespace) -> str:
    """The kind of model that is asked; ValueError for options that do not go together."""
    for name in ("caption", "question"):
        text = getattr(args, name)
        if text is not None and not text.strip():
            raise ValueError(f"--{name} is empty: give at least one word")
    if args.caption is not None and args.question is not None:
        raise ValueError("--caption and --question: give one of them")
    if args.question is None and (args.answers or args.contrast):
        raise ValueError("--answers and --contrast go with a --question")
    return "captioner" if args.question is None else "vqa"


def stem(photo: str) -> str:
    """The photo's name without its suffix, where that can be a folder's name."""
    path = Path(photo)
    return path.name if path.stem in (".", "..") else path.stem


class Parser(argparse.ArgumentParser):
    """Tells in one line what is wrong with a command line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{flat(f'{self.prog}: {message}')} (see {self.prog} --help)\n")


def complain(message: str) -> None:
    print(f"vlcam: {flat(message)}", file=sys.stderr)
