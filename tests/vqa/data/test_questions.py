"""VQA's layout: official names, splits, and files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.samples.vqa.training import write
from vqa.data.questions import read_data


def test_official_names_and_splits(tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for subset, number in (("train2014", 1), ("val2014", 2)):
        (folder / subset).mkdir()
        Image.new("RGB", (8, 8)).save(folder / subset / f"COCO_{subset}_{number:012}.jpg")
        questions = [{"question_id": number, "image_id": number, "question": "what?"}]
        said = [{"question_id": number, "answers": [{"answer": "A dog."}]}]
        prefix = (f"v2_OpenEnded_mscoco_{subset}_", f"v2_mscoco_{subset}_")
        write(folder, questions, said, prefix)
    splits = read_data(folder)
    assert [a.photo.name for a in splits.train] == ["COCO_train2014_000000000001.jpg"]
    assert [a.number for a in splits.val] == [2] and not splits.test
    assert splits.train[0].answer == "A dog." and splits.train[0].kind == ""


def test_items_that_cannot_be_used_are_told_of(data: Path) -> None:
    path = data / "annotations" / "questions.json"
    questions = json.loads(path.read_text())["questions"]
    questions += [
        questions[0],
        {"question_id": 900, "image_id": 99, "question": "where?"},
        {"question_id": 901, "image_id": 1, "question": "who?"},
    ]
    path.write_text(json.dumps({"questions": questions}))
    splits = read_data(data)
    assert len(splits.train) + len(splits.val) == 20
    assert splits.skipped == (
        "questions.json: questions 10: occurs twice",
        "questions.json: questions 900: no photo 000000000099.jpg",
        "questions.json: questions 901: no answer",
    )
    assert not {a.photo for a in splits.train} & {a.photo for a in splits.val}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("questions.json", None, r"no annotations/\*questions\.json"),
        ("annotations.json", None, "no annotations file that goes with it"),
        ("questions.json", "{", "not JSON, or cut in the middle"),
        ("questions.json", "{}", "not a VQA file of questions"),
        ("questions.json", '{"questions": {}}', "not a VQA file of questions"),
        ("questions.json", '{"questions": [{"question_id": 1}]}', "questions 1: no image_id"),
        ("annotations.json", '{"annotations": [3]}', r"annotations\[0\] is 3, not an object"),
        ("annotations.json", '{"annotations": []}', "no question that can be used"),
    ],
)
def test_files_that_cannot_be_used(data: Path, name: str, text: str | None, said: str) -> None:
    path = data / "annotations" / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_data(data)
    assert str(data) in str(error.value)
