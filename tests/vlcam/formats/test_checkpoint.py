"""Folders of ours that are damaged: each named in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import vlcam
from tests.tools.command_line import PHOTOS, SCENES, refused


def _settings(**changes: Any) -> Callable[[Path], Path]:
    """The bundled model with other settings."""

    def make(folder: Path) -> Path:
        config = json.loads((SCENES / "config.json").read_text("utf-8"))
        shutil.copytree(SCENES, folder)
        (folder / "config.json").write_text(json.dumps(config | changes))
        return folder

    return make


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], Path]:
    """The bundled model with other weights; the path of their file."""

    def make(folder: Path) -> Path:
        shutil.copytree(SCENES, folder)
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")
        return folder / "model.safetensors"

    return make


def _cut(name: str, length: int) -> Callable[[Path], Path]:
    """The bundled model with a file that ends early."""

    def make(folder: Path) -> Path:
        shutil.copytree(SCENES, folder)
        (folder / name).write_bytes((SCENES / name).read_bytes()[:length])
        return folder

    return make


def _file(name: str, content: bytes, returned: str = "") -> Callable[[Path], Path]:
    """A folder with one file."""

    def make(folder: Path) -> Path:
        folder.mkdir()
        (folder / name).write_bytes(content)
        return folder / returned

    return make


WEIGHTS, CONFIG, FOREIGN = "model.safetensors: ", "config.json: ", "not a model vlcam recognises"
BAD_MODELS: list[tuple[str, Callable[[Path], Path]]] = [
    (FOREIGN, _file("readme.txt", b"")),
    (FOREIGN, _file("readme.txt", b"", "readme.txt")),
    (f"{CONFIG}not JSON", _cut("config.json", 100)),
    (f"{CONFIG}not JSON", _file("config.json", b"[" * 200_000)),
    (f"{CONFIG}not JSON", _file("config.json", b"\xff\xfe")),
    (FOREIGN, _settings(architecture="updown")),
    (FOREIGN, _file("config.json", b'{"model_type": "blip", "architectures": 5}')),
    (FOREIGN, _file("config.json", b'{"model_type": "blip", "architectures": ["BlipModel"]}')),
    (f"{WEIGHTS}no such file", _file("config.json", (SCENES / "config.json").read_bytes())),
    (f"{WEIGHTS}not a readable", _cut("model.safetensors", 5000)),
    (f"{WEIGHTS}not a readable", _cut("model.safetensors", 500_000)),
    (f"{WEIGHTS}not a readable", _cut("model.safetensors", 0)),
    ("missing encoder.net", _settings(cnn="alexnet")),
    ("missing logits.bias", _weights(lambda state: state.pop("logits.bias"))),
    ("unexpected extra", _weights(lambda state: state.update(extra=torch.zeros(1)))),
    ("has shape (3,)", _weights(lambda state: state.update({"logits.bias": torch.zeros(3)}))),
    (
        "has shape (3, 1, 1, 1, 1, 1, 1, 1, ...)",
        _weights(lambda state: state.update({"logits.bias": torch.zeros([3] + [1] * 40)})),
    ),
    (
        "holds torch.complex64",
        _weights(
            lambda s: s.update({"logits.bias": torch.complex(*2 * [s["logits.bias"].float()])})
        ),
    ),
    (
        "logits.bias holds numbers that are not finite",
        _weights(lambda state: state["logits.bias"][3:4].fill_(torch.nan)),
    ),
    (f"{CONFIG}unknown CNN 'resnt50'; did you mean resnet50", _settings(cnn="resnt50")),
    (f"{CONFIG}unknown CNN 5", _settings(cnn=5)),
    (f"{CONFIG}embedding is '256'", _settings(embedding="256")),
    (f"{CONFIG}hidden is -1", _settings(hidden=-1)),
    (CONFIG, _settings(hidden=10**12)),
    (f"{CONFIG}dropout_input is None", _settings(dropout_input=None)),
    (f"{CONFIG}vocabulary", _settings(vocabulary=["a", "UNK"])),
    (f"{CONFIG}length_power is -1", _settings(length_power=-1)),
    (f"{CONFIG}preprocess", _settings(preprocess=None)),
    (f"{CONFIG}preprocess", _settings(preprocess={"size": [224]})),
    (f"{CONFIG}not a captioner's configuration", _settings(surplus=1)),
]


@pytest.mark.parametrize(("said", "make"), BAD_MODELS)
def test_a_bad_checkpoint_is_told_of_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    said: str,
    make: Callable[[Path], Path],
) -> None:
    out, model = tmp_path / "out", make(tmp_path / "model")
    line = refused(capsys, "explain", *PHOTOS[:2], "--model", model, "--out", out)
    assert said in line and str(tmp_path / "model") in line and not out.exists()


@pytest.mark.parametrize("lie", [{"embedding": 10**9}, {"hidden": 10**9}, {"hidden": 20_000}])
def test_a_model_many_times_as_large_as_its_weights_is_not_built(
    tmp_path: Path, lie: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=r"config\.json: it asks for a network far larger"):
        vlcam.load(_settings(**lie)(tmp_path / "model"))
