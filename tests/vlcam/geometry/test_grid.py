"""Where maps are drawn: cells, input pixels, photo pixels, against values worked out by hand."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
import torchvision

from vlcam.geometry.cells import derive
from vlcam.geometry.grid import Boxes, Grid, Placement, place

VGG = Grid((14, 14), (7.5, 7.5), (16.0, 16.0))
RESNET = Grid((7, 7), (0.0, 0.0), (32.0, 32.0))


def test_cells_of_vgg_are_centred_and_of_resnet_are_not() -> None:
    pixels = torch.empty(1, 3, 224, 224)
    with torch.device("meta"):
        vgg = torchvision.models.vgg16().features[:30]  # up to conv5_3's ReLU
        resnet = torchvision.models.resnet18()
    vgg, resnet = vgg.to_empty(device="cpu"), resnet.to_empty(device="cpu")
    assert derive(vgg, pixels) == VGG == Grid.stretched((14, 14), (224, 224))
    stages = torch.nn.Sequential(*[*resnet.children()][:-2])
    assert derive(stages, pixels) == RESNET
    assert Grid.stretched((7, 7), (224, 224)) == Grid((7, 7), (15.5, 15.5), (32.0, 32.0))
    assert RESNET.center(3, 4) == (96.0, 128.0)


def test_the_pixels_own_grid_changes_nothing() -> None:
    maps = torch.rand(2, 5, 7)
    placed = place(maps, Grid.pixels((5, 7)), Placement.identity((5, 7)))
    torch.testing.assert_close(placed, maps)
    assert placed.dtype == torch.float32


@pytest.mark.parametrize(("cells", "size"), [((14, 14), (224, 224)), ((5, 7), (61, 43))])
def test_centred_cells_are_drawn_as_by_interpolate(
    cells: tuple[int, int], size: tuple[int, int]
) -> None:
    maps = torch.rand(3, *cells)
    placed = place(maps, Grid.stretched(cells, size), Placement.identity(size))
    expected = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(placed, expected, atol=1e-5, rtol=0)


def test_a_row_by_hand() -> None:
    # Cells at 1 and 5: flat up to the first, a straight line between, flat behind the second.
    grid = Grid((1, 2), (0.0, 1.0), (1.0, 4.0))
    placed = place(torch.tensor([[[0.0, 4.0]]]), grid, Placement.identity((1, 7)))
    assert placed.flatten().tolist() == [0, 0, 1, 2, 3, 4, 4]


def test_a_flipped_grid() -> None:
    grid = Grid((1, 2), (0.0, 3.0), (1.0, -3.0))
    placed = place(torch.tensor([[[0.0, 3.0]]]), grid, Placement.identity((1, 4)))
    assert placed.flatten().tolist() == [3, 2, 1, 0]


# A photo of 90 x 130 pixels, and an input of 224 x 224.
PLACEMENTS = {
    "stretch": Placement.resized((90, 130), (224, 224)),
    "crop": Placement.resized((90, 130), (224, 324), (224, 224), corner=(0, 50)),
    "letterbox": Placement.resized((90, 130), (155, 224), (224, 224), corner=(-34, 0)),
}


def test_what_was_cropped_away_is_zero() -> None:
    placed = place(torch.ones(1, 14, 14), VGG, PLACEMENTS["crop"])[0]
    scale = 324 / 130
    # Photo pixel x lies at scale x + (scale - 1) / 2 - 50, and the input ends at -0.5 and 223.5.
    seen = [x for x in range(130) if -0.5 <= scale * x + (scale - 1) / 2 - 50 <= 223.5]
    assert (seen[0], seen[-1]) == (20, 109)
    assert torch.equal(placed[:, 20:110], torch.ones(90, 90))
    assert placed[:, :20].eq(0).all() and placed[:, 110:].eq(0).all()


def test_letterbox_shows_the_whole_photo() -> None:
    torch.testing.assert_close(
        place(torch.ones(1, 14, 14), VGG, PLACEMENTS["letterbox"]), torch.ones(1, 90, 130)
    )


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_placements_go_there_and_back(placement: Placement) -> None:
    for point in ((0.0, 0.0), (89.0, 129.0), (12.25, 77.5)):
        assert placement.to_photo(*placement.to_input(*point)) == pytest.approx(point)


def test_edges_of_a_resized_photo_meet_the_inputs() -> None:
    placement = PLACEMENTS["stretch"]
    assert placement.to_input(-0.5, -0.5) == pytest.approx((-0.5, -0.5))
    assert placement.to_input(89.5, 129.5) == pytest.approx((223.5, 223.5))
    assert Placement.identity((3, 4)).to_input(1, 2) == (1, 2)


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"maps of \(7, 7\) cells do not fit a grid of \(14, 14\)"):
        place(torch.zeros(1, 7, 7), VGG, PLACEMENTS["stretch"])


@pytest.mark.parametrize("cells", [(14, 14), (3, 20), (1, 5), (8, 4)])
def test_pooled_cells_are_drawn_at_their_centres(cells: tuple[int, int]) -> None:
    """Unevenly spaced where neither number of cells divides the other."""
    grid = Grid((8, 8), (4.0, 0.0), (16.0, 32.0))
    pooled = grid.pooled(cells)
    y = (4.0 + 16 * torch.arange(8.0))[:, None].expand(8, 8)
    x = (32.0 * torch.arange(8.0)).expand(8, 8)
    rows, columns = torch.nn.AdaptiveAvgPool2d(cells)(torch.stack([y, x])[None])[0]
    maps = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    values = torch.nn.AdaptiveAvgPool2d(cells)(maps)[0]
    (drawn,) = place(values, pooled, Placement.identity((256, 256)))
    for i, j in product(range(cells[0]), range(cells[1])):
        centre = (float(rows[i, j]), float(columns[i, j]))
        assert pooled.center(i, j) == pytest.approx(centre)
        if all(part == int(part) for part in centre):
            pixel = drawn[int(centre[0]), int(centre[1])]
            assert pixel.item() == pytest.approx(values[0, i, j].item())
    assert (pooled.centres is None) == (cells == (8, 4))
    assert drawn.isfinite().all() and drawn.min() >= values.min() and drawn.max() <= values.max()


def test_boxes_through_a_placement() -> None:
    """Of a photo of 20 x 40 pixels that lies in the input at half its size, shifted."""
    boxes = Boxes.of_corners(torch.tensor([[3.0, 2.0, 6.0, 4.0], [5.5, 0.0, 20.0, 3.0]]))
    placement = Placement.resized((20, 40), (10, 20), (14, 24), corner=(-1, -2))
    drawn = place(torch.tensor([[[-1.0, -3.0]]]), boxes, placement)[0]
    expected = torch.zeros(20, 40)
    expected[0:4, 7:36] = -3
    expected[2:6, 2:8] = -1
    assert torch.equal(drawn, expected)
