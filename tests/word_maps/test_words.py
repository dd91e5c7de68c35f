"""Words and the categories they name."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import word_maps
from tests.samples.captions import found
from vlcam.scenes.text import KINDS, NOUNS
from word_maps.words import NOTHING, parse, plural

TABLES = [Path(word_maps.__file__).with_name(name) for name in ("people.txt", "table.txt")]


FREQUENT_NOUNS = Path(__file__).with_name("frequent_nouns.txt")


def test_all_80_categories_by_their_own_names() -> None:
    names = word_maps.categories()
    assert len(names) == 80
    for name in names:
        assert word_maps.category(name) == name
        assert word_maps.visual_words(name.split()) == [(0, len(name.split()), name)]


@pytest.mark.parametrize(
    ("word", "category"),
    [
        ("dogs", "dog"),
        ("puppies", "dog"),
        ("buses", "bus"),
        ("couches", "couch"),
        ("knives", "knife"),
        ("mice", "mouse"),
        ("women", "person"),
        ("people", "person"),
        ("children", "person"),
        ("humans", "person"),
        ("firemen", "person"),
        ("geese", "bird"),
        ("sheep", "sheep"),
        ("skis", "skis"),
        ("wine glasses", "wine glass"),
        ("fire hydrants", "fire hydrant"),
        ("Dog", "dog"),
        ("skatebaord", "skateboard"),
        ("snowbaords", "snowboard"),
        ("surfbaord", "surfboard"),
        ("carrotts", "carrot"),
        ("dog's", "dog"),
        ("dogs.", "dog"),
        ("hot-dog", "hot dog"),
        ("hotdogs", "hot dog"),
        ("parkingmeters", "parking meter"),
        ("pottedplant", "potted plant"),
        ("TV", "tv"),
        ("grass", None),
        ("glasses", None),
        ("bus stop", None),
        ("", None),
    ],
)
def test_category(word: str, category: str | None) -> None:
    assert word_maps.category(word) == category


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a man eats a hot dog", [("man", "person"), ("hot dog", "hot dog")]),
        ("a hot dog dog", [("hot dog", "hot dog"), ("dog", "dog")]),
        ("two dogs near a fire hydrant .", [("dogs", "dog"), ("fire hydrant", "fire hydrant")]),
        ("a fire in the forest", []),
        ("people wait at a bus stop", [("people", "person")]),
        ("a bus driver", [("bus driver", "person")]),
        ("the bus , the driver", [("bus", "bus"), ("driver", "person")]),
        ("a red double-decker bus", [("double-decker bus", "bus")]),
        ("A Teddy Bear, a polar bear.", [("Teddy Bear,", "teddy bear"), ("polar bear.", "bear")]),
        ("a glass of red wine", [("glass of red wine", "wine glass")]),
        ("a dog's bowl", [("dog's", "dog"), ("bowl", "bowl")]),
        ("an orange on a plate", [("orange", "orange")]),
        ("an apple and an orange.", [("apple", "apple"), ("orange.", "orange")]),
        ("an orange and an apple", [("orange", "orange"), ("apple", "apple")]),
        ("an orange, a banana", [("orange,", "orange"), ("banana", "banana")]),
        ("an orange , a banana", [("orange", "orange"), ("banana", "banana")]),
        ("orange", [("orange", "orange")]),
        ("bright oranges", [("oranges", "orange")]),
        ("an orange cat", [("cat", "cat")]),
        ("a large orange and pink parasol", [("parasol", "umbrella")]),
        ("a red and orange kite", [("kite", "kite")]),
        ("a kite that is red and orange", [("kite", "kite")]),
        ("a man in orange", [("man", "person")]),
        ("a bright orange bus", [("bus", "bus")]),
        ("a bus, stop signs", [("bus,", "bus"), ("stop signs", "stop sign")]),
        (
            "a horse, a dog, park benches",
            [("horse,", "horse"), ("dog,", "dog"), ("park benches", "bench")],
        ),
        ("a dog , park benches", [("dog", "dog"), ("park benches", "bench")]),
        ("a St. Bernard", [("St. Bernard", "dog")]),
        ("a men's room", []),
        ("hot", []),
        ("", []),
    ],
)
def test_visual_words(caption: str, words: list[tuple[str, str]]) -> None:
    assert found(caption) == words


def test_each_of_the_most_frequent_nouns_names_what_was_decided() -> None:
    lines = FREQUENT_NOUNS.read_text("utf-8").splitlines()
    decided = [line.split(": ") for line in lines if not line.startswith("#")]
    nouns = {noun: name for name, nouns in decided for noun in nouns.split()}
    assert len(nouns) >= 830
    found = {noun: word_maps.category(noun) or NOTHING for noun in nouns}
    assert [(noun, found[noun]) for noun in nouns if found[noun] != nouns[noun]] == []


def test_every_noun_of_the_scenes_is_known() -> None:
    for category, nouns in [*NOUNS.items(), *(("person", nouns) for nouns in KINDS.values())]:
        for noun in nouns:
            for form in noun:
                assert word_maps.category(form) == category, form


def test_plural() -> None:
    words = ["dog", "bus", "pony", "boy", "woman", "bench", "box"]
    assert [plural(w) for w in words] == [
        "dogs", "buses", "ponies", "boys", "women", "benches", "boxes"
    ]  # fmt: skip


def test_a_word_cannot_stand_under_two_categories() -> None:
    with pytest.raises(ValueError, match="line 2: 'pups' already names 'dog'"):
        parse("dog: pup\nseal: pups/pups")
    with pytest.raises(ValueError, match=r"line 1: 'dog' is not 'category: word, word, ...'"):
        parse("dog")


def test_parse() -> None:
    table = parse(
        "# notes\n\n-: bus stop\nmouse/mice: computer mouse/computer mice  # rodents not\n"
    )
    assert table == {
        "bus stop": NOTHING,
        "bus stops": NOTHING,
        "mouse": "mouse",
        "mice": "mouse",
        "computer mouse": "mouse",
        "computer mice": "mouse",
    }


def test_stands_alone() -> None:
    code = (
        "import sys, word_maps; word_maps.category('dog');"
        "print(sorted({'vlcam', 'captioning', 'vqa', 'torch'} & set(sys.modules)))"
    )
    root = Path(word_maps.__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_the_table_is_as_large_as_the_papers() -> None:
    lines = [line.split("#")[0] for path in TABLES for line in path.read_text("utf-8").splitlines()]
    entries = Counter[str]()
    for name, colon, words in (line.partition(":") for line in lines):
        if colon and not name.startswith(NOTHING):
            entries[name.split("/")[0].strip()] += 1 + sum(map(bool, words.split(",")))
    assert len(entries) == 80 and sum(entries.values()) >= 830
    assert [name for name, count in entries.items() if count < 4] == []


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("dog: doggerel\nrobot: android\n-: puppy, model\nwine glass: glass/glasses\n")
    mine = word_maps.extended(path)
    for word, name in (("doggerels", "dog"), ("robots", "robot"), ("cat", "cat")):
        assert word_maps.category(word, mine) == name
    assert word_maps.category("puppies", mine) is None
    assert word_maps.category("puppies") == "dog"
    # What a user says of a word stands, whatever the rules would say.
    assert word_maps.visual_words(["a", "glass"], mine) == [(1, 2, "wine glass")]
    assert "robot" in mine.categories and "robot" not in word_maps.categories()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seal: puppy", "mine.txt: 'puppy' already names 'dog'"),
        ("puppy", "mine.txt: line 1: 'puppy' is not 'category: word, word, ...'"),
        (None, "mine.txt: No such file"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "mine.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=said):
        word_maps.extended(path)
