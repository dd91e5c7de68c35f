"""Folders of the deeper LSTM question model that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.samples.vqa.lstm_cnn import save
from tests.tools.command_line import PHOTO
from vlcam.cli.parser import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "tiny-vqa")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answers": "red"}, "answers: expected a list of texts"),
        ({"answers": []}, "answers: expected a list of texts"),
        ({"answers": ["red", ""]}, "answers: expected a list of texts"),
        ({"answers": ["red", "red", "two", "one"]}, "answers: 'red' occurs twice"),
        ({"tokenizer": "spacy"}, "tokenizer is 'spacy', expected words or nltk"),
        ({"standardise": 1}, "standardise is 1, expected true or false"),
        ({"hidden": 0}, "hidden is 0"),
        ({"dropout": 2}, "dropout is 2"),
        ({"vocabulary": None}, "vocabulary"),
        ({"surplus": 1}, "not a VQA model's configuration"),
        ({"answers": ["red"]}, "has shape (4,), expected (1,)"),
    ],
)
def test_a_bad_model_is_told_of_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    assert main(["explain", str(PHOTO), "--question", "what?", "--model", str(folder)]) == 1
    err = capsys.readouterr().err
    assert said in err and str(folder) in err and err.count("\n") == 1
