"""What the peak of a map at a photo's edge is worth: perfect maps of one cell, on COCO's masks.

    python -m benchmarks.real.cells --instances DIR/coco/annotations/instances_val2017.json

Of each category in each photo, every cell that its mask covers in part is the one cell of a map.
Its peak is the cell's centre (:mod:`vlcam.geometry.peaks`); beside it stands what vlcam took
before: the first of the pixels where the map, drawn at photo size, is highest. No model is asked.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.shared import pointing, program, report
from vlcam.evaluation.tables import table
from vlcam.geometry.grid import Grid, Placement, place
from vlcam.geometry.peaks import peaks
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.terminal import progress

SQUARE = Preprocess()
LAYERS = {
    "14 x 14 patches of 16 pixels (ViT, VGG-16)": (Grid.patches((224, 224), 16), SQUARE),
    "7 x 7 patches of 32 pixels (ConvNeXt)": (Grid.patches((224, 224), 32), SQUARE),
    "8 x 8 cells of Inception v3 (Show and Tell)": (
        Grid((8, 8), (37.0, 37.0), (32.0, 32.0)),
        Preprocess((299, 299), resize_to=(346, 346)),
    ),
    "14 x 14 cells from the edge on (MobileNetV2 at 448 pixels)": (
        Grid((14, 14), (0.0, 0.0), (32.0, 32.0)),
        Preprocess((448, 448)),
    ),
    "20 x 20 cells from the edge on (the bundled models)": (
        Grid((20, 20), (0.0, 0.0), (16.0, 16.0)),
        Preprocess((320, 320)),
    ),
}
WHERE = ("top row", "left column", "all cells")
Points = NDArray[np.intp]
"""Of each cell the pixel (x, y) of the photo, (u, v, 2)."""


def first_of_equals(grid: Grid, placement: Placement) -> Points:
    """The first of the pixels where each cell's map is highest."""
    found = np.empty((*grid.size, 2), np.intp)
    for row in range(grid.size[0]):
        maps = torch.zeros(grid.size[1], *grid.size)
        maps[range(grid.size[1]), row, range(grid.size[1])] = 1
        drawn = place(maps, grid, placement).flatten(1).numpy().argmax(1)
        y, x = np.divmod(drawn, placement.photo_size[1])
        found[row] = np.stack([x, y], -1)
    return found


def centres(grid: Grid, placement: Placement) -> Points:
    """The peak of each cell's map."""
    cells = grid.size[0] * grid.size[1]
    found = peaks(torch.eye(cells).view(cells, *grid.size), grid, placement)
    return np.array([peak.point for peak in found]).reshape(*grid.size, 2)


@cache
def both(layer: str, size: tuple[int, int]) -> tuple[Placement, tuple[Points, Points]]:
    """Of photos of (height, width)."""
    grid, preprocess = LAYERS[layer]
    placement = preprocess.geometry(size)[1]
    return placement, (first_of_equals(grid, placement), centres(grid, placement))


def covered(mask: NDArray[np.bool_], points: Points) -> NDArray[np.bool_]:
    """Which cells a mask covers in part, (u, v): those whose centre is the nearest to one of its
    pixels."""
    rows, columns = points[:, 0, 1], points[0, :, 0]
    y, x = np.nonzero(mask)
    lines = [
        np.searchsorted((places[1:] + places[:-1]) / 2, at)
        for places, at in ((rows, y), (columns, x))
    ]
    found = np.zeros(points.shape[:2], bool)
    found[lines[0], lines[1]] = True
    return found


def evaluate(instances: Path, limit: int | None) -> tuple[int, report.Table]:
    """How many photos, and the hits by layer, place of the cell and kind of peak."""
    coco, results = pointing.instances(instances), report.Table()
    images = sorted(coco.imgs)[:limit]
    for image in progress.each(images, "photos", unit="photo"):
        about = coco.imgs[image]
        masks = pointing.Masks(coco, image)
        for layer in LAYERS:
            _, kinds = both(layer, (about["height"], about["width"]))
            for category in masks.present:
                mask, _ = masks(category)
                rows, columns = np.nonzero(covered(mask, kinds[1]))
                for name, points in zip(("first", "centre"), kinds, strict=True):
                    x, y = points[rows, columns].T
                    for row, column, on_it in zip(rows, columns, mask[y, x], strict=True):
                        at = [row == 0, column == 0, True]
                        for where in np.array(WHERE)[at]:
                            results.add(layer, f"{where}, {name}", float(on_it), photo=image)
    return len(images), results


def lines(results: report.Table) -> Sequence[Sequence[object]]:
    return [
        (
            layer,
            where,
            results.share(layer, f"{where}, first"),
            results.share(layer, f"{where}, centre"),
            results.count(layer, f"{where}, centre"),
        )
        for layer in LAYERS
        for where in WHERE
    ]


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--instances", type=Path, required=True, help="COCO's, of some split")
    parser.add_argument("--limit", type=int, help="the first so many photos")
    program.run(parser, perfect_maps)


def perfect_maps(args: argparse.Namespace) -> tuple[str, list[str]]:
    photos, results = evaluate(args.instances, args.limit)
    columns = ("layer", "cells", "first highest pixel, %", "centre of the cell, %", "maps")
    said = f"Hits of perfect maps of one cell, of each category in {photos} COCO photos:"
    return "Where a perfect map peaks", [said, table(columns, lines(results))]


if __name__ == "__main__":
    main()
