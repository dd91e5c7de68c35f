"""What a caption adds to BLEU."""

from __future__ import annotations

import math

import numpy as np
import pytest

from captioning.training.bleu import bleu
from captioning.training.reward import NOTHING, Counts, References, Truth


def test_what_a_caption_counts_is_what_bleu_counts() -> None:
    rng = np.random.default_rng(0)
    references = [[rng.integers(1, 6, n).tolist() for n in (4, 7, 9)] for _ in range(40)]
    captions = [rng.integers(1, 6, rng.integers(0, 12)).tolist() for _ in range(40)]
    counts = [References(r).count(c) for r, c in zip(references, captions, strict=True)]
    words = [[str(token) for token in caption] for caption in captions]
    theirs = bleu(words, [[[str(t) for t in r] for r in each] for each in references])[3]
    assert sum(counts, NOTHING).bleu() == pytest.approx(theirs)


@pytest.mark.parametrize("short", [False, True])
def test_a_caption_is_rewarded_for_what_it_adds_to_bleu(short: bool) -> None:
    own = Counts((3, 2, 1, 0), (5, 4, 3, 2), 5, 6)
    others = Counts((300, 150, 60, 20), (500, 440, 380, 320), 500, 550 if short else 450)
    share = 1e-6
    more = Counts(
        tuple(a + share * b for a, b in zip(others.matches, own.matches, strict=True)),
        tuple(a + share * b for a, b in zip(others.total, own.total, strict=True)),
        others.length + share * own.length,
        others.reference + share * own.reference,
    )
    slow = (np.log(more.bleu()) - np.log(others.bleu())) / share
    assert own.gain(others, 100) == pytest.approx(100 * slow, rel=1e-3)


def test_a_shorter_caption_is_no_way_to_reward() -> None:
    """Where captions are short of the references, a good long one beats a good short one."""
    references = References([list(range(1, 11))])
    short, long = references.count([1, 2, 3]), references.count(list(range(1, 9)))
    sums = sum([short] * 10, long)
    assert long.gain(sums, 11) > short.gain(sums, 11)


def test_truth_is_the_share_of_words_that_people_say_by_how_seldom_they_do() -> None:
    a, dog, cat, red = 1, 2, 3, 4
    truth = Truth([[[a, dog], [a, red, dog]], [[a, cat]], [[a, dog]], [[a, red]]])
    seldom, often = math.log(4 / 1), math.log(4 / 2)  # "a" is said of every photo: it weighs 0
    assert truth.share(0, [a, dog]) == 1.0
    assert truth.share(0, [a, cat]) == 0.0
    assert truth.share(0, [a, red, cat]) == pytest.approx(often / (often + seldom))
    assert truth.share(1, [a, 9, cat]) == pytest.approx(seldom / (seldom + math.log(4)))
    assert truth.share(1, [a]) == truth.share(1, []) == 1.0
