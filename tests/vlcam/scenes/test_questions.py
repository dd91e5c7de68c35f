"""Questions about scenes, and ten answers to each."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from vlcam.scenes.questions import MOST, questions
from vlcam.scenes.scene import Scene
from vlcam.scenes.text import category_of, where


def test_answers_are_right(many: list[Scene]) -> None:
    asked = 0
    for one in many:
        total = Counter(item.category for item in one.items)
        for question in questions(one):
            text, answer = question.text, question.answer
            if match := re.match(r"how many (.+?) (are|can)", text):
                assert int(answer) == total[category_of(match[1].split()[-1])]
            elif match := re.match(r"is there an? (.+) in|are there any (.+)\?", text):
                there = total[category_of((match[1] or match[2]).split()[-1])] > 0
                assert answer == ("yes" if there else "no")
            elif match := re.match(r"is the (.+) ((?:on|at|in) the \w+)\?", text):
                item = next(item for item in one.items if item.category == match[1])
                assert answer == ("yes" if match[2] in where(item) else "no")
            elif match := re.match(r"what is ((?:on|at|in) the (?!picture)\w+)\?", text):
                (item,) = (item for item in one.items if match[1] in where(item))
                assert (item,) == question.items and category_of(answer) == item.category
            elif match := re.match(r"where is the (.+)\?", text):
                x, y = next(item for item in one.items if item.category == match[1]).center
                holds = {"left": x < 0.4, "right": x > 0.6, "top": y < 0.4, "bottom": y > 0.6,
                         "middle": abs(x - 0.5) < 0.1 and abs(y - 0.5) < 0.1}  # fmt: skip
                assert holds[answer]
            elif match := re.match(r"what color is the ([\w ]+)'s (cap|collar|sail|tail)\?", text):
                item = next(item for item in one.items if item.category == match[1])
                assert answer == item.appearance.colours[match[2]]
            elif re.match(r"what (is|animal) ", text):
                assert category_of(answer) == question.items[0].category
            else:
                continue
            asked += 1
    assert asked > 200


def test_no_question_twice_and_not_too_many_of_a_kind(many: list[Scene]) -> None:
    for one in many:
        asked = [question.text for question in questions(one)]
        assert len(set(asked)) == len(asked) <= sum(MOST.values())
        colours = [text for text in asked if text.startswith("what color")]
        assert len(colours) <= MOST["colour"]
    numbers = [len(questions(one)) for one in many]
    assert np.mean(numbers) > 6


def test_of_two_colours_some_people_name_one(many: list[Scene]) -> None:
    two = [question for one in many for question in questions(one) if " and " in question.answer]
    assert two
    for question in two:
        first, second = question.answer.split(" and ")
        assert question.others == (f"{second} and {first}", first, second)


def test_ten_answers_most_of_them_the_same(many: list[Scene]) -> None:
    rng = np.random.default_rng(0)
    for question in (question for one in many for question in questions(one)):
        said = Counter(question.answers(rng))
        assert said.total() == 10 and said[question.answer] >= 7
        assert set(said) <= {question.answer, *question.others}


def test_yes_and_no_are_as_frequent(many: list[Scene]) -> None:
    truths = [question.answer == "yes" for one in many for question in questions(one)
              if question.answer_type == "yes/no"]  # fmt: skip
    assert 0.35 < np.mean(truths) < 0.65
