"""Words of several meanings, by what stands around them."""

from __future__ import annotations

import pytest

import word_maps
from tests.samples.captions import found


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a mouse beside a keyboard", ["mouse", "keyboard"]),
        ("a cat plays with a mouse", ["cat"]),
        ("a cat by a computer mouse", ["cat", "mouse"]),
        ("a bottle of wine and two glasses", ["bottle", "wine glass"]),
        ("a glass of water and wine", []),
        ("a man wearing glasses drinks wine", ["person"]),
        ("a glass table", ["dining table"]),
        ("a man in a tie", ["person", "tie"]),
        ("a man ties his shoe", ["person"]),
        ("boats to tie up", ["boat"]),
        ("railroad ties", []),
        ("the game ended in a tie", []),
        ("a boy skateboards down the street", ["person"]),
        ("a boy and skateboards", ["person", "skateboard"]),
        ("a man skis down a hill", ["person"]),
        ("a man on skis down a hill", ["person", "skis"]),
        ("a man has skis that are red", ["person", "skis"]),
        ("she bikes to work", []),
        ("a man's bikes", ["person", "bicycle"]),
        ("a boat will sink", ["boat"]),
        ("a boat in a sink", ["boat", "sink"]),
        ("a hydrant in a bed of flowers", ["fire hydrant"]),
        ("a bed with pillows", ["bed"]),
        ("an Apple computer", []),
        ("an apple computer monitor", ["tv"]),
        ("an apple on a computer", ["apple"]),
        ("a fork in the road", []),
        ("a fork in a bowl", ["fork", "bowl"]),
        ("a boy swings a bat", ["person", "baseball bat"]),
        ("a player at bat", ["person"]),
        ("a boy waits to bat", ["person"]),
        ("bats in a cave", []),
        ("a man on a board in the waves", ["person", "surfboard"]),
        ("a man on a board in the snow", ["person", "snowboard"]),
        ("he jumps with his board off a ramp", ["skateboard"]),
        ("a board on a wall", []),
        ("people board a plane", ["person", "airplane"]),
        ("a cutting board", []),
        ("a remote on a couch", ["remote", "couch"]),
        ("a remote beach", []),
        ("a plant on a desk", ["potted plant"]),
        ("a bear among plants in a forest", ["bear"]),
        ("plants in pots under a tree", ["potted plant"]),
        ("a cat with a bow around its neck", ["cat", "tie"]),
        ("a girl with a bow in her hair", ["person"]),
        ("a pitcher of water", []),
        ("the pitcher throws", ["person"]),
        ("a mother elephant and her baby", ["elephant"]),
        ("a mother and her baby", ["person", "person"]),
        ("a man beside a mother cow", ["person", "cow"]),
    ],
)
def test_words_of_several_meanings(caption: str, words: list[str]) -> None:
    assert [name for _, name in found(caption)] == words


@pytest.mark.parametrize(
    ("word", "category"),
    [("mouse", "mouse"), ("glass", None), ("board", None), ("bow", None), ("mother", "person")],
)
def test_words_of_several_meanings_by_themselves(word: str, category: str | None) -> None:
    assert word_maps.category(word) == category
