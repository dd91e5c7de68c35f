"""Words side by side: a compound is what its last word is."""

from __future__ import annotations

from pathlib import Path

import pytest

import word_maps
from tests.samples.captions import found


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        # A place, a container, clothes or food: the first word only says which.
        ("a bed room with a lamp", []),
        ("an airplane restroom", []),
        ("a pirate skull on a flag", []),
        ("bird cages and dog houses", []),
        ("a pizza box on a chair", ["chair"]),
        ("a santa hat", []),
        ("a zebra print shirt", []),
        ("kids menu", []),
        ("a barber shop", []),
        ("a bus shelter", []),
        ("a cattle ranch by an apple orchard", []),
        ("a taxi stand", []),
        ("a dog stand on a dock", ["dog"]),
        ("goat cheese", []),
        ("the woman's restroom", []),
        ("women's clothing on a bed", ["bed"]),
        ("a man's hat", ["person"]),
        ("a dog's house", ["dog"]),
        ("a horse drawn carriage", ["horse"]),
        ("a horse-drawn carriage and an ox-pulled cart", ["horse", "cow"]),
        ("an airplane wing", ["airplane"]),
        ("a clock tower", ["clock"]),
        ("a kite shaped like a fish", ["kite"]),
        ("a dog crossing a road", ["dog"]),
        # A noun and its verb.
        ("a bus stops at a light", ["bus"]),
        ("a red double decker bus stops", ["bus"]),
        ("the bus stops here", ["bus"]),
        ("the boat stops", ["boat"]),
        ("a man by the bus stops", ["person"]),
        ("a bus stop", []),
        ("three bus stops", []),
        ("three bus stops on a street", []),
        ("the bus stops are empty", []),
        ("a boat docks at a pier", ["boat"]),
        ("a cat walks on a wall", ["cat"]),
        ("the cat naps on a bed", ["cat", "bed"]),
        ("a large tv stands on a dresser", ["tv"]),
        ("a bird nests in a tree", ["bird"]),
        ("a cow hides behind a barn", ["cow"]),
        ("a table seats four", ["dining table"]),
        ("a black and white cat walks on a wall", ["cat"]),
        ("the fluffy cat naps on a bed", ["cat", "bed"]),
        ("a rusty bus stops at a light", ["bus"]),
        ("three rusty bus stops on a road", []),
        ("a man near bus stops in a town", ["person"]),
        ("two tv stands", []),
        ("a bear hugs a tree", ["bear"]),
        ("a bear hug", []),
        ("a car parks on the street", ["car"]),
        ("people park", ["person"]),
        ("a goalie stops a puck", ["person"]),
        ("a man bikes", ["person"]),
        ("a man mans the grill", ["person"]),
        ("a mans hand", ["person"]),
        ("a woman trains her dog", ["person", "dog"]),
        ("a dog nurses her puppies", ["dog", "dog"]),
        ("a cat bats at a toy", ["cat"]),
        ("a dog skateboards", ["dog"]),
        ("people crowd around a table", ["person", "dining table"]),
        ("two men kayak", ["person"]),
        ("a man's bikes", ["person", "bicycle"]),
        # Two words for one thing.
        ("a male tennis player", ["person"]),
        ("two female surfers", ["person"]),
        ("a woman hockey player", ["person"]),
        ("a hippie girl", ["person"]),
        ("a greyhound dog", ["dog"]),
        ("a race car driver", ["person"]),
        ("a softball player", ["person"]),
        ("a hot dog vendor", ["person"]),
        ("a baby chair", ["chair"]),
        ("a picnic table bench", ["bench"]),
        ("three women soccer players", ["person"]),
        ("women's tennis players", ["person"]),
        ("two women skiers", ["person"]),
        ("women and skiers", ["person", "person"]),
        # What is made for some people, and what some people have.
        ("a kids bike", ["bicycle"]),
        ("a kids' table", ["dining table"]),
        ("a children's book on a bed", ["book", "bed"]),
        ("womens bicycles", ["bicycle"]),
        ("a girls bike", ["person", "bicycle"]),
        ("the mans hat", ["person"]),
        ("a mens hat", []),
        ("the women's umbrellas", ["person", "umbrella"]),
        ("a dentist's office", []),
        ("a shepherd's pie", []),
        # What parts belong to an owner who is there.
        ("a dog's collar", ["dog"]),
        ("a dog collar", []),
        ("a cat's eyes", ["cat"]),
        ("a bull's eye", []),
        ("a bicycle seat", ["bicycle"]),
        ("a car seat", []),
        # What something only looks like.
        ("a cake shaped like a train", ["cake"]),
        ("a clock in the shape of a large cat", ["clock"]),
        ("a cake shaped like a train on a table", ["cake", "dining table"]),
        ("a teddy bear dressed up as a doctor", ["teddy bear"]),
        ("a man dressed in a suit as a dog barks", ["person", "dog"]),
        ("a bus painted like a cow", ["bus"]),
        ("a cake made to look like a train", ["cake"]),
        ("a vase that looks like a bird", ["vase"]),
        ("food that looks like a pizza", ["pizza"]),
        ("a child dressed as a pirate", ["person"]),
        ("someone dressed as a pirate", ["person"]),
        ("a laptop computer keyboard", ["keyboard"]),
        # Lists.
        ("a man woman and child", ["person", "person", "person"]),
        ("a knife fork and spoon", ["knife", "fork", "spoon"]),
        ("a male, a tennis player", ["person", "person"]),
        ("a white clock a red cup a zebra and a horse", ["clock", "cup", "zebra", "horse"]),
        # What is not there.
        ("a cart with no passenger", []),
        ("a street without a car", []),
        ("no cars or other people", []),
        ("a street free of cars", []),
        ("a room without any people in it", []),
        ("a dog and no one else", ["dog"]),
        ("a man without a shirt and a woman", ["person", "person"]),
        # Names.
        ("a cat named Miss Kitty", ["cat"]),
        ("a Hello Kitty backpack", ["backpack"]),
        ("mr. bear and Mrs Cow", []),
        ("a killer whale", []),
        ("a record player", []),
        ("a player for the Cardinals in a game", ["person"]),
        ("a stuffed sheep on a bed", ["teddy bear", "bed"]),
        ("a snow man", []),
        ("Dr. Dog", []),
        ("Mother Nature", []),
        ("baby corn and baby carrots", ["carrot"]),
        ("a Chicago Bears fan", []),
        ("a bird's eye view of boats", ["boat"]),
    ],
)
def test_what_neighbours_name(caption: str, words: list[str]) -> None:
    assert [name for _, name in found(caption)] == words


@pytest.mark.parametrize(
    ("caption", "spans"),
    [
        ("a male tennis player", [(2, 4)]),
        ("a bus stops", [(1, 2)]),
        ("a man 's cat", [(1, 2), (3, 4)]),
        ("a T.V. on a stand", [(1, 2)]),
    ],
)
def test_the_words_that_a_category_covers(caption: str, spans: list[tuple[int, int]]) -> None:
    assert [(start, stop) for start, stop, _ in word_maps.visual_words(caption)] == spans


def test_any_word_in_front_in_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("-: * museumlet")
    mine = word_maps.extended(path)
    assert word_maps.visual_words("a cat museumlet", mine) == []
    assert word_maps.visual_words("a cat museumlet") == [(1, 2, "cat")]


@pytest.mark.parametrize(
    ("compound", "category"),
    [
        ("electric toaster", "toaster"),
        ("big brown dogs", "dog"),
        ("dog food", None),
        ("dog and", None),
    ],
)
def test_a_compound_by_itself_is_what_its_last_word_is(compound: str, category: str | None) -> None:
    assert word_maps.category(compound) == category
