"""``vlcam regions``: regions of photos, described. Light to import: ``vlcam --help`` imports it."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from vlcam.cli import early
from vlcam.cli.arguments import complain
from vlcam.cli.early import count
from vlcam.utils.files.outputs import check_apart, check_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("photos", metavar="PHOTO", nargs="+", help="JPEG, PNG, WebP, ...")
    add(
        "--model",
        metavar="densecap|DIR",
        type=partial(early.file_or_folder, names=("densecap",)),
        default=Path("densecap"),
        help="a folder that vlcam train densecap made; default: the bundled one, of scenes",
    )
    add("--top", metavar="K", type=count, default=5, help="the surest K; default: 5")
    add(
        "--out",
        metavar="FILE",
        type=Path,
        help="write them as DenseCap's results.json, which vlcam evaluate regions reads",
    )


def run(args: argparse.Namespace) -> int:
    """Describe; 0 if all went well, 1 where a photo could not be read."""
    if args.out:
        check_apart(args.out, *args.photos)
        check_file(args.out)
    if wrong := early.complaints(args.photos):
        for line in wrong:
            complain(line)
        return 1
    from captioning.data.regions import write_densecap
    from captioning.models.densecap import Described, Source
    from vlcam.formats.world import Likeness
    from vlcam.photo.loading import load_photo
    from vlcam.utils.messages.errors import one_line
    from vlcam.utils.terminal import progress

    source = Source.found(args.model)
    if source is None:
        raise ValueError(
            f"{args.model}: no dense captioner; a folder that vlcam train densecap made"
        )
    found: dict[Path, tuple[tuple[int, int], list[Described]]] = {}
    likenesses: dict[Path, Likeness] = {}
    failed = 0
    for path in progress.each([*map(Path, args.photos)], "photos", unit="photo"):
        try:
            photo = load_photo(path)
        except ValueError as error:
            with progress.aside():
                complain(one_line(error))
            failed += 1
            continue
        described, likeness = source.model.told(photo, args.top)
        found[path] = (photo.height, photo.width), described
        with progress.aside():
            print(path)
            if likeness:
                likenesses[path] = likeness
                if likeness.line:
                    print(f"  {likeness.line}")
            for one in described:
                corners = " ".join(f"{round(edge):4}" for edge in one.box)
                print(f"  {one.score:.2f}  {corners}  {one.text}")
    if args.out and found:
        write_densecap(args.out, found, likenesses)
        print(f"-> {args.out}")
    return 1 if failed else 0
