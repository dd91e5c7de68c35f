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


@pytest.mark.parametrize(
    ("question", "annotation", "said"),
    [
        ({}, {"answers": ["red", "blue"]}, "annotations 10: answers[0] is 'red', not an object"),
        ({}, {"answers": None}, "annotations 10: answers is None, not a list"),
        ({}, {"answers": [{"raw_answer": "red"}]}, "annotations 10: no answer in answers[0]"),
        ({}, {"answers": [{"answer": 3}]}, "annotations 10: answers[0].answer is 3, not text"),
        ({}, {"question_id": []}, "annotations[0]: question_id is [], not a whole number"),
        ({"image_id": None}, {}, "questions 10: image_id is None, not a whole number"),
        ({"image_id": [1]}, {}, "questions 10: image_id is [1], not a whole number"),
        ({"image_id": {}}, {}, "questions 10: image_id is {}, not a whole number"),
        ({"image_id": "1"}, {}, "questions 10: image_id is '1', not a whole number"),
        ({"image_id": True}, {}, "questions 10: image_id is True, not a whole number"),
        ({"image_id": -1}, {}, "questions 10: no photo -00000000001.jpg"),
        ({"question_id": []}, {}, "questions[0]: question_id is [], not a whole number"),
        ({"question": None}, {}, "questions 10: question is None, not text"),
        ({"question": " "}, {}, "questions 10: no word in it"),
        ({"question": "half a pair \ud800"}, {}, "questions 10: half of a surrogate pair"),
    ],
)
def test_an_odd_entry_is_left_out_and_told(
    data: Path, question: dict[str, object], annotation: dict[str, object], said: str
) -> None:
    """Nothing is asked as "None", and no text is taken for a number."""
    whole = read_data(data)
    for name, odd in (("questions", question), ("annotations", annotation)):
        path = data / "annotations" / f"{name}.json"
        entries = json.loads(path.read_text())[name]
        (entry,) = (one for one in entries[:1] if one["question_id"] == 10)
        entry.update(odd)
        path.write_text(json.dumps({name: entries}), "utf-8-sig")
    splits = read_data(data)
    numbers = {one.number for one in (*splits.train, *splits.val)}
    assert numbers == {one.number for one in (*whole.train, *whole.val)} - {10}
    assert any(said in line for line in splits.skipped), splits.skipped


def test_answers_given_twice_and_files_of_one_subset_are_told(data: Path) -> None:
    folder = data / "annotations"
    path = folder / "annotations.json"
    entries = json.loads(path.read_text())["annotations"]
    other = {**entries[0], "answers": [{"answer": "another"}]}
    path.write_text(json.dumps({"annotations": [*entries, other]}))
    (folder / "Older_questions.json").write_bytes((folder / "questions.json").read_bytes())
    splits = read_data(data)
    assert splits.skipped == (
        "Older_questions.json: not read, questions.json is of the same photos",
        f"annotations.json: annotations {other['question_id']}: occurs twice",
    )
    assert "another" not in {a for one in (*splits.train, *splits.val) for a in one.answers}


def test_empty_files_hold_no_question(data: Path) -> None:
    (data / "annotations" / "questions.json").write_text('{"questions": []}')
    with pytest.raises(
        ValueError, match=r"no question .* \(questions\.json, annotations.json hold"
    ):
        read_data(data)
