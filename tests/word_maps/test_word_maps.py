"""Visual words and their segmentations."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks
from pycocotools.coco import COCO

import word_maps
from vlcam.scenes.text import KINDS, NOUNS
from word_maps import segmentation
from word_maps.coverage import nouns as places_of_nouns
from word_maps.words import NOTHING, parse, plural

TABLE = Path(word_maps.__file__).with_name("table.txt")


def found(caption: str) -> list[tuple[str, str]]:
    tokens = caption.split()
    return [(" ".join(tokens[a:b]), name) for a, b, name in word_maps.visual_words(tokens)]


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
        ("dog's", "dog"),
        ("dogs.", "dog"),
        ("hot-dog", "hot dog"),
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


def square(x: int, y: int, side: int) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def instances(annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": 7, "height": 6, "width": 8}, {"id": 8, "height": 2, "width": 2}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [{"id": n, "image_id": 7} | a for n, a in enumerate(annotations, 1)],
    }
    coco.createIndex()
    return coco


def test_word_map_unites_polygons_rle_and_crowds() -> None:
    compressed = np.zeros((6, 8), np.uint8)
    compressed[5, 7] = 1
    coco = instances(
        [
            {"category_id": 18, "iscrowd": 0, "segmentation": square(0, 0, 2)},
            {
                "category_id": 18,
                "iscrowd": 1,  # uncompressed, column by column: 6 x 3 + 1 pixels off, 2 on
                "segmentation": {"size": [6, 8], "counts": [19, 2, 27]},
            },
            {
                "category_id": 18,
                "iscrowd": 0,
                "segmentation": masks.encode(np.asfortranarray(compressed)),
            },
            {"category_id": 17, "iscrowd": 0, "segmentation": square(4, 3, 1)},
        ]
    )
    dog = word_maps.word_map(coco, 7, "dog")
    assert dog.dtype == bool and dog.shape == (6, 8)
    assert sorted((int(x), int(y)) for y, x in np.argwhere(dog)) == [
        (0, 0), (0, 1), (1, 0), (1, 1), (3, 1), (3, 2), (7, 5)
    ]  # fmt: skip
    without = word_maps.word_map(coco, 7, "dog", crowds=False)
    assert (dog & ~without).sum() == 2 and not without[1, 3] and not without[2, 3]
    assert np.argwhere(word_maps.word_map(coco, 7, "cat")).tolist() == [[3, 4]]
    assert word_maps.present(coco, 7) == {"dog", "cat"}
    assert not word_maps.word_map(coco, 8, "dog").any()
    assert word_maps.present(coco, 8) == set()


def rle(mask: np.ndarray) -> dict[str, Any]:
    """Compressed, as text."""
    made = masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": made["size"], "counts": made["counts"].decode()}


def test_compressed_run_lengths_are_pycocotools() -> None:
    random = np.random.default_rng(0)
    for height, width in ((7, 5), (40, 300), (640, 480)):
        for share in (0.002, 0.5, 0.999):
            mask = random.random((height, width)) < share
            mask[2:5, 1:4] = True
            found = rle(mask)
            assert segmentation.problem(found, (height, width)) is None
            lengths = segmentation._decompressed(found["counts"])
            flat = mask.flatten("F")
            assert sum(lengths) == flat.size and sum(lengths[1::2]) == mask.sum()
            assert np.array_equal(np.repeat(np.arange(len(lengths)) % 2, lengths), flat)


SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([SQUARE], None),
        ([SQUARE, [1, 1, 1, 1, 1, 1]], None),
        ([[-3, -3, 13, -3, 13, 13]], None),  # larger than the photo
        (None, "no segmentation"),
        ([], "no segmentation"),
        ([[1, 2, 3, 4]], "no list of three"),
        ([[1, 2, 3, 4, 5, "6"]], "no list of three"),
        ([[1, 1, 5, 1, float("nan"), 5]], "far from the image's [10, 10] pixels"),
        ([[1, 1, 5, 1, 2e9, 5]], "far from the image's [10, 10] pixels"),
        ([[1, 1, 5, 5, 9, 9]], "polygons without an area"),
        (rle(np.eye(10)), None),
        (rle(np.eye(11)), "RLE of size [11, 11], the image is [10, 10]"),
        (rle(np.zeros((10, 10))), "an RLE without an area"),
        ({"size": [10, 10], "counts": rle(np.eye(11))["counts"]}, "RLE of 121 pixels"),
        ({"size": [10, 10], "counts": rle(np.eye(10))["counts"][:-1]}, "pixels, the image has 100"),
        ({"size": [10, 10], "counts": "T3:Q"}, "an RLE without counts ("),
        ({"size": [10, 10], "counts": "no RLE!"}, "an RLE without counts ("),
        ({"size": [10, 10], "counts": ""}, "RLE of 0 pixels"),
        ({"size": [10, 10], "counts": "o" * 12 + "0"}, "an RLE without counts ("),
        ({"size": [10, 10], "counts": [50, 50]}, None),
        ({"size": [10, 10], "counts": [50, -50, 100]}, "an RLE without counts"),
        ({"size": [10, 10], "counts": [50.5, 49.5]}, "an RLE without counts"),
        ({"size": [10, 10], "counts": [[50], [50]]}, "an RLE without counts"),
        ({"size": [10, 10], "counts": [2**70, 50]}, "an RLE without counts"),
        ({"size": [10, 10], "counts": [50, "50"]}, "an RLE without counts"),
        ({"size": [10, 10]}, "an RLE without counts"),
        ({}, "RLE of size None"),
    ],
)
def test_what_cannot_be_drawn_is_told(found: Any, said: str | None) -> None:
    """pycocotools would draw some of these: with what was in memory."""
    told = segmentation.problem(found, (10, 10))
    assert (told is None) == (said is None) and (said or "") in (told or "")


def test_word_map_refuses_what_is_not_there() -> None:
    coco = instances([])
    with pytest.raises(ValueError, match="image 9 is not in the instances file"):
        word_maps.word_map(coco, 9, "dog")
    with pytest.raises(ValueError, match=r"'zebra' is not in the instances file$"):
        word_maps.word_map(coco, 7, "zebra")
    with pytest.raises(
        ValueError, match="'unicorn' is not in the instances file, nor is it one of"
    ):
        word_maps.word_map(coco, 7, "unicorn")


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
    lines = [line.split("#")[0] for line in TABLE.read_text("utf-8").splitlines()]
    entries = {
        name.split("/")[0].strip(): 1 + sum(bool(word.strip()) for word in words.split(","))
        for name, colon, words in (line.partition(":") for line in lines)
        if colon and not name.startswith(NOTHING)
    }
    assert len(entries) == 80 and sum(entries.values()) >= 830
    assert [name for name, count in entries.items() if count < 4] == []


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


def test_coverage_counts_words_and_names_what_is_missing() -> None:
    seen = word_maps.coverage(
        ["A dog on a fire hydrant.", "two gizmos and a dog", "the gizmos , a"]
    )
    assert (seen.captions, seen.words, seen.matched) == (3, 14, 4)
    assert seen.categories == {"dog": 2, "fire hydrant": 1}
    assert seen.unmatched == {"gizmos": 2}
    assert seen.share == 4 / 14


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a man riding a large wave", ["man", "wave"]),
        ("a living room with a lamp.", ["room", "lamp"]),
        ("the street is full of cars parked by the shed", ["street", "shed"]),
        ("his bright red hat, and some of it", ["hat"]),
        ("red and white", []),
        ("the", []),
        ("", []),
    ],
)
def test_nouns_are_found_without_a_tagger(caption: str, expected: list[str]) -> None:
    tokens = caption.split()
    assert [tokens[i].strip(".,") for i in places_of_nouns(tokens)] == expected


def test_coverage_from_the_command_line(tmp_path: Path) -> None:
    captions, mine = tmp_path / "captions.json", tmp_path / "mine.txt"
    captions.write_text('{"annotations": [{"caption": "a gizmo and a dog"}]}')
    mine.write_text("robot: gizmo\n")
    command = [sys.executable, "-m", "word_maps", str(captions)]
    for more, code, said in (
        ([], 0, "5 words, 1 of them (20.0 %) in visual words"),
        (["--table", str(mine)], 0, "5 words, 2 of them (40.0 %)"),
        (["--table", str(captions)], 2, "captions.json: line 1"),
    ):
        result = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        assert result.returncode == code and said in result.stdout + result.stderr
    captions.write_text("{}")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "captions.json: no captions in COCO's layout" in result.stderr
