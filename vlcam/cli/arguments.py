"""What several commands read from the command line. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlcam.cli.early import whole
from vlcam.models import MATCHER, compares_texts
from vlcam.utils.messages.errors import flat

DEVICE = "cuda, cuda:1, cpu, ...; auto spreads a model of transformers over what there is"
"""What ``--device`` is for."""


_DEFAULT = "photos"

_MOST_ANSWERS = 100
"""More would make an unreadable page."""


def names(text: str) -> list[str]:
    """Names between commas."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with a comma between two")
    return found


def paths(text: str) -> list[str]:
    """The same, of what may be files: one whose own name has a comma is taken for itself."""
    # Path.exists raises where a list of many is too long for a file's name.
    return [text] if os.path.exists(text) else names(text)  # noqa: PTH110


class Collect(argparse.Action):
    """An option that takes several: ``a,b`` (of the types above), ``a b`` where it takes many words
    (``nargs``), and the option given again all mean the same."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest, self.default)
        found = [] if before is self.default else list(before)
        for value in values or ():
            found += [value] if isinstance(value, str) else value
        self.check(found)
        setattr(namespace, self.dest, found)

    def check(self, found: Sequence[str]) -> None:
        """Raises ArgumentError where they cannot be taken together."""


class CollectDistinct(Collect):
    """One that does not take the same twice."""

    def check(self, found: Sequence[str]) -> None:
        for number, name in enumerate(found):
            if name in found[:number]:
                raise argparse.ArgumentError(self, f"{name} is named twice")


def model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="NAME|FILE",
        default=_DEFAULT,
        help=f"see vlcam models; default: {_DEFAULT}",
    )
    yes_argument(parser)


def yes_argument(parser: argparse.ArgumentParser) -> None:
    """Of every command that takes a model; it holds while the command runs."""
    parser.add_argument(
        "--yes", action="store_true", help="fetch a published model without asking, however large"
    )


def models_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        "--models",
        dest="models",
        metavar="NAME|FILE",
        type=paths,
        action=Collect,
        default=(_DEFAULT,),
        help="see vlcam models; several (A,B, or the option given again) are compared; default:"
        f" {_DEFAULT}",
    )
    yes_argument(parser)


def methods_argument(
    parser: argparse.ArgumentParser,
    *flags: str,
    default: Sequence[str] = ("grad-cam",),
    **more: Any,
) -> None:
    """``--method``, or options named otherwise, of which there may be several.

    Args:
        more: what else ``add_argument`` takes.
    """
    told = (
        f"see vlcam methods; several: A,B, or the option given again; default: {','.join(default)}"
    )
    parser.add_argument(
        *(flags or ("--method", "--methods")),
        metavar="NAME,NAME",
        type=names,
        action=CollectDistinct,
        default=default,
        **{"help": told} | ({} if flags else {"dest": "methods"}) | more,
    )


def add_asking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--caption", metavar="TEXT", help="explain this one, not the model's own")
    parser.add_argument("--question", metavar="TEXT", help="ask a VQA model this instead")
    parser.add_argument(
        "--answers",
        metavar="TEXT",
        nargs="+",
        action=Collect,
        help="explain these answers, not the likeliest ones; without a question: texts that a"
        " model such as CLIP compares with the photo",
    )
    parser.add_argument(
        "--top",
        metavar="K",
        type=whole(1, _MOST_ANSWERS),
        default=5,
        help="explain the K likeliest; default: 5",
    )
    parser.add_argument(
        "--contrast", metavar=("A", "B"), nargs=2, help="explain why answer A rather than B"
    )
    methods_argument(parser)


def checked(args: argparse.Namespace) -> str:
    """The kind of model that is asked; ValueError for options that do not go together."""
    for name in ("caption", "question"):
        text = getattr(args, name)
        if text is not None and not text.strip():
            raise ValueError(f"--{name} is empty: give at least one word")
    if args.caption is not None and args.question is not None:
        raise ValueError("--caption and --question: give one of them")
    if args.caption is not None and (args.answers or args.contrast):
        raise ValueError("--caption and --answers or --contrast: give one of them")
    if args.answers and args.contrast:
        raise ValueError("--answers and --contrast: give one of them")
    if args.contrast and args.contrast[0] == args.contrast[1]:
        raise ValueError(f"--contrast of {args.contrast[0]!r} with itself: give two answers")
    if args.question is None and (args.answers or args.contrast):
        _check_compare_texts(args.models if "models" in args else [args.model])
        return MATCHER
    return "captioner" if args.question is None else "vqa"


def _check_compare_texts(models: Sequence[str]) -> None:
    for model in models:
        if not compares_texts(model):
            raise ValueError(
                f"{model}: --answers and --contrast go with a --question, unless a model compares"
                " texts with a photo (see vlcam models)"
            )


def stem(photo: str) -> str:
    """The photo's name without its suffix, where that can be a folder's name."""
    path = Path(photo)
    return path.name if path.stem in (".", "..") else path.stem


def complain(message: str) -> None:
    print(f"vlcam: {flat(message)}", file=sys.stderr)
