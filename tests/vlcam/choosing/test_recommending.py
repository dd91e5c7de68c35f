"""What is recommended, and when it is said that nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from vlcam.choosing.means import interval, mean, shown
from vlcam.choosing.recommending import Candidate, recommend


def candidates(values: np.ndarray) -> list[Candidate]:
    """Of values (candidates, photos)."""
    return [
        Candidate("late", f"method {i}", tuple(map(float, own)), (i,))
        for i, own in enumerate(values)
    ]


def test_noise_is_seldom_told_apart() -> None:
    """Less often than the 5 % that are allowed, however many candidates there are."""
    random = np.random.default_rng(0)
    for photos in (2, 3, 10):
        for count in (2, 12):
            told = [
                recommend(candidates(random.normal(0.5, 0.1, (count, photos))), [0.0] * photos)
                for _ in range(50)
            ]
            assert sum(one.told_apart for one in told) <= 5


def test_what_differs_is_told_apart() -> None:
    random = np.random.default_rng(0)
    values = random.normal(0.3, 0.05, (6, 8)) + random.normal(0, 0.3, 8)  # of each photo its own
    values[4] += 0.2
    found = recommend(candidates(values), [-1.0] * 8)
    assert found.method == "method 4" and found.told_apart and not found.as_good
    assert found.difference is not None and found.interval is not None
    assert found.difference.error is not None and found.difference.error < 0.05, "paired"
    assert found.text.count("\n") == 0 and "nan" not in found.text
    # As many as are as good are named, and what else there is.
    values[:] = values[4] + random.normal(0, 0.01, (6, 8))
    found = recommend(candidates(values), [-1.0] * 8)
    assert not found.told_apart and len(found.as_good) == 5
    assert "2 more" in found.text and "cannot be told apart on 8 photos; give more" in found.text


def test_a_difference_too_small_to_be_shown_is_none() -> None:
    values = np.full((2, 5), 0.5) + np.linspace(0, 0.1, 5)
    values[0] += 0.001
    assert not recommend(candidates(values), [0.0] * 5).told_apart


def test_what_is_not_faithful_at_all() -> None:
    nothing = recommend([], [0.0])
    assert nothing.layer is None and nothing.text.startswith("Nothing can be recommended")
    zero = recommend(candidates(np.zeros((3, 4))), [0.1] * 4)
    assert zero.method is None and "is not above 0" in zero.text
    weak = recommend(candidates(np.array([[0.2, 0.3, 0.4], [0.0, 0.0, 0.1]])), [0.3, 0.3, 0.3])
    assert not weak.beats_centre and "Beware: the photo's centre is not told apart" in weak.text
    single = recommend(candidates(np.array([[0.2], [0.1]])), [0.3])
    assert "Beware: the photo's centre does better" in single.text


def test_those_that_give_the_same_maps_are_no_rivals() -> None:
    same = [Candidate(layer, "grad-cam", (0.5, 0.6), (0, 0)) for layer in ("late", "early")]
    found = recommend(same, [0.0, 0.0])
    assert found.layer == "late", "the first is preferred"
    assert found.same == ("grad-cam at early",) and found.runner_up is None
    assert "there is nothing to compare it with. The same maps: grad-cam at early" in found.text


def test_figures() -> None:
    assert str(mean([0.25])) == "0.25" and mean([0.25]).error is None
    found = mean([1.0, 2.0, 3.0])
    assert str(found) == "2.00 ± 0.58"
    assert interval(found, 3) == pytest.approx(
        (2 - 4.3027 * 0.57735, 2 + 4.3027 * 0.57735), abs=1e-3
    )
    assert interval(mean([1.0]), 1) is None
    assert (shown(1, "photo"), shown(3, "photo")) == ("1 photo", "3 photos")
