"""Box ratios of regions: the paper's second game."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import captioning
import vlcam
from captioning.experiments.regions import BoxRatios
from tests.samples.photos import photo
from tests.tools.command_line import OF_SCENES
from tests.tools.evaluations import records
from vlcam.cli.parser import main


def visual_genome(folder: Path) -> Path:
    return folder / "annotations" / "region_descriptions.json"


def test_box_ratios_of_the_scenes_regions(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["evaluate", "regions", *OF_SCENES, "--regions", str(visual_genome(scenes))]
    command += ["--photos", str(scenes), "--method", "grad-cam,guided-backprop", "--out", str(out)]
    assert main(command) == 0
    found = records(out)
    uniform = [r for r in found if r["map"] == "uniform map"]
    assert len(uniform) >= 30 and all(r["inside"] == r["outside"] == 1 for r in uniform)
    summary = json.loads((out / "summary.json").read_text())
    rows = {row["map"]: row for row in summary["tables"][0]["rows"]}
    ours = [r for r in found if r["map"] == "grad-cam"]
    ratio = sum(r["inside"] for r in ours) / sum(r["outside"] for r in ours)
    assert rows["grad-cam"]["ratio of means"]["value"] == pytest.approx(ratio)
    assert ratio > 2 and rows["uniform map"]["ratio of means"]["value"] == 1


def test_a_region_in_its_sentence(scenes: Path, tmp_path: Path) -> None:
    model = captioning.load("scenes")
    photo(tmp_path / "photos" / "1.jpg", (320, 320))
    marked = tmp_path / "entities"
    (marked / "Sentences").mkdir(parents=True)
    (marked / "Annotations").mkdir()
    (marked / "Sentences" / "1.txt").write_text("a cat and [/EN#5/animals a red dog] qwertz\n")
    (marked / "Annotations" / "1.xml").write_text(
        "<annotation><size><width>320</width><height>320</height></size><object><name>5</name>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        "</annotation>"
    )
    seen = vlcam.look(model, tmp_path / "photos" / "1.jpg")
    for protocol, text, start in (
        ("sentence", "a cat and a red dog qwertz", 3),
        ("alone", "a red dog", 0),
    ):
        experiment = BoxRatios(marked, tmp_path / "photos", protocol=protocol)  # type: ignore[arg-type]
        (target,) = experiment.ask(model, experiment.items[0], seen, None).targets
        reading = model.read(text)
        assert target.terms[0].prompt == reading.prompt
        columns = [c for unit in reading.units[start : start + 3] for c in unit.scores]
        assert list(target.terms[0].scores) == columns
