"""What every experiment shares."""

from __future__ import annotations

from vlcam.evaluation.experiment import sample


def test_a_sample_keeps_its_order_and_its_seed() -> None:
    things = list("abcdefgh")
    some = sample(things, 3, 5)
    assert len(some) == 3 and some == sorted(some) == sample(things, 3, 5)
    assert len({tuple(sample(things, 3, seed)) for seed in range(9)}) > 1
    assert sample(things, None, 5) == sample(things, 8, 5) == things
