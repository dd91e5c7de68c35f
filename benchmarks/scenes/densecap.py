"""The bundled dense captioner on scenes it has never seen.

    vlcam scenes /tmp/unseen --images 1000 --seed 20261125
    python -m benchmarks.scenes.densecap --scenes /tmp/unseen

How many of its surest regions lie on a true one (IoU of at least 0.5), and what is said of those
names the thing that is there, in its colours; and how many of the true ones are found.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torchvision.ops import box_iou

from benchmarks.shared import program, report
from captioning.data import regions
from captioning.models import densecap
from captioning.models.densecap import Described, Source
from vlcam.evaluation.tables import table
from vlcam.formats.vocabulary import words_of
from vlcam.photo.loading import load_photo
from vlcam.scenes.colours import COLOURS
from vlcam.scenes.text import category_of
from vlcam.utils.terminal import progress

ALIKE = 0.5


def named(texts: list[str]) -> set[str]:
    """The categories that phrases name."""
    words = [word for text in texts for word in words_of(text)]
    return {found for word in words if (found := category_of(word)) is not None}


def colours(texts: list[str]) -> set[str]:
    return {word for text in texts for word in words_of(text)} & set(COLOURS)


def judge(
    photo: regions.Photo, described: list[Described], *, top: int, results: report.Table
) -> None:
    """Adds a photo's surest regions to the results."""
    true: dict[tuple[float, ...], list[str]] = {}
    for region in photo.regions:
        true.setdefault(region.boxes[0], []).append(region.text)
    boxes = torch.tensor(list(true))
    some = described[:top]
    alike = box_iou(torch.tensor([one.box for one in some]).reshape(-1, 4), boxes)
    row, name = f"the surest {top}", photo.name
    for one, overlaps in zip(some, alike, strict=True):
        best = int(overlaps.argmax())
        on = overlaps[best].item() >= ALIKE
        results.add(row, "on a region", on, photo=name)
        if not on:
            continue
        said = list(true.values())[best]
        results.add(row, "names the thing", named([one.text]) == named(said), photo=name)
        if colours([one.text]):
            right = colours([one.text]) <= colours(said)
            results.add(row, "colours are said of it", right, photo=name)
    for found in (alike >= ALIKE).any(0).tolist() if some else [False] * len(boxes):
        results.add(row, "true ones found", found, photo=name)


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--scenes", type=Path, required=True, help="vlcam scenes wrote")
    parser.add_argument("--model", type=Path, default=densecap.BUNDLED)
    parser.add_argument("--top", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--photos", type=int, help="only so many")
    program.run(parser, measure)


def measure(args: argparse.Namespace) -> tuple[str, list[str]]:
    source = Source.found(args.model)
    if source is None:
        raise ValueError(f"{args.model}: no dense captioner")
    found = regions.read(args.scenes / "annotations" / "region_descriptions.json", args.scenes)
    photos = found.photos[: args.photos]
    results = report.Table()
    for photo in progress.each(photos, "photos", unit="photo"):
        described = source.model.describe(load_photo(photo.path), max(args.top))
        for top in args.top:
            judge(photo, described, top=top, results=results)
    columns = ("on a region", "names the thing", "colours are said of it", "true ones found")
    rows = [
        (row, results.count(row, columns[0]), *(results.share(row, column) for column in columns))
        for row in (f"the surest {top}" for top in args.top)
    ]
    text = (
        "Shares in %. On a region: of those described, IoU of at least 0.5 with a true one. Names"
        " the thing: of those, the category that the true region's phrases name and no other."
        " Colours: of those with a colour, all of them are in the true region's phrases (which do"
        " not say all there are to see). Found: of the true ones.\n\n"
        + table(("regions", "described", *columns), rows)
    )
    return f"Dense captioner on {len(photos)} scenes", [text]


if __name__ == "__main__":
    main()
