"""The pointing game against values worked out by hand, and against a slow obvious way."""

from __future__ import annotations

import numpy as np
import pytest

from tests.samples.masks import mask_of
from vlcam.metrics import pointing


def test_pointing_is_strict_and_in_x_y_order() -> None:
    mask = mask_of(["....", ".##.", "...."])
    assert pointing.points_at(mask, (1, 1)) and pointing.points_at(mask, (2, 1))
    assert not pointing.points_at(mask, (1, 2)) and not pointing.points_at(mask, (3, 1))
    assert not pointing.points_at(np.zeros((3, 4), bool), (0, 0), tolerance=15)
    with pytest.raises(ValueError, match=r"point \(0, 3\) is outside a picture of 4 x 3"):
        pointing.points_at(mask, (0, 3))


def test_tolerance_is_less_than_not_at_most() -> None:
    mask = np.zeros((40, 40), bool)
    mask[20, 20] = True
    assert pointing.points_at(mask, (20, 34), tolerance=15)
    assert not pointing.points_at(mask, (20, 35), tolerance=15)  # exactly 15 away
    assert not pointing.points_at(mask, (29, 32), tolerance=15)  # 9, 12 -> 15
    assert pointing.points_at(mask, (29, 31), tolerance=15)


def test_a_degenerate_map_is_a_miss_even_where_everything_is_in_the_mask() -> None:
    everything = np.ones((5, 5), bool)
    assert pointing.hit(everything, (0, 0), degenerate=False)
    assert not pointing.hit(everything, (0, 0), degenerate=True)
    assert not pointing.hit(everything, (0, 0), degenerate=True, tolerance=15)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2, 5, 15])
def test_near_is_every_point_that_hits(tolerance: float) -> None:
    rng = np.random.default_rng(0)
    for size in ((13, 17), (3, 40), (1, 1)):
        mask = rng.random(size) < 0.03
        slow = np.array(
            [
                [pointing.points_at(mask, (x, y), tolerance) for x in range(size[1])]
                for y in range(size[0])
            ]
        )
        assert (pointing.near(mask, tolerance) == slow).all()


def test_tolerance_against_all_distances() -> None:
    rng = np.random.default_rng(1)
    mask = rng.random((30, 30)) < 0.004
    ys, xs = np.nonzero(mask)
    for x, y in rng.integers(0, 30, (50, 2)).tolist():
        slow = bool(((xs - x) ** 2 + (ys - y) ** 2 < 7**2).any())
        assert pointing.points_at(mask, (x, y), 7) == slow


def test_centre() -> None:
    assert pointing.centre((3, 5)) == (2, 1)


@pytest.mark.parametrize(("size", "values"), [((14, 14), 25), ((13, 13), 27), ((5, 4), 6)])
def test_pixels_equally_far_from_the_middle_have_the_same_value(
    size: tuple[int, int], values: int
) -> None:
    """Of 14 x 14 there are 28 pairs of odd squares up to 13 ** 2, with 25 sums."""
    found = pointing.centred_gaussian(size)
    assert len(np.unique(found)) == values
    for same in (found[::-1], found[:, ::-1], found.T if size[0] == size[1] else found):
        assert np.array_equal(found, same)
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in size)
    expected = np.exp(-np.add.outer(y**2, x**2) / (2 * 0.25**2))
    np.testing.assert_allclose(found, expected, rtol=1e-14)
