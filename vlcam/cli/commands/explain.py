"""``vlcam explain``: photos captioned, or asked about, and explained. Light to import."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vlcam.attribution import methods
from vlcam.cli import early
from vlcam.cli.arguments import DEVICE, add_asking, checked, complain, models_argument
from vlcam.cli.early import count
from vlcam.models import find, load
from vlcam.utils.files.outputs import check_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="JPEG, PNG, WebP, ...")
    models_argument(parser)
    add_asking(parser)
    parser.add_argument(
        "--target",
        choices=("word", "caption"),
        default="word",
        help="a map for each word, or one for the whole caption; default: word",
    )
    parser.add_argument("--layer", metavar="NAME", help="the explained layer; default: the model's")
    parser.add_argument(
        "--size",
        metavar="PIXELS",
        type=count,
        help="height and width photos are stretched to, of a CNN that takes any: a larger one"
        " gives finer maps; default: the model's",
    )
    parser.add_argument("--device", metavar="NAME", type=early.device, help=DEVICE)
    parser.add_argument(
        "--beam",
        metavar="N",
        type=early.whole(1, _WIDEST_BEAM),
        help="width of the beam search that writes; 1 is greedy; default: the model's own",
    )
    for name, text in (
        ("size", "side of the square that --method occlusion covers the input with; default: 45"),
        ("stride", "from one place of it to the next; default: 8"),
    ):
        option = f"--patch-{name}"
        parser.add_argument(option, metavar="PIXELS", type=count, help=text)
    parser.add_argument(
        "--patch-fill",
        metavar="VALUE",
        type=early.number,
        help="its value, in units of normalised pixels; default: 0, the mean colour",
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse a caption with words the model does not know"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("explained"),
        help="a folder for each photo goes in here (of several models or methods: a folder for each"
        " of these, and compared/), and of several photos index.html; default: explained",
    )


_WIDEST_BEAM = 100
"""Wider ones need much memory, and captions hardly change from 5 on."""


def run(args: argparse.Namespace) -> int:
    kind = checked(args)
    chosen = [methods.get(name) for name in args.methods]
    patch = {
        name: value
        for name in ("size", "stride", "fill")
        if (value := getattr(args, f"patch_{name}")) is not None
    }
    if patch and all(method.at != "patches" for method in chosen):
        raise ValueError(f"--patch-{next(iter(patch))} goes with --method occlusion")
    check_folder(args.out)
    if wrong := early.complaints(args.photos):
        for line in wrong:
            complain(line)
        return _failed(args.photos, args.photos)
    for name in args.models:
        find(name, kind)
    from vlcam.attribution.occlusion import Patch
    from vlcam.cli.batch import compare, explain_photos, write_index
    from vlcam.explaining import Request

    size = (args.size, args.size) if args.size else None
    models = [
        (name, load(name, layer=args.layer, kind=kind, size=size, device=args.device))
        for name in args.models
    ]
    request = Request(
        caption=args.caption,
        question=args.question,
        answers=tuple(args.answers) if args.answers else None,
        contrast=tuple(args.contrast) if args.contrast else None,
        top=args.top,
        methods=tuple(args.methods),
        target=args.target,
        beam=args.beam,
        strict=args.strict,
        patch=Patch(**patch) if patch else None,
    )
    if len(models) > 1 or len(chosen) > 1:
        done = compare(models, args.photos, request, args.out, tell=complain, debug=args.debug)
    else:
        ((_, model),) = models
        done = explain_photos(
            model, args.photos, request, args.out, tell=complain, debug=args.debug
        )
    failed = done.failed
    if len(failed) < len(args.photos):
        for caveat in dict.fromkeys(method.caveat for method in chosen if method.caveat):
            print(caveat)
    if done.found and len(args.photos) > 1:
        index = write_index(done, args.out, tell=complain)
        print(f"\nOpen {index} in a browser.")
    return _failed(failed, args.photos)


def _failed(failed: Sequence[str], photos: Sequence[str]) -> int:
    """Says which photos failed; of a single one, all has been said. The exit code."""
    if failed and len(photos) > 1:
        complain(f"{len(failed)} of {len(photos)} photos failed: {', '.join(failed)}")
    return 1 if failed else 0
