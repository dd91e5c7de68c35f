"""The options of ``vlcam evaluate words``. Light to import: ``vlcam --help`` imports it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vlcam.cli import early, evaluate
from vlcam.cli.early import count
from vlcam.utils.files.input_files import check_file

if TYPE_CHECKING:
    from captioning.experiments.words import Words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--data",
        metavar="DIR",
        type=early.folder,
        required=True,
        help="COCO's layout: annotations/{instances,captions}_SPLIT.json, photos in SPLIT/",
    )
    add(
        "--split", metavar="NAME", default="", help="val2017, say; default: none, photos in images/"
    )
    add(
        "--captions",
        choices=("reference", "first", "generated"),
        default="reference",
        help="whose words: all reference captions, the first, or the model's own",
    )
    add("--beam", metavar="N", type=count, default=1, help="for generated captions; default: 1")
    add("--tolerance", metavar="PIXELS", type=early.amount, default=15.0, help="default: 15")
    add(
        "--words",
        metavar="FILE",
        type=early.file,
        help="visual words to add; see word_maps/table.txt",
    )
    evaluate.add_arguments(parser, "words")


def run(args: argparse.Namespace) -> int:
    def check() -> None:
        from word_maps.coco import annotation_file

        for kind in ("instances", "captions"):
            check_file(annotation_file(args.data, kind, args.split))

    def experiment() -> Words:
        from captioning.experiments.words import Words

        return Words(
            args.data,
            split=args.split,
            captions=args.captions,
            limit=args.limit,
            seed=args.seed,
            tolerance=args.tolerance,
            beam=args.beam,
            table=args.words,
        )

    return evaluate.run(args, experiment, check)
