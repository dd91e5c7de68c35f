"""The metrics against values worked out by hand, and against slow obvious ways."""

import numpy as np
import pytest

from vlcam.geometry.grid import Placement
from vlcam.metrics import estimates as metrics


def mask_of(rows: list[str]) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def test_pointing_is_strict_and_in_x_y_order() -> None:
    mask = mask_of(["....", ".##.", "...."])
    assert metrics.points_at(mask, (1, 1)) and metrics.points_at(mask, (2, 1))
    assert not metrics.points_at(mask, (1, 2)) and not metrics.points_at(mask, (3, 1))
    assert not metrics.points_at(np.zeros((3, 4), bool), (0, 0), tolerance=15)
    with pytest.raises(ValueError, match=r"point \(0, 3\) is outside a picture of 4 x 3"):
        metrics.points_at(mask, (0, 3))


def test_tolerance_is_less_than_not_at_most() -> None:
    mask = np.zeros((40, 40), bool)
    mask[20, 20] = True
    assert metrics.points_at(mask, (20, 34), tolerance=15)
    assert not metrics.points_at(mask, (20, 35), tolerance=15)  # exactly 15 away
    assert not metrics.points_at(mask, (29, 32), tolerance=15)  # 9, 12 -> 15
    assert metrics.points_at(mask, (29, 31), tolerance=15)


def test_a_degenerate_map_is_a_miss_even_where_everything_is_in_the_mask() -> None:
    everything = np.ones((5, 5), bool)
    assert metrics.hit(everything, (0, 0), degenerate=False)
    assert not metrics.hit(everything, (0, 0), degenerate=True)
    assert not metrics.hit(everything, (0, 0), degenerate=True, tolerance=15)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 5, 15])
def test_near_is_every_point_that_hits(tolerance: float) -> None:
    rng = np.random.default_rng(0)
    for size in ((13, 17), (3, 40), (1, 1)):
        mask = rng.random(size) < 0.03
        slow = np.array(
            [
                [metrics.points_at(mask, (x, y), tolerance) for x in range(size[1])]
                for y in range(size[0])
            ]
        )
        assert (metrics.near(mask, tolerance) == slow).all()


def test_tolerance_against_all_distances() -> None:
    rng = np.random.default_rng(1)
    mask = rng.random((30, 30)) < 0.004
    ys, xs = np.nonzero(mask)
    for x, y in rng.integers(0, 30, (50, 2)).tolist():
        slow = bool(((xs - x) ** 2 + (ys - y) ** 2 < 7**2).any())
        assert metrics.points_at(mask, (x, y), 7) == slow


def test_box_takes_pixels_by_their_centres_and_is_clipped() -> None:
    def cells(box: metrics.Box) -> list[tuple[int, int]]:
        return [(int(x), int(y)) for y, x in np.argwhere(metrics.box_mask(box, (3, 4)))]

    assert cells((1, 1, 3, 2)) == [(1, 1), (2, 1)]
    assert cells((0.4, 0.4, 1.6, 1.6)) == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert cells((0.6, 0.6, 1.4, 1.4)) == []  # no centre in it
    assert cells((-9, 2, 1, 99)) == [(0, 2)]
    assert cells((50, 50, 60, 60)) == []
    # Two boxes that share an edge never share a pixel, not even where it goes through centres.
    left, right = metrics.box_mask((0, 0, 1.5, 3), (3, 4)), metrics.box_mask((1.5, 0, 4, 3), (3, 4))
    assert (left ^ right).all()


def test_box_through_the_placement_keeps_its_pixels() -> None:
    size = (30, 40)
    placement = Placement.resized(size, (60, 80), (50, 50), corner=(5, 15))
    box = (10.0, 5.0, 20.0, 15.0)
    assert metrics.box_in_input(box, placement) == pytest.approx((5, 5, 25, 25))
    assert metrics.box_in_input(box, Placement.identity(size)) == pytest.approx(box)


def test_box_means_by_hand() -> None:
    values = np.array([[4.0, 0.0], [2.0, 2.0]])  # mean 2
    found = metrics.box_means(values, mask_of(["#.", ".."]))
    assert found == metrics.BoxMeans(2.0, pytest.approx(2 / 3), "measured")
    assert found.ratio == pytest.approx(3)
    # The map's own scale does not matter.
    assert metrics.box_means(1e-20 * values, mask_of(["#.", ".."])).ratio == pytest.approx(3)


