"""Scenes: what they claim is true of their pixels, and their files are the official ones."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from vlcam.scenes.attention import attention
from vlcam.scenes.questions import MOST, questions
from vlcam.scenes.scene import FINE, Scene, arrange, clip, majority, paint, scene
from vlcam.scenes.text import (
    CAPTIONS,
    LONGEST,
    NOUNS,
    REGIONS,
    captions,
    category_of,
    groups,
    regions,
    relations,
    where,
)
from vlcam.scenes.things import THING, THINGS
from vlcam.scenes.write import write

IMAGES = 12
COUNT_WORDS = {"two": (2,), "a couple of": (2,), "a pair of": (2,), "three": (3,), "four": (4,),
               "several": (3, 4), "a group of": (4,)}  # fmt: skip


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return [scene(3, index) for index in range(80)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scenes") / "one"
    write(directory, IMAGES, seed=5, workers=1)
    return directory


def named_in(sentence: str) -> set[str]:
    return {found for word in re.findall(r"\w+", sentence) if (found := category_of(word))}


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


# Pixels and masks.


def test_what_is_painted_is_what_is_owned() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        placed = arrange((480, 512), rng)
        picture = np.full((480, 512, 3), -1000, np.float32)
        owners, _ = paint(picture, placed, rng)
        assert np.array_equal((picture == -1000).all(axis=-1), owners == 0)
        expected = np.zeros_like(owners)  # the painter's algorithm, pixel by pixel
        for number, one in enumerate(placed, start=1):
            for row, column in np.argwhere(one.sprite.inks):
                y, x = one.y + row, one.x + column
                if 0 <= y < 480 and 0 <= x < 512:
                    expected[y, x] = number
        assert np.array_equal(owners, expected)


def test_a_photo_pixel_belongs_to_most_of_its_canvas_pixels() -> None:
    owners = np.random.default_rng(0).integers(0, 4, (16, 20)).astype(np.uint8)
    shown = majority(owners, 3)
    for row in range(8):
        for column in range(10):
            block = owners[row * FINE : row * FINE + FINE, column * FINE : column * FINE + FINE]
            count = Counter(block.ravel().tolist())
            assert shown[row, column] == max(count, key=lambda one: (count[one], one))


def test_masks_are_disjoint_and_mostly_in_sight(many: list[Scene]) -> None:
    for one in many:
        assert 1 <= len(one.items) <= 4
        assert np.stack([item.mask for item in one.items]).sum(axis=0).max() <= 1
        for item in one.items:
            assert item.mask.shape == one.pixels.shape[:2]
            assert item.seen > 0.5
            x, y, width, height = item.box
            cut = item.mask[y : y + height, x : x + width]
            assert cut.sum() == item.area == item.mask.sum() > 0
            assert cut[0].any() and cut[-1].any() and cut[:, 0].any() and cut[:, -1].any()


def test_a_clipped_sprite_lies_where_it_says() -> None:
    placed = arrange((480, 512), np.random.default_rng(1))[0]
    inks, (top, left, bottom, right) = clip(placed, (480, 512))
    assert inks.shape == (bottom - top, right - left)
    assert 0 <= top < bottom <= 480 and 0 <= left < right <= 512


def test_every_category_occurs_under_its_official_number(many: list[Scene]) -> None:
    assert {item.category for one in many for item in one.items} == set(THING)
    assert len(THINGS) >= 16 and len({thing.id for thing in THINGS}) == len(THINGS)
    official = {"person": 1, "bicycle": 2, "car": 3, "airplane": 5, "bus": 6, "boat": 9,
                "traffic light": 10, "fire hydrant": 11, "stop sign": 13, "bench": 15, "bird": 16,
                "cat": 17, "dog": 18, "horse": 19, "sheep": 20, "zebra": 24, "umbrella": 28,
                "kite": 38, "cup": 47, "banana": 52, "apple": 53, "pizza": 59,
                "clock": 85}  # fmt: skip
    assert {thing.name: thing.id for thing in THINGS} == official


def test_a_scene_is_decided_by_seed_and_index() -> None:
    assert np.array_equal(scene(1, 2).pixels, scene(1, 2).pixels)
    assert captions(scene(1, 2)) == captions(scene(1, 2))
    assert not np.array_equal(scene(1, 7).pixels[:200, :200], scene(2, 7).pixels[:200, :200])


# Words.


def test_words_and_their_categories() -> None:
    for category, nouns in NOUNS.items():
        for form in (form for pair in nouns for form in pair):
            assert category_of(form) == category
            assert {category_of(word) for word in form.split()} == {category}
    assert category_of("women") == category_of("guy") == "person"
    assert category_of("Puppies") == "dog"
    assert category_of("fire") == category_of("hydrants") == "fire hydrant"
    assert category_of("red") is None and category_of("cap") is None


def test_captions_speak_of_what_is_there(many: list[Scene]) -> None:
    for one in many:
        present = {group.category: group for group in groups(one)}
        said = captions(one)
        assert len(set(said)) == CAPTIONS
        for sentence in said:
            assert named_in(sentence) and named_in(sentence) <= set(present)
            assert len(sentence.split()) <= LONGEST and sentence.endswith(".")
        colours = {
            name
            for item in one.items
            for name in (*item.appearance.colours.values(), item.appearance.pose)
        }
        words = {word for sentence in said for word in re.findall(r"\w+", sentence.lower())}
        for name in ("red", "green", "blue", "purple", "pink", "brown", "yellow", "orange"):
            assert name not in words or name in colours


def test_most_captions_mention_everything(many: list[Scene]) -> None:
    complete = [named_in(said) == {item.category for item in one.items}
                for one in many for said in captions(one)]  # fmt: skip
    assert np.mean(complete) > 0.75


def test_counts_are_exact(many: list[Scene]) -> None:
    plurals = sorted((plural, category) for category, nouns in NOUNS.items()
                     for _, plural in nouns)  # fmt: skip
    pattern = re.compile(
        rf"\b({'|'.join(COUNT_WORDS)}) (?:\w+ )?({'|'.join(plural for plural, _ in plurals)})\b"
    )
    seen = 0
    for one in many:
        total = Counter(item.category for item in one.items)
        for sentence in captions(one):
            for words, plural in pattern.findall(sentence.lower()):
                assert total[category_of(plural.split()[-1])] in COUNT_WORDS[words]
                seen += 1
    assert seen > 40


def test_relations_hold_on_the_boxes(many: list[Scene]) -> None:
    seen: Counter[str] = Counter()
    for one in many:
        present = groups(one)
        for a in present:
            for b in present:
                if a is b:
                    continue
                found = relations(a, b, one)
                seen.update(found)
                (ax, ay, aw, ah), (bx, by, bw, bh) = a.box, b.box
                if "left of" in found:
                    assert ax + aw <= bx + bw / 2 and ax + aw / 2 <= bx
                    assert "right of" in relations(b, a, one)
                if "above" in found:
                    assert ay + ah <= by + bh / 2 and ay + ah / 2 <= by
                    assert "under" in relations(b, a, one)
                if "in front of" in found:
                    assert "behind" in relations(b, a, one)
                    assert one.items.index(a.items[0]) > one.items.index(b.items[0])
    assert {"left of", "right of", "next to", "above", "under", "behind"} <= set(seen)


def test_regions_describe_their_thing(many: list[Scene]) -> None:
    for one in many:
        found = regions(one)
        assert len(found) >= REGIONS
        assert {id(region.item) for region in found} == {id(item) for item in one.items}
        for region in found:
            assert named_in(region.phrase) == {region.item.category}
    phrases = " / ".join(region.phrase for one in many for region in regions(one))
    assert re.search(r"fire hydrant with an? \w+ cap", phrases)
    assert re.search(r"(striped|spotted) \w+", phrases)


# Questions.


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


def test_the_same_scene_in_other_colours(many: list[Scene]) -> None:
    index = next(i for i, one in enumerate(many) if any(x.category == "cup" for x in one.items))
    seed = many[index].seed
    other = scene(seed, many[index].index, {"cup": {"body": "pink"}})
    for before, after in zip(many[index].items, other.items, strict=True):
        assert np.array_equal(before.mask, after.mask) and before.category == after.category
        if after.category == "cup":
            assert after.appearance.colours["body"] == "pink"
        else:
            assert after.appearance == before.appearance
    for wrong in ({"cup": {"body": "mauve"}}, {"cup": {"lid": "red"}}, {"cow": {"body": "red"}}):
        with pytest.raises(ValueError, match=r"no .* of '(cup|cow)'"):
            scene(seed, 0, wrong)


def test_parts_are_where_their_colour_is(many: list[Scene]) -> None:
    seen = 0
    for item in (item for one in many for item in one.items if item.category == "fire hydrant"):
        body, cap = item.part_mask("body"), item.part_mask("cap")
        assert not (body & cap).any() and not ((body | cap) & ~item.mask).any()
        assert ("cap" in item.parts) <= cap.any()
        if item.seen == 1:
            rows = [np.argwhere(part)[:, 0].mean() for part in (cap, body)]
            assert rows[0] < rows[1], "the cap is on top"
            assert cap.sum() < body.sum() < item.area
        seen += 1
    assert seen > 3
    assert not many[0].items[0].part_mask("no such part").any()


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


def test_attention_falls_on_what_shows_the_answer(many: list[Scene]) -> None:
    rng = np.random.default_rng(0)
    ratios = []
    for one in many[:20]:
        item = one.items[-1]
        drawn = attention([item], rng)
        assert drawn.shape == item.mask.shape and drawn.dtype == np.uint8
        ratios.append(drawn[item.mask].mean() / drawn[~item.mask].mean())
    assert np.median(ratios) > 4


# Files.


def test_the_same_bytes_whatever_the_workers(written: Path, tmp_path: Path) -> None:
    write(tmp_path / "two", IMAGES, seed=5, workers=2)
    assert contents(written) == contents(tmp_path / "two")
    write(tmp_path / "other", 1, seed=6, workers=1)
    photo = Path("images", "000000000001.jpg")
    assert (written / photo).read_bytes() != (tmp_path / "other" / photo).read_bytes()


# pycocotools 2.0.11 has not caught up with NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_the_masks_exactly(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = COCO(str(written / "annotations" / "instances.json"))
    assert len(coco.imgs) == IMAGES
    for index in range(IMAGES):
        items = scene(5, index).items
        entries = coco.loadAnns(coco.getAnnIds(imgIds=index + 1))
        assert len(entries) == len(items)
        for item, entry in zip(items, entries, strict=True):
            assert np.array_equal(coco.annToMask(entry).astype(bool), item.mask)
            assert entry["area"] == item.area and entry["bbox"] == list(item.box)
            assert coco.cats[entry["category_id"]]["name"] == item.category
            assert entry["iscrowd"] == 0


def test_captions_and_regions_on_disk(written: Path) -> None:
    notes = written / "annotations"
    told = json.loads((notes / "captions.json").read_text())
    assert told["info"]["seed"] == 5
    assert Counter(one["image_id"] for one in told["annotations"]) == dict.fromkeys(
        range(1, IMAGES + 1), CAPTIONS
    )
    for entry in told["images"]:
        with Image.open(written / "images" / entry["file_name"]) as photo:
            assert photo.size == (entry["width"], entry["height"])
    described = json.loads((notes / "region_descriptions.json").read_text())
    for entry in described:
        found = regions(scene(5, entry["id"] - 1))
        boxes = [
            tuple(one[key] for key in ("x", "y", "width", "height")) for one in entry["regions"]
        ]
        assert boxes == [region.item.box for region in found]
        assert [one["phrase"] for one in entry["regions"]] == [region.phrase for region in found]


def test_questions_and_attention_on_disk(written: Path) -> None:
    notes = written / "annotations"
    asked = json.loads((notes / "questions.json").read_text())
    answered = json.loads((notes / "annotations.json").read_text())
    ids = [one["question_id"] for one in asked["questions"]]
    assert len(set(ids)) == len(ids)
    assert ids == [one["question_id"] for one in answered["annotations"]]
    for one in answered["annotations"]:
        said = Counter(answer["answer"] for answer in one["answers"])
        assert said.most_common(1)[0][0] == one["multiple_choice_answer"]
        assert [answer["answer_id"] for answer in one["answers"]] == list(range(1, 11))
    assert "simulated" in asked["info"]["attention"]
    assert "Simulated" in (written / "attention" / "README.md").read_text()
    maps = sorted((written / "attention").glob("*.png"))
    image_of = {one["question_id"]: one["image_id"] for one in asked["questions"]}
    views = Counter(int(path.stem.split("_")[0]) for path in maps)
    assert maps and set(views) <= set(ids) and set(views.values()) == {3}
    for path in maps:
        question_id, viewer = (int(part) for part in path.stem.split("_"))
        assert viewer in (1, 2, 3)
        with Image.open(path) as drawn:
            photo = Image.open(written / "images" / f"{image_of[question_id]:012d}.jpg")
            assert drawn.mode == "L" and drawn.size == photo.size
            photo.close()


def test_what_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images=0"):
        write(tmp_path / "none", 0, seed=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ValueError, match="not empty"):
        write(tmp_path / "mine", 1, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
