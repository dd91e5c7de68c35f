"""Maps of several methods at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import vlcam
from tests.samples.captioning import blip
from tests.samples.tiny import photo
from vlcam.attribution import targets
from vlcam.attribution.maps import explain_targets, explain_targets_by
from vlcam.attribution.methods import METHODS
from vlcam.cli.parser import main
from vlcam.geometry.grid import Grid

CAPTION = "a photographers dogs running"


def test_several_methods_at_once_and_the_command_line(tmp_path: Path) -> None:
    folder = blip.save(tmp_path / "blip")
    model: Any = vlcam.load(folder)
    seen, reading = vlcam.look(model, photo()), model.read(CAPTION)
    words = targets.units(reading)
    by = [METHODS[name] for name in ("attention-rollout", "grad-cam", "attention-relevance")]
    together = explain_targets_by(model, seen, words, by)
    for method, found in zip(by, together, strict=True):
        one = explain_targets(model, seen, words, method)
        torch.testing.assert_close(found.maps, one.maps)
        assert found.maps.dtype == torch.float32
        assert found.grid == Grid((4, 4), (3.5, 3.5), (8.0, 8.0))
    photo().save(tmp_path / "a.png")
    options = ["--model", str(folder), "--caption", CAPTION, "--out", str(tmp_path / "out")]
    for method in ("attention-rollout", "attention-relevance"):
        assert main(["explain", str(tmp_path / "a.png"), "--method", method, *options]) == 0
        told = json.loads((tmp_path / "out" / "a" / "explanation.json").read_text("utf-8"))
        assert told["method"] == method and told["layer"] == "all layers of attention"
