"""``vlcam train``: on scenes that a command has written, and what cannot begin."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch

from tests.tools.command_line import SCENES, Payload, below, called, read, refused


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Four scenes, written by the command."""
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()):
        patch.setattr(os, "cpu_count", lambda: 1)  # no processes, which start slowly
        assert called("scenes", folder, "--images", 4, "--seed", 7) == 0
    yield folder


def test_scenes_are_written_trained_on_and_explained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = sorted((data / "images").iterdir())
    assert [photo.name for photo in photos] == [f"{i:012}.jpg" for i in range(1, 5)]
    captions = json.loads((data / "annotations" / "captions.json").read_text())
    assert len(captions["annotations"]) == 20
    model = tmp_path / "my-captioner"
    sizes = "--size 32 --embedding 8 --hidden 8 --threshold 1 --cnn-epochs 1 --epochs 1 --beams 2"
    command = ("train", "captioner", "--data", data, "--out", model, *sizes.split())
    assert called(*command) == 0
    assert "BLEU-1..4" in capsys.readouterr().out
    command = ("explain", photos[0], "--caption", "a dog", "--model")
    assert called(*command, model, "--out", tmp_path / "a") in (0, 1)  # it may not know the words
    word = json.loads((model / "config.json").read_text())["vocabulary"]["words"][0]
    command = ("explain", photos[0], "--caption", word, "--model")
    for path in (model, model / "model.safetensors", model / "config.json"):
        out = tmp_path / f"out-{path.name}"
        assert called(*command, path, "--out", out) == 0
        assert read(out / photos[0].stem)["model"] == "my-captioner"
    line = refused(capsys, *command, model / "report.json", "--out", tmp_path / "b")
    assert (
        "not a model vlcam recognises" in line
    )  # a file that is not the model's is not taken for it


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "missing", "--cnn-epochs", "1"), "missing: no such folder"),
        (("--data", "empty", "--cnn-epochs", "1"), "Flickr8k"),
        (("--data", "DATA", "--cnn-epochs", "1", "--cnn", "resnt50"), "did you mean resnet50"),
        (("--data", "DATA", "--cnn-weights", "text.pth"), "text.pth: not a readable weights file"),
        (("--data", "DATA", "--cnn-weights", "none.pth"), "none.pth: no such file"),
        (("--data", "DATA", "--cnn-weights", "payload.pth"), "payload.pth: not a readable"),
        (("--data", "DATA", "--cnn-weights", "cut.pth"), "cut.pth: not a readable"),
        (
            ("--data", "DATA", "--cnn-weights", "numbers.pth"),
            "(expected a state dict (names",
        ),
        (("--data", "DATA", "--cnn-weights", "other.safetensors"), "not the weights of small"),
        (("--data", "DATA"), "--cnn-weights"),
        (("--data", "DATA", "--cnn-epochs", "-1"), "--cnn-epochs: '-1' is not a whole"),
        (("--data", "DATA", "--cnn-epochs", "1", "--hidden", "0"), "'0' is not a whole"),
        (("--data", "DATA", "--cnn-epochs", "1", "--lr", "fast"), "'fast'"),
        ((), "--data"),
    ],
)
def test_trainings_that_cannot_begin(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    Path("text.pth").write_text("weights")
    torch.save({"a": Payload(tmp_path / "ran")}, "payload.pth")
    torch.save({"a": torch.zeros(5)}, "cut.pth", _use_new_zipfile_serialization=False)
    Path("cut.pth").write_bytes(Path("cut.pth").read_bytes()[:60])
    torch.save({0: torch.zeros(5)}, "numbers.pth")
    shutil.copy(SCENES / "model.safetensors", "other.safetensors")
    before = below(tmp_path)
    given = [str(data) if argument == "DATA" else argument for argument in arguments]
    assert said in refused(capsys, "train", "captioner", *given, "--out", "out")
    assert below(tmp_path) == before
