"""Training a dense captioner: data that does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioning.training.densecap import read_data
from tests.samples.captioning.densecap import squares
from vlcam.cli.parser import main
from vlcam.formats.vocabulary import Vocabulary
from vlcam.photo.preprocess import Preprocess


def test_what_cannot_be_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    entries = squares(folder, 4, 0)
    command = ["train", "densecap", "--cnn-epochs", "1", "--out", str(tmp_path / "m")]
    assert main([*command, "--data", str(folder)]) == 2
    assert "neither region_descriptions.json nor" in capsys.readouterr().err
    inside = {"phrase": "a dog", "x": -5, "y": 90, "width": 10, "height": 20}
    beyond = {"phrase": "a cat", "x": 100, "y": 0, "width": 10, "height": 10}
    silent = {"phrase": "...", "x": 0, "y": 0, "width": 10, "height": 10}
    entries[0] = {"id": 1, "regions": [inside, dict(inside, phrase="the dog"), beyond, silent]}
    entries[1] = {"id": 2, "regions": [beyond]}
    (folder / "images" / "3.png").write_bytes(b"no photo")
    (folder / "region_descriptions.json").write_text(json.dumps(entries))
    data = read_data(folder, 0)
    said = capsys.readouterr().err
    assert "2: no region with words and a box" in said and "3.png: not a readable image" in said
    photos = {one.photo.stem: one for some in data.values() for one in some}
    assert set(photos) == {"1", "4"} and len(data["val"]) == 1
    # Cut off at the photo's edges; two captions of one box; what lies beyond is left out.
    assert photos["1"].boxes == ((0, 90, 5, 96),)
    assert photos["1"].captions == ((("a", "dog"), ("the", "dog")),)
    lesson = photos["1"].lesson(Vocabulary(("a", "dog", "UNK")), Preprocess(size=(192, 96)))
    assert lesson.boxes.tolist() == [[0, 180, 5, 192]]
    assert lesson.captions == [[[1, 2], [3, 2]]]
