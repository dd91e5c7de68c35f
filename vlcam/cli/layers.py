"""``vlcam layers``: one photo explained at many layers. Light to import."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlcam.cli.arguments import CollectDistinct, add_asking, checked, model_argument, names, stem
from vlcam.utils.outputs import check_apart, check_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", metavar="PHOTO", help="JPEG, PNG, WebP, ...")
    model_argument(parser)
    add_asking(parser)
    parser.add_argument(
        "--layers",
        metavar="NAME",
        nargs="+",
        type=names,
        action=CollectDistinct,
        help="A B or A,B; default: the CNN's blocks and poolings, in order",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("layers"),
        help="layers.png and a folder for each layer (of several methods: for each method, with one"
        " for each layer) go into DIR/<photo>; default: layers",
    )


def run(args: argparse.Namespace) -> int:
    kind = checked(args)
    out = args.out / stem(args.photo)
    check_apart(out / "layers.png", args.photo)
    check_folder(out)
    from vlcam.cli.sweep import depths, sweep, write
    from vlcam.models import load

    asked = {"question": args.question, "answers": args.answers, "top": args.top}
    asked = {"caption": args.caption} if kind == "captioner" else asked
    if args.contrast:
        asked["contrast"] = tuple(args.contrast)
    layers = args.layers or depths(load(args.model, kind=kind))
    found = sweep(
        lambda layer: load(args.model, layer, kind), layers, args.photo, args.methods, **asked
    )
    write(found, out)
    print(f"{args.photo}: {found[0][0].text}")
    for explanation in (one for row in found for one in row):
        told = (f"{item.text} {item.peak[0]},{item.peak[1]}" for item in explanation.items)
        by = f"{explanation.method:20} " if len(args.methods) > 1 else ""
        print(f"  {explanation.layer:20} {by}{'  '.join(told)}")
    print(f"  -> {out / 'layers.png'}")
    return 0
