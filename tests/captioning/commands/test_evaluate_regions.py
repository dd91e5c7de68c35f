"""``vlcam evaluate regions`` with the regions of a dense captioner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from captioning.models import densecap
from captioning.models.densecap import Source
from tests.tools.command_line import OF_SCENES
from vlcam.cli.parser import main


def test_the_whole_pipeline(dense_captioner: Path, squares_data: Path, tmp_path: Path) -> None:
    """Five regions of the dense captioner are scored with the maps of another captioner."""
    out = tmp_path / "out"
    command = [
        "evaluate",
        "regions",
        "--regions",
        str(dense_captioner),
        "--photos",
        str(squares_data),
    ]
    command += [*OF_SCENES, "--limit", "3", "--out", str(out)]
    assert main([*command, "--top", "2"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    (ours,) = (row for row in summary["tables"][0]["rows"] if row["map"] == "grad-cam")
    assert 3 <= ours["regions"] <= 6 and summary["photos"] == 3
    before = (out / "summary.json").read_bytes()
    assert main([*command, "--top", "2", "--resume"]) == 0
    assert (out / "summary.json").read_bytes() == before
    assert summary["settings"]["dense captioner"] == Source(dense_captioner).digest()


def test_another_dense_captioner_does_not_resume(
    dense_captioner: Path, squares_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    command = ["evaluate", "regions", *OF_SCENES, "--photos", str(squares_data)]
    command += ["--limit", "1", "--out", out]
    assert main([*command, "--regions", str(dense_captioner)]) == 0
    changed = densecap.load_module(dense_captioner)
    torch.nn.init.zeros_(changed.writer.logits.bias)
    densecap.save_module(changed, tmp_path / "other")
    assert main([*command, "--regions", str(tmp_path / "other"), "--resume"]) == 1
    assert "settings.dense captioner is" in capsys.readouterr().err
