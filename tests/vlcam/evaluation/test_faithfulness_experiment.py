"""``vlcam evaluate faithfulness``, of words and of answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tools.command_line import OF_SCENES
from vlcam.cli.parser import main


def test_faithfulness_of_words_and_of_answers(scenes: Path, tmp_path: Path) -> None:
    common = ["--patch-size", "80", "--patch-stride", "80", "--limit", "1"]
    common += [*OF_SCENES, "--method", "grad-cam,gradient"]
    for kind, path in (("--photos", scenes / "images"), ("--data", scenes)):
        out = tmp_path / kind.strip("-")
        command = ["evaluate", "faithfulness", kind, str(path), "--out", str(out), *common]
        assert main([*command, *(["--no-curves"] if kind == "--data" else [])]) == 0
        summary = json.loads((out / "summary.json").read_text())
        table, paired = summary["tables"]
        rows = {row["map"]: row for row in table["rows"]}
        baselines = ["centred Gaussian", "noise", "summed activation", "uniform map"]
        assert list(rows) == ["grad-cam", "gradient", *baselines]
        assert rows["uniform map"]["constant"] == rows["uniform map"]["maps"]
        ours, theirs = (rows[n]["correlation with occlusion"]["value"] for n in list(rows)[:2])
        (row,) = paired["rows"]
        assert row["less grad-cam"]["value"] == pytest.approx(theirs - ours)
        key = "deletion, less the Gaussian's"
        assert (key in rows["noise"]) == (kind == "--photos")
        if kind == "--photos":
            assert rows["centred Gaussian"][key]["value"] == 0
