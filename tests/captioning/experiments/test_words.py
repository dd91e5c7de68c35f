"""Words pointed with: the paper's first game, by hand and on data that does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captioning
import vlcam
import word_maps
from captioning.experiments.words import CENTRE, AskedWords, Segment, VisualWord, Words
from tests.samples.tiny import TinyCaptioner
from tests.tools.evaluations import records, words
from vlcam.adapters.adapter import Unit
from vlcam.attribution import methods, targets
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import TargetMaps, explain_targets
from vlcam.evaluation.experiment import Item
from vlcam.explanation.result import explained_words
from vlcam.geometry.grid import Grid
from vlcam.geometry.peaks import peaks
from vlcam.metrics.pointing import hit
from vlcam.photo.preprocess import Preprocess
from vlcam.scenes.write import write


def test_words_are_pointed_with_as_one_would_by_hand(scenes: Path, tmp_path: Path) -> None:
    assert words(scenes, tmp_path / "out", "--method", "grad-cam,gradient") == 0
    found = records(tmp_path / "out")
    model = captioning.load("scenes")
    experiment = Words(scenes)
    expected = []
    for item in experiment.items:
        photo = vlcam.look(model, item.photo)
        for text in experiment._captions.by_image[int(item.name)]:
            reading = model.read(text)
            texts = [unit.text for unit in reading.units]
            for start, stop, category in word_maps.visual_words(texts):
                units = [u for u in reading.units[start:stop] if not u.unknown]
                coco = experiment._instances.coco
                if category in word_maps.present(coco, int(item.name)) and units:
                    columns = tuple(c for unit in units for c in unit.scores)
                    target = targets.unit(reading, Unit("word", columns))
                    maps = explain_targets(model, photo, [target], methods.get("grad-cam"))
                    (peak,) = peaks(maps.maps, maps.grid, photo.placement)
                    mask = word_maps.word_map(coco, int(item.name), category)
                    expected.append((item.name, category, peak.point, float(hit(mask, *peak))))
    ours = [
        (str(r["image"]), r["category"], (r["x"], r["y"]), r["hit"])
        for r in found
        if r["map"] == "grad-cam"
    ]
    assert ours == expected and len(ours) > 30
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = {row["map"]: row for row in summary["tables"][0]["rows"]}
    assert list(rows)[:2] == ["grad-cam", "gradient"] and CENTRE in rows
    assert rows["grad-cam"]["hits"]["value"] == np.mean([on_it for *_, on_it in expected])
    assert rows["grad-cam"]["words"] == len(expected)
    assert rows["uniform map"]["hits"]["value"] == 0  # degenerate, so a miss
    chance = rows["random point, expected"]["hits"]["value"]
    areas = [r["area"] for r in found if r["map"] == "grad-cam"]
    assert chance == pytest.approx(np.mean(areas))


def test_words_point_where_an_explanation_of_them_does(scenes: Path) -> None:
    """Every cell of a perfect map; and a map below zero, on a photo of which parts are cropped."""
    grid = Grid.patches((64, 64), 16)
    placement = Preprocess((64, 64), "crop").geometry((90, 240))[1]
    photo = Encoded("", Image.new("RGB", (240, 90)), torch.zeros(1, 3, 64, 64), None, placement)
    perfect = torch.eye(16).view(16, 4, 4)
    maps = torch.cat([perfect, perfect - 2])
    mask = np.zeros((90, 240), bool)
    mask[:45, :120] = True
    word = VisualWord("dog", "dog", Segment.of(mask, 15.0), 1)
    asked = AskedWords(Item("7", Path()), photo, [], [word] * len(maps), [])
    found = TargetMaps(torch.zeros(len(maps)), maps, grid)
    records = list(Words(scenes).score(TinyCaptioner(), asked, "grad-cam", found))
    said = explained_words(["dog"] * len(maps), found.scores, maps, grid, placement)
    assert [(r["x"], r["y"], r["degenerate"]) for r in records] == [
        (*one.peak, one.degenerate) for one in said
    ]
    hits = [row in (0, 1) and column in (0, 1) for row in range(4) for column in range(4)]
    assert [r["hit"] for r in records[:16]] == hits


def test_no_compound_goes_on_behind_a_comma(tmp_path: Path) -> None:
    """Though the model does not read commas."""
    write(tmp_path / "scenes", 1, 3, workers=1)
    file = tmp_path / "scenes" / "annotations" / "captions.json"
    captions = json.loads(file.read_text())
    for entry, text in zip(
        captions["annotations"],
        ["a horse, dog", "A horse , dog", "the HORSE dog", "the horse dog, dog"],
        strict=False,
    ):
        entry["caption"] = text
    del captions["annotations"][4:]
    file.write_text(json.dumps(captions))
    table = tmp_path / "own.txt"
    table.write_text("-: horse dog\n")
    assert words(tmp_path / "scenes", tmp_path / "out", "--words", str(table)) == 0
    found = records(tmp_path / "out")
    named = [r["word"] for r in found if r["map"] == "grad-cam" or r["reason"] == "absent"]
    assert sorted(named) == ["dog", "dog", "dog", "horse", "horse"]
    assert sum(r["reason"] == "nothing" for r in found) == 1


def test_what_cannot_be_used_is_counted_and_listed(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    instances = json.loads((data / "annotations" / "instances.json").read_text())
    captions = json.loads((data / "annotations" / "captions.json").read_text())
    first = instances["annotations"][0]
    wrong = [
        first,
        {**first, "id": 9001, "image_id": 999},
        {**first, "id": 9002, "category_id": 999},
        {**first, "id": 9003, "segmentation": []},
        {**first, "id": 9004, "segmentation": [[1, 2, 3, 4]]},
        {**first, "id": 9005, "segmentation": {"size": [1, 2], "counts": [2]}},
        {**first, "id": 9006, "segmentation": {"size": [320, 320], "counts": [7]}},
        {**first, "id": "9007"},
        "nonsense",
    ]
    instances["annotations"] += wrong
    instances["images"].append({"id": 7777, "file_name": "gone.jpg", "height": 5, "width": 5})
    captions["annotations"] += [
        {"id": 9001, "image_id": 7777, "caption": "a dog"},
        {"id": 9002, "image_id": 4242, "caption": "a dog"},
        {"id": 9003, "image_id": 1, "caption": " "},
        {"id": 9004, "image_id": 1, "caption": "!!!"},
    ]
    for name, content in (("instances", instances), ("captions", captions)):
        (data / "annotations" / f"{name}.json").write_text(json.dumps(content))
    (data / "images" / "000000000002.jpg").write_bytes(b"no photo")
    Image.new("RGB", (10, 10)).save(data / "images" / "000000000003.jpg")
    assert words(data, tmp_path / "out") == 0
    err = capsys.readouterr().err
    listed = json.loads((tmp_path / "out" / "summary.json").read_text())["skipped"]
    told = [line.removeprefix("skipped: ") for line in err.splitlines() if "skipped: " in line]
    assert told == listed and len(listed) == 15
    for text in (
        f"annotations {first['id']}: occurs twice",
        "annotations 9001: no image 999",
        "annotations 9002: no category 999",
        "annotations 9003: no segmentation",
        "annotations 9004: a polygon",
        "annotations 9005: RLE of size [1, 2]",
        "annotations 9006: RLE of",
        "is 'nonsense', not an object",
        "captions of image 4242: not in the instances file",
        "captions 9003: no word in it",
        "1: the caption '!!!' has no word",
        "id is '9007', not a whole number",
        "7777: ",
        "2: ",
        "000000000003.jpg is 10 x 10",
    ):
        assert sum(text in line for line in listed) >= 1, text
    assert {str(r["image"]) for r in records(tmp_path / "out")} == {"1", "4", "5", "6"}


@pytest.mark.parametrize("text", ['{"images": [', "[]", '{"images": 1}'])
def test_a_file_that_was_cut_is_named(
    scenes: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(scenes, tmp_path / "data")
    (tmp_path / "data" / "annotations" / "instances.json").write_text(text)
    assert words(tmp_path / "data", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "instances.json: not" in err and err.count("\n") == 1


def test_generated_captions_and_words_of_ones_own(scenes: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("-: dog, cat, person, car, man, woman\n")
    for more in ([], ["--words", str(mine)]):
        out = tmp_path / f"out{len(more)}"
        assert words(scenes, out, "--captions", "generated", "--beam", "2", *more) == 0
        found = records(out)
        assert {r["image"] for r in found} <= set("123456")
        assert not more or not {r["word"] for r in found} & {"dog", "cat", "man", "car"}