def test_boxes_and_maps_that_have_no_ratio() -> None:
    flat, spot = np.zeros((2, 2)), np.array([[1.0, 0.0], [0.0, 0.0]])
    corner = mask_of(["#.", ".."])
    assert metrics.box_means(spot, corner) == metrics.BoxMeans(4.0, 0.0, "nothing outside")
    assert metrics.box_means(spot, corner).ratio is None
    assert metrics.box_means(spot, ~corner).ratio == 0
    assert metrics.box_means(spot, np.zeros((2, 2), bool)).status == "empty box"
    assert metrics.box_means(spot, np.ones((2, 2), bool)).status == "whole picture"
    for values in (flat, flat + 3, np.full((2, 2), np.nan), np.array([[1, 2], [3, np.inf]])):
        assert metrics.box_means(values, corner) == metrics.BoxMeans(1, 1, "degenerate map")
    with pytest.raises(ValueError, match="negative"):
        metrics.box_means(-spot, corner)
    with pytest.raises(ValueError, match=r"\(2, 2\) does not fit a box's mask of \(3, 4\)"):
        metrics.box_means(spot, np.ones((3, 4), bool))


def test_box_ratio_aggregates_by_hand() -> None:
    items = [
        metrics.BoxMeans(2.0, 0.5, "measured"),
        metrics.BoxMeans(3.0, 1.0, "measured"),
        metrics.BoxMeans(5.0, 0.0, "nothing outside"),
        metrics.BoxMeans(1.0, 1.0, "degenerate map"),
        metrics.BoxMeans(0.0, 0.0, "empty box"),
        metrics.BoxMeans(0.0, 0.0, "whole picture"),
    ]
    found = metrics.box_ratio(items, images=[1, 1, 2, 3, 4, 5])
    assert found.mean_of_ratios.value == pytest.approx(3.5) and found.mean_of_ratios.items == 2
    assert found.mean_of_ratios.item_error == pytest.approx(0.5)
    assert found.ratio_of_means.value == pytest.approx(11 / 2.5)
    assert found.ratio_of_means.items == 4 and found.ratio_of_means.images == 3
    assert found.heaviest == pytest.approx(5 / 11)
    assert sum(found.statuses.values()) == len(items) and found.statuses["empty box"] == 1


def test_one_item_cannot_make_the_ratio_of_means() -> None:
    items = [metrics.BoxMeans(1.5, 0.9, "measured")] * 999
    wild = metrics.BoxMeans(2.0, 1e-7, "measured")
    found = metrics.box_ratio([*items, wild], range(1000))
    assert found.mean_of_ratios.value > 20_000
    assert found.ratio_of_means.value == pytest.approx(1.5 / 0.9, rel=0.002)


@pytest.mark.parametrize("boxes", [[(2, 2, 7, 5)], [(0, 0, 3, 10)], [(0, 2, 4, 4), (3, 3, 9, 10)]])
def test_box_means_pixel_by_pixel(boxes: list[metrics.Box]) -> None:
    values = np.random.default_rng(0).random((10, 10))
    inside = np.zeros((10, 10), bool)
    for box in boxes:
        inside |= metrics.box_mask(box, (10, 10))
    found = metrics.box_means(values, inside)
    assert found.inside == pytest.approx(values[inside].mean() / values.mean())
    assert found.outside == pytest.approx(values[~inside].mean() / values.mean())


def test_every_map_in_every_box() -> None:
    rng = np.random.default_rng(4)
    maps = [rng.random((9, 8)), np.ones((9, 8)), rng.random((9, 8)) * 7]
    two = metrics.box_mask((0, 0, 2, 2), (9, 8)) | metrics.box_mask((4, 4, 8, 9), (9, 8))
    boxes = [metrics.box_mask((1, 2, 5, 6), (9, 8)), two, np.zeros((9, 8), bool)]
    found = metrics.every_box_means(maps, boxes)
    assert found == [[metrics.box_means(values, inside) for values in maps] for inside in boxes]
    assert [means[1].status for means in found] == [*["degenerate map"] * 2, "empty box"]
    assert metrics.every_box_means(maps, []) == []


def test_uniform_map_has_ratio_one() -> None:
    values = np.full((10, 10), 0.3)
    values[0, 0] += 1e-9  # so that it is not degenerate
    assert metrics.box_means(values, metrics.box_mask((2, 2, 7, 5), (10, 10))).ratio == (
        pytest.approx(1)
    )


