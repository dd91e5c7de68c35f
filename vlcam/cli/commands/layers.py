"""``vlcam layers``: photos explained at many layers, or layers and methods compared on them.

Light to import.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import Any

from vlcam.attribution import methods as named
from vlcam.cli.arguments import (
    CollectDistinct,
    add_asking,
    checked,
    model_argument,
    names,
    stem,
)
from vlcam.models import find, load
from vlcam.utils.files.outputs import check_apart, check_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="JPEG, PNG, WebP, ...")
    model_argument(parser)
    add_asking(parser)
    parser.set_defaults(methods=None)  # it depends on --score
    parser.add_argument(
        "--layers",
        metavar="NAME",
        nargs="+",
        type=names,
        action=CollectDistinct,
        help="A B or A,B; default: the CNN's blocks and poolings, in order; with --score a few of"
        " them",
    )
    parser.add_argument(
        "--score",
        action="store_true",
        help="measure how faithful the methods' maps (default: grad-cam,hirescam,layercam) are to"
        " the model at these layers, over all photos, and recommend one",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("layers"),
        help="layers.png and a folder for each layer (of several methods: for each method, with one"
        " for each layer) go into DIR/<photo>, of --score scores.md and scores.json into DIR;"
        " default: layers",
    )


def run(args: argparse.Namespace) -> int:
    kind = checked(args)
    for name in args.methods or ():
        _ = named.get(name) if args.score else named.at_layer(name)
    from vlcam.photo.loading import size_of

    for photo in args.photos:
        size_of(photo)
    if args.score:
        return _score(args, kind)
    outs = {photo: args.out / stem(photo) for photo in dict.fromkeys(args.photos)}
    for photo, out in outs.items():
        if list(outs.values()).count(out) > 1:
            raise ValueError(f"{photo}: another photo's layers go into {out}, too; rename one")
        check_apart(out / "layers.png", photo)
        check_folder(out)
    find(args.model, kind)
    from vlcam.choosing.layers import depths
    from vlcam.cli.sweep import sweep, write

    methods = args.methods or ("grad-cam",)
    model = load(args.model, kind=kind)
    layers, at = args.layers or depths(model), cache(model.at_layer)
    for photo, out in outs.items():
        found = sweep(at, layers, photo, methods, **_asked(args, kind))
        write(found, out)
        print(f"{photo}: {found[0][0].text}")
        if found[0][0].unlike:
            print(f"  {found[0][0].unlike}")
        for explanation in (one for row in found for one in row):
            told = (f"{item.text} {_at(item)}" for item in explanation.items)
            by = f"{explanation.method:20} " if len(methods) > 1 else ""
            print(f"  {explanation.layer:20} {by}{'  '.join(told)}")
        print(f"  -> {out / 'layers.png'}")
    return 0


def _at(item: Any) -> str:
    """Where the map of a word or an answer peaks, in pixels of the photo."""
    return "no map" if item.degenerate else f"{item.peak[0]},{item.peak[1]}"


def _asked(args: argparse.Namespace, kind: str) -> dict[str, Any]:
    asked = {"question": args.question, "answers": args.answers, "top": args.top}
    asked = {"caption": args.caption} if kind == "captioner" else asked
    if args.contrast:
        asked["contrast"] = tuple(args.contrast)
    return asked


def _score(args: argparse.Namespace, kind: str) -> int:
    check_apart(args.out, *args.photos)
    check_folder(args.out)
    find(args.model, kind)
    from vlcam.choosing.choose import METHODS, choose

    model = load(args.model, kind=kind)
    methods, asked = args.methods or METHODS, {"top": args.top} | _asked(args, kind)
    found = choose(model, args.photos, layers=args.layers, methods=methods, **asked)
    found.save(args.out)
    print(f"{found}\n  -> {args.out / 'scores.md'}")
    return 0
