"""``vlcam train vqa``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.samples.vqa.training import SIZES
from tests.tools.command_line import called
from vlcam.cli.parser import main


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--{k.replace('_', '-')}={v}" for k, v in (SIZES | {"epochs": 1}).items()]
    assert main(["train", "vqa", "--data", str(data), "--out", str(tmp_path / "m"), *options]) == 0
    assert "val: accuracy all" in capsys.readouterr().out
    assert called("train", "vqa", "--data", tmp_path / "none", "--out", "x") == 2
    assert "vlcam train vqa: " in capsys.readouterr().err
