"""Where maps are highest: at their cells' centres, against values worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from vlcam.geometry.grid import Boxes, Grid, Placement, place
from vlcam.geometry.peaks import Peak, peaks
from vlcam.photo.preprocess import Preprocess

VGG = Grid((14, 14), (7.5, 7.5), (16.0, 16.0))
RESNET = Grid((7, 7), (0.0, 0.0), (32.0, 32.0))
INCEPTION = Grid((8, 8), (37.0, 37.0), (32.0, 32.0))
SHOW_AND_TELL = Preprocess(size=(299, 299), resize_to=(346, 346), interpolation="tensorflow1")
TILES = Grid(  # two tiles of three cells of 14 pixels and two pixels to spare, as SmolVLM's may be
    (6, 3), (0.0, 0.0), (1.0, 1.0), ((6.5, 20.5, 34.5, 50.5, 64.5, 78.5), (6.5, 20.5, 34.5))
)

SEEN: dict[str, tuple[Grid, Placement]] = {
    "patches": (Grid.patches((224, 224), 16), Preprocess().geometry((480, 640))[1]),
    "patches, upright": (
        Grid.patches((384, 384), 32),
        Preprocess((384, 384)).geometry((90, 60))[1],
    ),
    "VGG": (VGG, Preprocess().geometry((333, 500))[1]),
    "VGG, 1:1": (VGG, Placement.identity((224, 224))),
    "VGG, cropped": (VGG, Preprocess(resize="crop").geometry((375, 500))[1]),
    "VGG, far cropped": (VGG, Preprocess(resize="crop").geometry((100, 900))[1]),
    "VGG, torchvision's crop": (
        VGG,
        Preprocess(resize="torchvision", resize_to=(256, 256)).geometry((500, 375))[1],
    ),
    "VGG, letterboxed": (VGG, Preprocess(resize="letterbox").geometry((200, 700))[1]),
    "VGG, letterboxed, upright": (VGG, Preprocess(resize="letterbox").geometry((700, 200))[1]),
    "VGG, Torch7": (VGG, Preprocess(interpolation="torch7").geometry((100, 150))[1]),
    "ResNet": (RESNET, Preprocess().geometry((480, 640))[1]),
    "ResNet, cropped": (RESNET, Preprocess(resize="crop").geometry((480, 640))[1]),
    "ResNet, letterboxed": (RESNET, Preprocess(resize="letterbox").geometry((480, 640))[1]),
    "Inception": (INCEPTION, SHOW_AND_TELL.geometry((480, 640))[1]),
    "tiles": (TILES, Placement.resized((170, 60), (86, 42))),
    "pooled": (VGG.pooled((9, 5)), Preprocess().geometry((480, 640))[1]),
    "mirrored": (Grid((4, 5), (7.5, 207.5), (16.0, -16.0)), Preprocess().geometry((90, 120))[1]),
    "one row": (Grid((1, 7), (111.5, 15.5), (224.0, 32.0)), Preprocess().geometry((90, 120))[1]),
    "small photo": (VGG, Preprocess().geometry((9, 20))[1]),
    "pixels": (Grid.pixels((12, 30)), Placement.resized((24, 45), (12, 40), (12, 30))),
}


def every_cell(grid: Grid) -> Iterator[tuple[int, int, Tensor]]:
    """Each cell, and the map that is 1 there and 0 elsewhere."""
    for row in range(grid.size[0]):
        for column in range(grid.size[1]):
            one_hot = torch.zeros(1, *grid.size)
            one_hot[0, row, column] = 1
            yield row, column, one_hot


@pytest.mark.parametrize("kind", SEEN)
def test_every_cell_peaks_at_its_centre(kind: str) -> None:
    """Where the centre is shown; else at the shown pixel that is nearest to it, on either axis. It
    is where the placed map is highest."""
    grid, placement = SEEN[kind]
    shown = [placement.shown(axis) for axis in (0, 1)]
    hidden = 0
    for row, column, one_hot in every_cell(grid):
        ((x, y), flat) = peaks(one_hot, grid, placement)[0]
        drawn = place(one_hot.double(), grid, placement)[0]
        if drawn.max() == 0:
            assert flat, "none of it is shown"
            hidden += 1
            continue
        assert not flat
        centre = placement.to_photo(*grid.center(row, column))
        for pixel, at, pixels in zip((y, x), centre, shown, strict=True):
            nearest = min(max(at, pixels[0]), pixels[-1])
            assert abs(pixel - nearest) < 1, (row, column)
        assert drawn[y, x] == pytest.approx(drawn.max().item(), rel=1e-9), (row, column)
    assert (hidden > 0) == (kind in ("VGG, letterboxed", "VGG, letterboxed, upright"))


def test_the_corner_of_show_and_tell() -> None:
    """By hand: cell 0 lies at pixel 37 of the crop, 60 of the 346 that 640 x 480 were made."""
    placement = Placement.resized((480, 640), (346, 346), (299, 299), corner=(23, 23))
    assert placement.to_photo(37, 37) == pytest.approx(
        (60.5 * 480 / 346 - 0.5, 60.5 * 640 / 346 - 0.5)
    )
    corner = next(every_cell(INCEPTION))[2]
    assert peaks(corner, INCEPTION, placement) == [((111, 83), False)]


def test_halves_of_a_pixel_go_up_and_left_but_for_the_last_cell() -> None:
    """7.5, 23.5 ... 215.5: the placed map of the last is highest from pixel 216 on."""
    grid, placement = SEEN["VGG, 1:1"]
    found = [peaks(one_hot, grid, placement)[0].point for *_, one_hot in every_cell(grid)]
    expected = [*range(7, 208, 16), 216]
    assert found == [(x, y) for y in expected for x in expected]


def random_placements(rng: np.random.Generator) -> Iterator[tuple[Grid, Placement]]:
    """Of which each cell's centre is a pixel's: odd strides, and a scale of 1."""
    for _ in range(60):
        size = rng.integers(1, 7, 2)
        stride = 2 * rng.integers(0, 4, 2) + 1
        offset = rng.integers(0, 5, 2)
        ends = offset + stride * (size - 1) + rng.integers(1, 6, 2)
        corner = rng.integers(-4, 5, 2)
        photo = np.maximum(ends + rng.integers(-4, 5, 2), 5)
        y, x = (int(n) for n in -corner)
        rows, columns = (int(n) for n in photo)
        height, width = (int(n) for n in ends)
        grid = Grid(
            (int(size[0]), int(size[1])),
            (float(offset[0]), float(offset[1])),
            (float(stride[0]), float(stride[1])),
        )
        yield grid, Placement((rows, columns), (height, width), (1.0, 1.0), (y, x))


def test_against_the_placed_map() -> None:
    """The slow, obvious way: a map at photo size, and its highest shown pixels."""
    rng = np.random.default_rng(0)
    several = 0
    for grid, placement in random_placements(rng):
        rows, columns = (placement.shown(axis) for axis in (0, 1))
        levels = rng.integers(2, 5)
        maps = torch.from_numpy(rng.integers(-3, levels - 3, (20, *grid.size)) / 3).float()
        drawn = place(maps.double(), grid, placement)
        for seen, ((x, y), flat) in zip(drawn, peaks(maps, grid, placement), strict=True):
            inside = seen[rows.start : rows.stop, columns.start : columns.stop]
            if not inside.numel():
                assert flat
                continue
            assert flat == (bool((inside.max() - inside.min()) < 1e-9))
            if not flat:
                assert y in rows and x in columns
                assert seen[y, x] == pytest.approx(inside.max().item(), abs=1e-9)
                several += int((inside > inside.max() - 1e-9).sum() > 1)
    assert several > 300


@pytest.mark.parametrize(
    ("rows", "point"),
    [
        (["0110", "0000", "0000"], (20, 5)),  # between the two
        (["0111", "0111", "0000"], (25, 10)),
        (["1000", "1000", "1110"], (5, 15)),  # its mean, (11, 19), lies off it
        (["1110", "1010", "1110"], (15, 5)),  # around a hole
        (["1001", "1011", "0000"], (35, 15)),  # the larger one, of which the mean lies off it
        (["1000", "0000", "0001"], (5, 5)),  # the first of equals
        (["1000", "0100", "0010"], (5, 5)),  # cells that touch at a corner: it is lower between
        (["1111", "1111", "1110"], (19, 14)),  # (18.6, 14.1)
    ],
)
def test_the_centre_of_a_plateau(rows: list[str], point: tuple[int, int]) -> None:
    grid = Grid((3, 4), (5.0, 5.0), (10.0, 10.0))
    maps = torch.tensor([[float(cell) for cell in row] for row in rows])[None]
    for values in (maps, maps - 3, 1e-30 * maps, 0.1 + 0.2 * maps):
        ((found, flat),) = peaks(values, grid, Placement.identity((40, 40)))
        assert not flat
        assert found == point


def test_rounding_breaks_no_tie_at_the_edge_of_what_is_shown() -> None:
    """Cells 1 and 2 are equal, and the crop begins between them, at an odd share."""
    grid = Grid((1, 4), (0.0, 0.0), (10.0, 10.0))
    placement = Placement((1, 50), (1, 60), (1.0, 0.7), (0.0, 10.1))
    for value in (0.1, 0.3, 1 / 3, 0.7, 1e-5, 12345.678):
        maps = torch.tensor([[[0.0, value, value, 0.0]]])
        first, last = 0.0, (20.0 - 10.1) / 0.7
        ((x, _),) = [found.point for found in peaks(maps, grid, placement)]
        assert abs(x - (first + last) / 2) <= 0.5


def test_a_map_below_zero_on_a_photo_cropped() -> None:
    """What was cropped away is drawn as zero, more than anywhere else."""
    placement = Placement.resized((60, 240), (60, 240), (60, 80), corner=(0, 80))
    grid = Grid((6, 8), (4.5, 4.5), (10.0, 10.0))
    maps = torch.full((1, 6, 8), -2.0)
    maps[0, 3, 4] = -1.0
    assert peaks(maps, grid, placement) == [((124, 34), False)]


def test_maps_without_a_peak() -> None:
    grid = Grid((2, 3), (4.5, 4.5), (10.0, 10.0))
    maps = torch.zeros(7, 2, 3)
    maps[1] = 2
    maps[2, 1, 2] = 1
    maps[3] = torch.tensor([[0, 1, torch.nan], [0, 0, 0]])
    maps[4, 0, 1] = torch.inf
    maps[5, 0, 1] = -torch.inf
    maps[6] = 0.1
    none = Peak((0, 0), True)
    found = peaks(maps, grid, Placement.identity((20, 30)))
    assert found == [none, none, Peak((25, 15), False), none, none, none, none]
    beside = Placement.identity((20, 30)).__class__((20, 30), (20, 30), (1.0, 1.0), (50.0, 0.0))
    assert peaks(maps, grid, beside) == [none] * 7, "nothing of the photo is in the input"


def test_one_cell_alone_is_constant() -> None:
    grid = Grid((1, 1), (3.0, 3.0), (32.0, 32.0))
    assert peaks(torch.ones(1, 1, 1), grid, Placement.identity((8, 8)))[0].degenerate


def test_a_map_that_is_constant_where_it_is_shown() -> None:
    """It has a peak, but beside what the model saw of the photo."""
    grid = Grid((4, 4), (4.5, 4.5), (10.0, 10.0))
    placement = Placement((20, 40), (40, 40), (1.0, 1.0), (20.0, 0.0))  # the lower half
    maps = torch.full((2, 4, 4), 0.1)
    maps[0, 0, 0] = 1.0
    maps[1, 1, 0] = 1.0  # drawn in part: its centre is 5 pixels above the photo
    assert peaks(maps, grid, placement) == [((0, 0), True), ((4, 0), False)]


def test_boxes_peak_at_the_centre_of_their_shown_part() -> None:
    placement = Placement.resized((20, 40), (10, 20), (14, 24), corner=(-1, -2))
    corners = [[3.0, 2.0, 6.0, 4.0], [5.5, 0.0, 20.0, 3.0], [-9.0, 3.0, 6.0, 7.0], [40.0, 0, 50, 9]]
    boxes = Boxes.of_corners(torch.tensor(corners))
    maps = torch.tensor(
        [
            [1.0, 0, 0, 0],  # columns 2 ... 7, rows 2 ... 5
            [0, 1.0, 0, 0],  # columns 7 ... 35, rows 0 ... 3
            [-3.0, -2.0, -1.0, -2.0],  # columns 0 ... 7, rows 4 ... 11
            [0, 2.0, 2.0, 2.0],  # more is shown of the second
            [0, 0, 0, 1.0],  # beside the photo
            [5.0, 5.0, 5.0, 1.0],  # beside the photo, the lower one
        ]
    )[:, None]
    points = [(4, 3), (21, 1), (3, 7), (21, 1)]
    none = Peak((0, 0), True)
    assert peaks(maps, boxes, placement) == [*(Peak(p, False) for p in points), none, none]
    for (x, y), drawn in zip(points, place(maps, boxes, placement), strict=False):
        seen = drawn.masked_fill(place(torch.ones(1, 1, 4), boxes, placement)[0] == 0, -torch.inf)
        assert drawn[y, x] == seen.max()
    assert peaks(maps, Boxes(((50.0, 50.0, 60.0, 60.0),) * 4), placement) == [none] * 6


def test_maps_of_another_size_are_refused() -> None:
    for grid in (VGG, Boxes(((0.0, 0.0, 1.0, 1.0),))):
        with pytest.raises(ValueError, match=r"maps of \(7, 7\) cells do not fit a grid of \("):
            peaks(torch.zeros(1, 7, 7), grid, Placement.identity((9, 9)))


def test_a_small_peak_beside_a_deep_hole() -> None:
    maps = torch.tensor([[[0.0, 1e-6, 0.0, -1e4]]])
    grid = Grid((1, 4), (4.5, 4.5), (10.0, 10.0))
    assert peaks(maps, grid, Placement.identity((10, 40))) == [((14, 4), False)]
