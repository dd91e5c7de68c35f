"""The options of ``vlcam evaluate regions``. Light to import: ``vlcam --help`` imports it."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from vlcam.cli import early, evaluate
from vlcam.cli.early import count

if TYPE_CHECKING:
    from captioning.experiments.regions import BoxRatios


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--regions",
        metavar="FILE|densecap",
        type=partial(early.file_or_folder, names=("densecap",)),
        required=True,
        help="region captions with boxes: densecap, the bundled dense captioner, or the folder of"
        " one that vlcam train densecap made; region_descriptions.json of Visual Genome,"
        " results.json of DenseCap, COCO's layout with captions and boxes, or Flickr30k Entities"
        " (a folder or zip)",
    )
    add(
        "--photos",
        metavar="DIR",
        type=early.folder,
        required=True,
        help="the photos, in this folder or one in it",
    )
    add("--names", metavar="FILE", type=early.file, help="a list of the photos to use, one a line")
    add(
        "--protocol",
        choices=("alone", "sentence"),
        default="alone",
        help="a region's caption by itself (the paper's way), or in the sentence it is from",
    )
    add(
        "--top",
        metavar="K",
        type=count,
        default=5,
        help="of a dense captioner's; default: 5",
    )
    evaluate.add_arguments(parser, "regions")


def run(args: argparse.Namespace) -> int:
    def experiment() -> BoxRatios:
        from captioning.experiments.regions import BoxRatios
        from vlcam.utils.files.text_files import read_lines

        names = read_lines(args.names) if args.names else None
        return BoxRatios(
            args.regions,
            args.photos,
            names=names,
            protocol=args.protocol,
            top=args.top,
            limit=args.limit,
            seed=args.seed,
        )

    return evaluate.run(args, experiment)
