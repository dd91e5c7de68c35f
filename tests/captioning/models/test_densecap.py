"""Region captions of a dense captioner: learned, found, described, evaluated."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from captioning.data import regions
from captioning.models import densecap
from captioning.models.densecap import Config, DenseCap, Source
from captioning.training.densecap import Training, read_data, train
from vlcam.cli.parser import main
from vlcam.formats.vocabulary import Vocabulary
from vlcam.metrics.box_ratio import box_in_input, box_in_photo
from vlcam.photo.preprocess import Preprocess

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
SIDE = 96
BUNDLED_CAPTIONER = densecap.BUNDLED.parents[1] / "bundled" / "scenes"


def squares(folder: Path, count: int, seed: int) -> list[dict[str, object]]:
    """Grey photos with a red and a blue square each, and their entries in Visual Genome's form."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries = []
    for number in range(1, count + 1):
        picture = np.full((SIDE, SIDE, 3), 128, np.uint8)
        regions = []
        for half, name in enumerate(rng.permutation(list(COLOURS)).tolist()):
            size = int(rng.integers(26, 40))
            x = int(rng.integers(0, SIDE // 2 - size)) + half * SIDE // 2
            y = int(rng.integers(0, SIDE - size))
            picture[y : y + size, x : x + size] = COLOURS[name]
            box = {"x": x, "y": y, "width": size, "height": size}
            regions.append({"phrase": f"a {name} square", **box})
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
        entries.append({"id": number, "regions": regions})
    return entries


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    entries = squares(folder, 40, 0)
    (folder / "region_descriptions.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "squares"
    how = Training(
        str(data), str(out), cnn_weights=str(BUNDLED_CAPTIONER), size=SIDE, cnn_epochs=1,
        cnn_batch=8, cnn_lr=1e-4, epochs=14, batch=8, lr=4e-3, cells=3, code=128, embedding=64,
        hidden=64, dropout_output=0.0, half=True,
    )  # fmt: skip
    report = train(how)
    assert [epoch["epoch"] for epoch in report["epochs"]] == list(range(1, 16))
    assert report["val"]["found"] > 0.5
    return out


def test_it_learns_where_regions_are_and_what_they_show(model: Path, tmp_path: Path) -> None:
    found = densecap.load_module(model)
    good = 0
    entries = squares(tmp_path, 10, 1)
    for entry in entries:
        with Image.open(tmp_path / "images" / f"{entry['id']}.png") as photo:
            described = found.describe(photo.convert("RGB"), 2)
        for one in described:
            for true in entry["regions"]:  # type: ignore[attr-defined]
                box = (true["x"], true["y"], true["x"] + true["width"], true["y"] + true["height"])
                on = box_iou(torch.tensor([one.box]), torch.tensor([box])).item() >= 0.5
                good += on and one.text == true["phrase"]
        assert all(0 <= one.score <= 1 for one in described)
        assert [one.score for one in described] == sorted(one.score for one in described)[::-1]
    assert good >= 16, good


def test_boxes_are_in_pixels_of_the_photo(model: Path, data: Path) -> None:
    found = densecap.load_module(model)
    with Image.open(data / "images" / "1.png") as photo:
        once = found.describe(photo.convert("RGB"), 2)
        large = photo.convert("RGB").resize((3 * SIDE, 2 * SIDE), Image.Resampling.NEAREST)
    twice = found.describe(large, 2)
    assert [one.text for one in twice] == [one.text for one in once]
    for a, b in zip(once, twice, strict=True):
        stretched = [a.box[0] * 3, a.box[1] * 2, a.box[2] * 3, a.box[3] * 2]
        assert np.allclose(b.box, stretched, atol=12)
    placement = Preprocess(size=(50, 70)).geometry((20, 10))[1]
    box = (1.0, 2.0, 5.0, 11.0)
    assert box_in_photo(box_in_input(box, placement), placement) == pytest.approx(box)
    assert box_in_input((0, 0, 10, 20), placement) == pytest.approx((0, 0, 70, 50))


def test_the_whole_pipeline(model: Path, data: Path, tmp_path: Path) -> None:
    """Five regions of the dense captioner are scored with the maps of another captioner."""
    out = tmp_path / "out"
    command = ["evaluate", "regions", "--regions", str(model), "--photos", str(data)]
    command += ["--limit", "3", "--out", str(out)]
    assert main([*command, "--top", "2"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    (ours,) = (row for row in summary["tables"][0]["rows"] if row["map"] == "grad-cam")
    assert 3 <= ours["regions"] <= 6 and summary["photos"] == 3
    before = (out / "summary.json").read_bytes()
    assert main([*command, "--top", "2", "--resume"]) == 0
    assert (out / "summary.json").read_bytes() == before
    assert summary["settings"]["dense captioner"] == Source(model).digest()


def test_regions_of_photos_are_printed_and_written(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [str(data / "images" / name) for name in ("1.png", "none.png", "2.png")]
    out = tmp_path / "results.json"
    assert main(["regions", *photos, "--model", str(model), "--top", "2", "--out", str(out)]) == 1
    told = capsys.readouterr()
    assert "none.png: no such file" in told.err and told.out.count(" square\n") == 4
    found = regions.read(out, data).photos
    with Image.open(data / "images" / "1.png") as photo:
        described = densecap.load_module(model).describe(photo.convert("RGB"), 2)
    assert [photo.name for photo in found] == ["1", "2"]
    for region, one in zip(found[0].regions, described, strict=True):
        assert region.text == one.text and region.boxes[0] == pytest.approx(one.box, abs=1e-4)
    assert main(["regions", photos[0], "--model", str(data)]) == 1
    assert "no dense captioner" in capsys.readouterr().err


def test_another_dense_captioner_does_not_resume(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    command = ["evaluate", "regions", "--photos", str(data), "--limit", "1", "--out", out]
    assert main([*command, "--regions", str(model)]) == 0
    changed = densecap.load_module(model)
    torch.nn.init.zeros_(changed.writer.logits.bias)
    densecap.save_module(changed, tmp_path / "other")
    assert main([*command, "--regions", str(tmp_path / "other"), "--resume"]) == 1
    assert "settings.dense captioner is" in capsys.readouterr().err


def test_the_bundled_one_has_a_name(tmp_path: Path) -> None:
    source = Source.found(Path("densecap"))
    assert source is not None and source.folder == densecap.BUNDLED
    assert Source.found(tmp_path) is None and Source.found(tmp_path / "nowhere") is None
    source.model  # noqa: B018 - loaded, and yet
    assert len(pickle.dumps(source)) < 1000
    with Image.new("RGB", (40, 30), "grey") as nothing:
        source.model.describe(nothing)  # whatever it finds there


def test_what_cannot_be_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    entries = squares(folder, 4, 0)
    command = ["train", "densecap", "--cnn-epochs", "1", "--out", str(tmp_path / "m")]
    assert main([*command, "--data", str(folder)]) == 2
    assert "neither region_descriptions.json nor" in capsys.readouterr().err
    inside = {"phrase": "a dog", "x": -5, "y": 90, "width": 10, "height": 20}
    beyond = {"phrase": "a cat", "x": 100, "y": 0, "width": 10, "height": 10}
    silent = {"phrase": "...", "x": 0, "y": 0, "width": 10, "height": 10}
    entries[0] = {"id": 1, "regions": [inside, dict(inside, phrase="the dog"), beyond, silent]}
    entries[1] = {"id": 2, "regions": [beyond]}
    (folder / "images" / "3.png").write_bytes(b"no photo")
    (folder / "region_descriptions.json").write_text(json.dumps(entries))
    data = read_data(folder, 0)
    said = capsys.readouterr().err
    assert "2: no region with words and a box" in said and "3.png: not a readable image" in said
    photos = {one.photo.stem: one for some in data.values() for one in some}
    assert set(photos) == {"1", "4"} and len(data["val"]) == 1
    # Cut off at the photo's edges; two captions of one box; what lies beyond is left out.
    assert photos["1"].boxes == ((0, 90, 5, 96),)
    assert photos["1"].captions == ((("a", "dog"), ("the", "dog")),)
    lesson = photos["1"].lesson(Vocabulary(("a", "dog", "UNK")), Preprocess(size=(192, 96)))
    assert lesson.boxes.tolist() == [[0, 180, 5, 192]]
    assert lesson.captions == [[[1, 2], [3, 2]]]


def test_configurations_that_make_no_sense() -> None:
    vocabulary = Vocabulary(("a", "UNK"))
    for wrong in ({"anchors": ()}, {"cells": 0}, {"code": 1.5}, {"hidden": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Config(cnn="small", vocabulary=vocabulary, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer 'stage9'"):
        DenseCap(Config(cnn="small", vocabulary=vocabulary, regions="stage9"))
    config = Config(cnn="small", vocabulary=vocabulary, preprocess=Preprocess(size=(64, 64)))
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config
