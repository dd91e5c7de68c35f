"""Models rewritten as safetensors and JSON: the same, and whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.samples.vqa.lstm_cnn_torch7 import write_checkpoint
from tests.tools.disk import check_writer
from vlcam.cli.commands.convert import convert
from vlcam.cli.parser import main
from vlcam.models import load
from vlcam.utils.files.atomic import recover


def test_a_converted_model_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original, out = write_checkpoint(tmp_path / "torch7"), tmp_path / "new" / "model"
    assert main(["convert", str(original), str(out)]) == 0
    assert capsys.readouterr().out == f"{original}: lstm-cnn-torch7 -> {out}\n"
    assert sorted(p.name for p in out.iterdir()) == ["config.json", "model.safetensors"]
    one, other = load(original), load(out)
    state = other.module.state_dict()
    assert state.keys() == one.module.state_dict().keys()
    assert all(torch.equal(v, state[k]) for k, v in one.module.state_dict().items())
    assert one.understand("is the dog red ?") == other.understand("is the dog red ?")  # type: ignore[attr-defined]
    assert main(["models", str(out)]) == 0
    assert f"{out}: lstm-cnn, vqa" in capsys.readouterr().out


def test_whatever_fails_a_model_is_there_or_nothing(tmp_path: Path, quick_path: Path) -> None:
    original = write_checkpoint(tmp_path / "torch7")

    def make(folder: Path, _: int) -> None:
        if not there(folder):
            convert(original, folder / "model")

    def there(folder: Path) -> object:
        recover(folder)
        out = folder / "model"
        return load(out).name if out.exists() else None

    check_writer(quick_path, make, there, every=0, sizes=(1000,), replaces=False)


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "scenes", str(tmp_path)]) == 1
    assert "there is something already" in capsys.readouterr().err


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    original = write_checkpoint(tmp_path / "torch7")
    (original / "lstm.t7").write_bytes((original / "lstm.t7").read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"lstm\.t7"):
        convert(original, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["torch7"]
