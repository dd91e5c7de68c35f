"""The box ratio against values worked out by hand, and against a slow obvious way."""

from __future__ import annotations

import numpy as np
import pytest

from tests.samples.masks import mask_of
from vlcam.geometry.grid import Placement
from vlcam.metrics import box_ratio


def test_box_takes_pixels_by_their_centres_and_is_clipped() -> None:
    def cells(box: box_ratio.Box) -> list[tuple[int, int]]:
        return [(int(x), int(y)) for y, x in np.argwhere(box_ratio.box_mask(box, (3, 4)))]

    assert cells((1, 1, 3, 2)) == [(1, 1), (2, 1)]
    assert cells((0.4, 0.4, 1.6, 1.6)) == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert cells((0.6, 0.6, 1.4, 1.4)) == []  # no centre in it
    assert cells((-9, 2, 1, 99)) == [(0, 2)]
    assert cells((50, 50, 60, 60)) == []
    # Two boxes that share an edge never share a pixel, not even where it goes through centres.
    left, right = (
        box_ratio.box_mask((0, 0, 1.5, 3), (3, 4)),
        box_ratio.box_mask((1.5, 0, 4, 3), (3, 4)),
    )
    assert (left ^ right).all()


def test_box_through_the_placement_keeps_its_pixels() -> None:
    size = (30, 40)
    placement = Placement.resized(size, (60, 80), (50, 50), corner=(5, 15))
    box = (10.0, 5.0, 20.0, 15.0)
    assert box_ratio.box_in_input(box, placement) == pytest.approx((5, 5, 25, 25))
    assert box_ratio.box_in_input(box, Placement.identity(size)) == pytest.approx(box)


def test_box_means_by_hand() -> None:
    values = np.array([[4.0, 0.0], [2.0, 2.0]])  # mean 2
    found = box_ratio.box_means(values, mask_of(["#.", ".."]))
    assert found == box_ratio.BoxMeans(2.0, pytest.approx(2 / 3), "measured")
    assert found.ratio == pytest.approx(3)
    # The map's own scale does not matter.
    assert box_ratio.box_means(1e-20 * values, mask_of(["#.", ".."])).ratio == pytest.approx(3)


def test_boxes_and_maps_that_have_no_ratio() -> None:
    flat, spot = np.zeros((2, 2)), np.array([[1.0, 0.0], [0.0, 0.0]])
    corner = mask_of(["#.", ".."])
    assert box_ratio.box_means(spot, corner) == box_ratio.BoxMeans(4.0, 0.0, "nothing outside")
    assert box_ratio.box_means(spot, corner).ratio is None
    assert box_ratio.box_means(spot, ~corner).ratio == 0
    assert box_ratio.box_means(spot, np.zeros((2, 2), bool)).status == "empty box"
    assert box_ratio.box_means(spot, np.ones((2, 2), bool)).status == "whole picture"
    for values in (flat, flat + 3, np.full((2, 2), np.nan), np.array([[1, 2], [3, np.inf]])):
        assert box_ratio.box_means(values, corner) == box_ratio.BoxMeans(1, 1, "degenerate map")
    with pytest.raises(ValueError, match="negative"):
        box_ratio.box_means(-spot, corner)
    with pytest.raises(ValueError, match=r"\(2, 2\) does not fit a box's mask of \(3, 4\)"):
        box_ratio.box_means(spot, np.ones((3, 4), bool))


def test_box_ratio_aggregates_by_hand() -> None:
    items = [
        box_ratio.BoxMeans(2.0, 0.5, "measured"),
        box_ratio.BoxMeans(3.0, 1.0, "measured"),
        box_ratio.BoxMeans(5.0, 0.0, "nothing outside"),
        box_ratio.BoxMeans(1.0, 1.0, "degenerate map"),
        box_ratio.BoxMeans(0.0, 0.0, "empty box"),
        box_ratio.BoxMeans(0.0, 0.0, "whole picture"),
    ]
    found = box_ratio.box_ratio(items, images=[1, 1, 2, 3, 4, 5])
    assert found.mean_of_ratios.value == pytest.approx(3.5) and found.mean_of_ratios.items == 2
    assert found.mean_of_ratios.item_error == pytest.approx(0.5)
    assert found.ratio_of_means.value == pytest.approx(11 / 2.5)
    assert found.ratio_of_means.items == 4 and found.ratio_of_means.images == 3
    assert found.heaviest == pytest.approx(5 / 11)
    assert sum(found.statuses.values()) == len(items) and found.statuses["empty box"] == 1


def test_one_item_cannot_make_the_ratio_of_means() -> None:
    items = [box_ratio.BoxMeans(1.5, 0.9, "measured")] * 999
    wild = box_ratio.BoxMeans(2.0, 1e-7, "measured")
    found = box_ratio.box_ratio([*items, wild], range(1000))
    assert found.mean_of_ratios.value > 20_000
    assert found.ratio_of_means.value == pytest.approx(1.5 / 0.9, rel=0.002)


@pytest.mark.parametrize("boxes", [[(2, 2, 7, 5)], [(0, 0, 3, 10)], [(0, 2, 4, 4), (3, 3, 9, 10)]])
def test_box_means_pixel_by_pixel(boxes: list[box_ratio.Box]) -> None:
    values = np.random.default_rng(0).random((10, 10))
    inside = np.zeros((10, 10), bool)
    for box in boxes:
        inside |= box_ratio.box_mask(box, (10, 10))
    found = box_ratio.box_means(values, inside)
    assert found.inside == pytest.approx(values[inside].mean() / values.mean())
    assert found.outside == pytest.approx(values[~inside].mean() / values.mean())


def test_every_map_in_every_box() -> None:
    rng = np.random.default_rng(4)
    maps = [rng.random((9, 8)), np.ones((9, 8)), rng.random((9, 8)) * 7]
    two = box_ratio.box_mask((0, 0, 2, 2), (9, 8)) | box_ratio.box_mask((4, 4, 8, 9), (9, 8))
    boxes = [box_ratio.box_mask((1, 2, 5, 6), (9, 8)), two, np.zeros((9, 8), bool)]
    found = box_ratio.every_box_means(maps, boxes)
    assert found == [[box_ratio.box_means(values, inside) for values in maps] for inside in boxes]
    assert [means[1].status for means in found] == [*["degenerate map"] * 2, "empty box"]
    assert box_ratio.every_box_means(maps, []) == []


def test_uniform_map_has_ratio_one() -> None:
    values = np.full((10, 10), 0.3)
    values[0, 0] += 1e-9  # so that it is not degenerate
    assert box_ratio.box_means(values, box_ratio.box_mask((2, 2, 7, 5), (10, 10))).ratio == (
        pytest.approx(1)
    )
