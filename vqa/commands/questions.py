"""The options of ``vlcam questions``. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlcam.cli import early
from vlcam.utils.files.outputs import check_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--data",
        metavar="DIR",
        type=early.folder,
        required=True,
        help="photos in Flickr8k's layout",
    )
    add(
        "--entities",
        metavar="PATH",
        type=early.file_or_folder,
        required=True,
        help="folder or zip archive of Flickr30k Entities: Sentences/ and Annotations/",
    )
    add("--out", metavar="DIR", type=Path, required=True, help="a new folder, in VQA's layout")
    add(
        "--least",
        metavar="N",
        type=early.natural,
        default=5,
        help="leave out answers given to fewer training questions than this; default: 5",
    )


def run(args: argparse.Namespace) -> int:
    """Write them; 0 if all went well. ValueError where it cannot be done."""
    if args.out.exists():
        raise ValueError(f"{args.out}: exists already; name a new folder")
    check_folder(args.out)
    from vqa.data.make_questions import write

    counts = write(args.data, args.entities, out=args.out, least=args.least)
    for split, count in counts.items():
        print(f"{split}: {count} questions")
    return 0
