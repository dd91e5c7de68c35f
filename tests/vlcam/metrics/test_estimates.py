"""Figures and their uncertainty against values worked out by hand, and slow obvious ways."""

import numpy as np
import pytest

from vlcam.metrics import estimates


def test_standard_error_of_a_mean_is_the_usual_one() -> None:
    values = [1.0, 0.0, 0.0, 1.0, 1.0]
    found = estimates.mean(values, range(5))
    usual = np.std(values, ddof=1) / np.sqrt(5)
    assert found.value == pytest.approx(0.6)
    assert found.error == pytest.approx(usual) == found.item_error
    assert found.items == found.images == 5


def test_items_of_one_image_are_one_draw() -> None:
    values = np.random.default_rng(2).random(40)
    alone = estimates.mean(values.tolist(), range(40))
    thrice = estimates.mean(np.repeat(values, 3).tolist(), np.repeat(range(40), 3).tolist())
    assert thrice.value == pytest.approx(alone.value)
    assert thrice.error == pytest.approx(alone.error)
    assert thrice.interval == pytest.approx(alone.interval)
    assert thrice.item_error < 0.7 * alone.error
    assert (thrice.items, thrice.images) == (120, 40)


def test_bootstrap_interval_agrees_with_the_standard_error() -> None:
    rng = np.random.default_rng(3)
    above, below = rng.random(400) * 2, rng.random(400) + 0.5
    found = estimates.ratio_of_sums(above.tolist(), below.tolist(), range(400))
    assert found.value == pytest.approx(above.sum() / below.sum())
    assert found.interval[0] < found.value < found.interval[1]
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 1.96 * found.error, rel=0.1)


def test_draws_kept_for_further_figures_are_those_made_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    estimates._kept_draws.cache_clear()
    values = np.random.default_rng(5).random((4, 300))
    kept = [estimates.mean(row, range(300)) for row in values]
    assert estimates._kept_draws.cache_info().hits == 3  # else there is nothing to compare
    monkeypatch.setattr(estimates, "_KEPT", 0)
    assert [estimates.mean(row, range(300)) for row in values] == kept
    monkeypatch.setattr(estimates, "_AT_ONCE", 7 * 300)  # a few at a time
    few = [estimates.mean(row, range(300)).interval for row in values]
    assert np.array(few) == pytest.approx(np.array([one.interval for one in kept]), rel=1e-12)
    slow = np.random.default_rng(0).multinomial(300, np.full(300, 1 / 300), 1000)
    shares = (slow * values[0]).sum(1) / slow.sum(1)
    assert kept[0].interval == pytest.approx(np.quantile(shares, (0.025, 0.975)))


def test_nothing_to_measure_is_nan_not_an_error() -> None:
    found = estimates.mean([], [])
    assert np.isnan(found.value) and found.items == 0
    one = estimates.mean([1.0, 0.0], ["one", "one"])
    both = estimates.difference_of_ratios(([1.0], [1.0]), ([0.0], [1.0]), ["one"])
    assert one.value == 0.5 and both.value == 1
    assert np.isnan([one.error, *one.interval, both.error, *both.interval]).all()
    with pytest.raises(ValueError, match="1 above, 2 below and 1 images"):
        estimates.ratio_of_sums([1], [1, 1], ["a"])


def test_mean_by_class() -> None:
    assert estimates.mean_by_class([1, 1, 1, 0], ["dog", "dog", "dog", "cat"]) == 0.5


def test_paired_differences_of_means_are_means_of_differences() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(60), rng.random(60)
    images = (np.arange(60) // 3).tolist()
    ones = [1.0] * 60
    found = estimates.difference_of_ratios((ours, ones), (theirs, ones), images)
    plain = estimates.mean((ours - theirs).tolist(), images)
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
    found = estimates.difference_of_ratios(ours, theirs, images)
    first, second = (estimates.ratio_of_sums(*sums, images) for sums in (ours, theirs))
    assert found.value == pytest.approx(first.value - second.value)
    low, high = found.interval
    assert low < found.value < high
    assert high - low == pytest.approx(2 * 1.96 * found.error, rel=0.15)
    same = estimates.difference_of_ratios(ours, ours, images)
    assert (same.value, same.error, same.interval) == (0, 0, (0, 0))
    with pytest.raises(ValueError, match="not all of 400 items"):
        estimates.difference_of_ratios(ours, ([1.0], [1.0]), images)
    nothing = estimates.difference_of_ratios(([0.0], [0.0]), ([1.0], [1.0]), [1])
    assert np.isnan(nothing.value)
