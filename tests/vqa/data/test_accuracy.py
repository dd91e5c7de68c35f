"""The official accuracy of answers, by cases worked out by hand."""

from __future__ import annotations

import pytest

from vqa.data.accuracy import accuracy, normalised


@pytest.mark.parametrize(
    ("answer", "norm"),
    [
        ("A dog", "dog"),
        ("None", "0"),
        ("ten", "10"),
        ("10,000", "10000"),
        ("1,000 people", "1000 people"),
        ("red, white, and blue", "red white and blue"),
        ("red/white", "red white"),
        ("t-shirt", "t shirt"),
        ("mr. smith", "mr smith"),
        ("3.5", "3.5"),
        ("3.", "3"),
        ("dont", "don't"),
        ("couldntve", "couldntve"),  # only one apostrophe is mended
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("its", "its"),
        ("$5", "$5"),
        (". " * 40, ". . . . . . . ."),  # at most 32 periods are removed
    ],
)
def test_normalised(answer: str, norm: str) -> None:
    assert normalised(answer) == norm


def test_three_of_the_others_make_an_answer_right() -> None:
    for same, expected in ((0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)):
        given = ["red"] * same + ["blue"] * (10 - same)
        assert accuracy("red", given) == pytest.approx(expected)


def test_only_where_people_differ_are_answers_normalised() -> None:
    assert accuracy("Yes", ["yes"] * 10) == 0
    assert accuracy("Yes", ["yes"] * 9 + ["no"]) == 1
    assert accuracy(" yes\n", ["yes"] * 10) == 1


def test_a_single_persons_answer() -> None:
    assert accuracy("red", ["red"]) == 1 and accuracy("red", ["blue"]) == 0
    with pytest.raises(ValueError, match="no answer"):
        accuracy("red", [])