def test_standard_error_of_a_mean_is_the_usual_one() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0]
    found = metrics.mean(values, range(5))
    usual = np.std(values, ddof=1) / np.sqrt(5)
    assert found.value == pytest.approx(0.6)
    assert found.error == pytest.approx(usual) == found.item_error
    assert found.items == found.images == 5


def test_items_of_one_image_are_one_draw() -> None:
    values = np.random.default_rng(2).random(40)
    alone = metrics.mean(values.tolist(), range(40))
    thrice = metrics.mean(np.repeat(values, 3).tolist(), np.repeat(range(40), 3).tolist())
    assert thrice.value == pytest.approx(alone.value)
    assert thrice.error == pytest.approx(alone.error)
    assert thrice.interval == pytest.approx(alone.interval)
    assert thrice.item_error < 0.7 * alone.error
    assert (thrice.items, thrice.images) == (120, 40)


def test_bootstrap_interval_agrees_with_the_standard_error() -> None:
    rng = np.random.default_rng(3)
    above, below = rng.random(400) * 2, rng.random(400) + 0.5
    found = metrics.ratio_of_sums(above.tolist(), below.tolist(), range(400))
    assert found.value == pytest.approx(above.sum() / below.sum())
    assert found.interval[0] < found.value < found.interval[1]
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.96 * found.error, rel=0.1)


def test_draws_kept_for_further_figures_are_those_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics._kept_draws.cache_clear()
    values = np.random.default_rng(5).random((4, 300))
    kept = [metrics.mean(row, range(300)) for row in values]
    assert metrics._kept_draws.cache_info().hits == 3  # else there is nothing to compare
    monkeypatch.setattr(metrics, "_KEPT", 0)
    assert [metrics.mean(row, range(300)) for row in values] == kept
    monkeypatch.setattr(metrics, "_AT_ONCE", 7 * 300)  # a few at a time
    few = [metrics.mean(row, range(300)).interval for row in values]
    assert np.array(few) == pytest.approx(np.array([one.interval for one in kept]), rel=1e-12)
    slow = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), 1000)
    shares = (slow * values[0]).sum(1) / slow.sum(1)
    assert kept[0].interval == pytest.approx(np.quantile(shares, (0.025, 0.975)))


def test_nothing_to_measure_is_nan_not_an_error() -> None:
    found = metrics.mean([], [])
    assert np.isnan(found.value) and found.items == 0
    assert np.isnan(metrics.mean([1.0], ["one"]).error)
    with pytest.raises(ValueError, match="1 above, 2 below and 1 images"):
        metrics.ratio_of_sums([1], [1, 1], ["a"])


def test_mean_by_class() -> None:
    assert metrics.mean_by_class([1, 1, 1, 0], ["dog", "dog", "dog", "cat"]) == 0.5


def test_centre() -> None:
    assert metrics.centre((3, 5)) == (2, 1)


def test_paired_differences_of_means_are_means_of_differences() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(60), rng.random(60)
    images = (np.arange(60) // 3).tolist()
    ones = [1.0] * 60
    found = metrics.difference_of_ratios((ours, ones), (theirs, ones), images)
    plain = metrics.mean((ours - theirs).tolist(), images)
    for name in ("value", "error", "item_error", "interval"):
        assert getattr(found, name) == pytest.approx(getattr(plain, name)), name
    assert (found.items, found.images) == (60, 20)


def test_paired_differences_of_ratios() -> None:
    rng = np.random.default_rng(1)
    common = rng.random(400) + 0.5
    above, below = common * 3, common
    ours = (above + 0.1 * rng.random(400), below)
    theirs = (above, below + 0.1 * rng.random(400))
    images = list(range(400))
    found = metrics.difference_of_ratios(ours, theirs, images)
    first, second = (metrics.ratio_of_sums(*sums, images) for sums in (ours, theirs))
    assert found.value == pytest.approx(first.value - second.value)
    low, high = found.interval
    assert low < found.value < high
    assert high - low == pytest.approx(2 * 1.96 * found.error, rel=0.15)
    same = metrics.difference_of_ratios(ours, ours, images)
    assert (same.value, same.error, same.interval) == (0, 0, (0, 0))
    with pytest.raises(ValueError, match="not all of 400 items"):
        metrics.difference_of_ratios(ours, ([1.0], [1.0]), images)
    nothing = metrics.difference_of_ratios(([0.0], [0.0]), ([1.0], [1.0]), [1])
    assert np.isnan(nothing.value)
