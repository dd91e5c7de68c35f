"""Scenes on disk: their files are the official ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from vlcam.scenes.scene import scene
from vlcam.scenes.text import CAPTIONS, regions
from vlcam.scenes.write import write

IMAGES = 12


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("scenes") / "one"
    write(directory, IMAGES, seed=5, workers=1)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


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
