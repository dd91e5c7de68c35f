"""Outputs are tried before anything is computed, or any model or data is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tools.command_line import PHOTO, below, refused

MISSING = "missing"
"""A model or photo that is not there: what is told first is what is tried first."""
EMPTY = "empty"
"""Stands for a folder of the files that are looked for, all empty."""
FILES = ("instances.json", "captions.json", "v2_questions.json", "v2_annotations.json")

COMMANDS = {
    "explain": ("explain", MISSING, "--model", MISSING, "--out"),
    "layers": ("layers", PHOTO, "--model", EMPTY, "--out"),
    "regions": ("regions", PHOTO, "--model", EMPTY, "--out"),
    "demo": ("demo", "--out"),
    "words": ("evaluate", "words", "--data", EMPTY, "--out"),
    "regions' ratio": ("evaluate", "regions", "--regions", EMPTY, "--photos", EMPTY, "--out"),
    "attention": ("evaluate", "attention", "--data", EMPTY, "--out"),
    "faithfulness": ("evaluate", "faithfulness", "--photos", EMPTY, "--out"),
    "captioner": ("train", "captioner", "--data", EMPTY, "--out"),
    "densecap": ("train", "densecap", "--data", EMPTY, "--out"),
    "vqa": ("train", "vqa", "--data", EMPTY, "--out"),
    "convert": ("convert", MISSING),
    "questions": ("questions", "--data", EMPTY, "--entities", EMPTY, "--out"),
    "scenes": ("scenes", "--images", "1000000"),
}


@pytest.fixture
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "annotations").mkdir()
    for name in FILES:
        (folder / "annotations" / name).touch()
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_cannot_be_is_told_first(
    tmp_path: Path,
    empty: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    arguments = [empty if part == EMPTY else part for part in COMMANDS[command]]
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    long = "n" * 300
    for out, said in (
        ("file/out", "file: Not a directory"),
        (long, f"{long}: File name too long"),
        (f"new/{long}/out", f"new/{long}: File name too long"),
        ("/proc/out", "/proc/out: No such file or directory"),
    ):
        # Layers' are in a folder for each photo.
        line = refused(capsys, *arguments, out)
        assert line == f"vlcam: {said}\n" or line.startswith(f"vlcam: {out}/{PHOTO.stem}/"), line
    assert below(tmp_path) == ["file"] and Path("file").read_text() == "mine"


def test_regions_are_not_written_over_a_folder_or_a_photo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "photo.jpg"
    shutil.copyfile(PHOTO, photo)
    assert (
        refused(capsys, "regions", photo, "--out", tmp_path)
        == f"vlcam: {tmp_path}: Is a directory\n"
    )
    assert f"{photo}: is read for it" in refused(capsys, "regions", photo, "--out", photo)
    assert photo.read_bytes() == PHOTO.read_bytes()


def test_layers_are_not_drawn_over_the_photo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "layers" / "layers.png"
    photo.parent.mkdir()
    shutil.copyfile(PHOTO, photo)
    assert f"{photo}: is read for it" in refused(capsys, "layers", photo, "--out", tmp_path)


def test_a_training_does_not_write_over_its_weights(
    tmp_path: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    for given in (tmp_path, weights):
        options = ("--data", empty, "--out", tmp_path, "--cnn-weights", given)
        assert "is read for it" in refused(capsys, "train", "vqa", *options)
    assert weights.read_bytes() == b"weights"


def test_an_evaluation_that_is_there_is_told_of_before_any_data_is_read(
    tmp_path: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    command = ("evaluate", "words", "--data", empty, "--out", tmp_path)
    assert "holds an evaluation; give --resume" in refused(capsys, *command)
