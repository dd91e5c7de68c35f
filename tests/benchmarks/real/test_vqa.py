"""The benchmark of VQA models on real photos, run whole on a tiny model and made-up photos."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.real import vqa as benchmark
from tests.samples.families.own import tiny_glimpses
from vlcam.formats import checkpoint

SAID = {"train": ["red", "red", "yellow"], "test": ["yellow", "red"]}


def answers(number: int, answer: str, people: int = 10, **more: Any) -> dict[str, Any]:
    return {"question_id": number, "answers": [{"answer": answer}] * people, **more}


def write(folder: Path, prefix: str, questions: list[Any], annotations: list[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in (("questions", questions), ("annotations", annotations)):
        (folder / f"{prefix}{name}.json").write_text(json.dumps({name: entries}))


def photos(folder: Path, numbers: list[int]) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in numbers:
        pixels = random.integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:012}.jpg")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Questions with evidence, questions of VQA v2 about COCO photos, and a model."""
    made = tmp_path / "questions"
    boxes = {}
    for split, said in SAID.items():
        numbers = [10 * (split == "test") + i for i in range(1, len(said) + 1)]
        photos(made / split, numbers)
        asked = [
            {"question_id": n, "image_id": n, "question": "what color is the dog?"} for n in numbers
        ]
        given = [answers(n, a, answer_type="color") for n, a in zip(numbers, said, strict=True)]
        write(made / "annotations", f"{split}_", asked, given)
        boxes |= {str(n): [[0, 0, 30, 40], [30, 0, 60, 20]] for n in numbers}
    boxes["12"] = []  # no evidence: nothing to point at
    (made / "annotations" / "evidence.json").write_text(json.dumps(boxes))
    photos(tmp_path / "coco" / "val2017", [1])
    asked = [
        {"question_id": n, "image_id": image, "question": text}
        for n, image, text in ((1, 1, "is the dog red?"), (2, 1, "zebras?"), (3, 9, "is it?"))
    ]
    given = [answers(1, "red", 1), answers(2, "yes", 1), answers(3, "no", 1)]
    write(tmp_path / "vqa", "", asked, given)
    model = tiny_glimpses().float()
    checkpoint.save_folder(model, model.config.to_json(), tmp_path / "model")
    return tmp_path


def rows(text: str) -> dict[str, list[str]]:
    """The tables' rows by their first cell; of equal ones the last."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {some[0]: some[1:] for some in cells if len(some) > 1}


def test_every_figure_is_in_the_table(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = folders / "table.md"
    names = {"data": folders, "questions": folders / "questions", "model": folders / "model"}
    given = [str(x) for name, path in names.items() for x in (f"--{name}", path)]
    sizes = ["--patches", "16", "--stride", "16", "--occluded", "1"]
    monkeypatch.setattr(sys, "argv", ["real_vqa.py", *given, *sizes, "--out", str(out)])
    threads = torch.get_num_threads()
    benchmark.main()
    assert torch.get_num_threads() == threads
    text = out.read_text("utf-8")
    found = rows(text)
    # Of the test answers "red", the training's most frequent one, is one of two.
    assert found["color"][:2] == ["2", "50.0 ± 50.0"]
    # One of the two has boxes, which cover three quarters of the photo.
    assert found["people's answer, forced: color"][:2] == ["1", "75.0 (one photo: no error)"]
    assert found["people's answer, forced: what"][:2] == ["0", ""]
    assert "2 questions about 1 COCO photos" in text and "which count as wrong: 1" in text
    assert "Skipped: 1." in text
    assert (
        found["other"][:2] == ["1", "100.0 (one photo: no error)"]
        and found["yes/no"][1] == "0.0 (one photo: no error)"
    )


def test_what_is_no_evidence_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    for text in ("[]", '{"1": [[1, 2, 3]]}', '{"one": []}', "{"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"evidence\.json: not a file of evidence"):
            benchmark.read_boxes(path)
    with pytest.raises(ValueError, match="not a file of evidence"):
        benchmark.read_boxes(tmp_path / "missing.json")
