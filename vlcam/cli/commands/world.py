"""``vlcam world``: measure what a model's training photos look like. Light to import."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from vlcam.cli import early
from vlcam.utils.files.outputs import check_folder
from vlcam.utils.files.text_files import read_lines

_SHARE = 0.2  # of the photos that are held out where no others are given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="DIR", type=early.folder, help="a folder that vlcam train made"
    )
    where = "a folder, or a text file with a photo's path a line (from the file's own folder)"
    parser.add_argument(
        "--photos",
        metavar="WHERE",
        type=early.file_or_folder,
        required=True,
        help=f"its training photos: {where}",
    )
    parser.add_argument(
        "--test",
        metavar="WHERE",
        type=early.file_or_folder,
        help="photos of the same kind that it was not trained on; default: a fifth of --photos",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        type=early.folder,
        help="the folder that the text files' paths begin in",
    )
    parser.add_argument(
        "--name", metavar="TEXT", required=True, help='what they are, such as "rendered scenes"'
    )
    parser.add_argument(
        "--instead",
        metavar="TEXT",
        default="",
        help='what to do with others, such as "For real photos: --model photos"',
    )
    parser.add_argument("--seed", metavar="S", type=early.natural, default=0, help="default: 0")


def run(args: argparse.Namespace) -> int:
    train = photos(args.photos, args.root)
    held_out = photos(args.test, args.root) if args.test else []
    if not held_out:
        random.Random(args.seed).shuffle(train)
        held_out = train[: int(_SHARE * len(train))]
        train = train[len(held_out) :]
    check_folder(args.model)
    from typing import Any

    from vlcam.formats.world import WORLD
    from vlcam.models import load
    from vlcam.networks.encoder import Encoder
    from vlcam.training.world import know_world
    from vlcam.utils.files.atomic import folder_written

    module: Any = load(args.model).module
    encoder = getattr(module, "encoder", None)
    if not isinstance(encoder, Encoder):
        raise ValueError(f"{args.model}: no model of ours with a CNN, as vlcam train makes them")
    world = know_world(
        encoder,
        module.config.preprocess,
        train,
        held_out,
        world=args.name,
        instead=args.instead,
        seed=args.seed,
    )
    with folder_written(args.model) as draft:
        world.save(draft)
    print(
        f"{args.model / WORLD}: {args.name}; a photo farther than {world.threshold:.2f} times"
        " the average training photo is told of"
    )
    return 0


def photos(where: Path, root: Path | None = None) -> list[Path]:
    """The photos in a folder and all below it, by name; or those that a text file lists.

    Raises:
        ValueError: there are none, or one is missing.
    """
    from vlcam.photo.loading import is_picture

    if where.is_dir():
        found = sorted(p for p in where.rglob("*") if is_picture(p))
    else:
        found = [(root or where.parent) / line for line in read_lines(where)]
        missing = next((path for path in found if not path.is_file()), None)
        if missing is not None:
            raise ValueError(f"{where}: {missing}: no such file")
    if not found:
        raise ValueError(f"{where}: no photo there")
    return found
