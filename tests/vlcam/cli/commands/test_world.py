"""``vlcam world``, and what is told of a photo unlike a model's training photos."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vlcam
import vlcam.training.world
from captioning.models import densecap
from tests.tools.command_line import OF_SCENES, PHOTO, PHOTOS, SCENES, called, read, refused
from vlcam.explanation.explanation import Explanation
from vlcam.explanation.page import Section, index
from vlcam.formats.world import WORLD, read_world

LINE = "This photo is unlike those the model learned from (rendered scenes): "
QUESTION = "is there a dog in the picture?"


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("noise") / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("asked", [[], ["--question", QUESTION]])
def test_an_unlike_photo_is_explained_all_the_same_with_one_line(
    noise: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    assert called("explain", noise, PHOTO, *OF_SCENES, *asked, "--out", tmp_path) == 0
    told = capsys.readouterr().out
    line = next(text.strip() for text in told.splitlines() if LINE in text)
    assert told.count(LINE) == 1 and told.index(str(noise)) < told.index(LINE)
    assert told.index(LINE) < told.index(str(PHOTO)) and "--model photos" in line
    unlike, like = (read(tmp_path / name)["likeness"] for name in (noise.stem, PHOTO.stem))
    assert unlike["unlike"] is True and unlike["line"] == line and unlike["world"]
    assert unlike["score"] > unlike["threshold"] == like["threshold"] > like["score"] > 0
    assert like["unlike"] is False and like["line"] is None
    for name, count in ((noise.stem, 1), (PHOTO.stem, 0)):
        page = (tmp_path / name / "page.html").read_text("utf-8")
        assert page.count(line) == count
        found = Explanation.load(tmp_path / name)
        texts = "".join(text.get_text() for text in found.figure().texts).replace("\n", " ")
        assert texts.count(LINE.strip()) == count
        cards = index("photos", "", [Section("captions", [(found, "page.html")])])
        assert cards.count("unlike the photos it learned from") == count


def test_of_several_models_it_is_told_which(tmp_path: Path) -> None:
    assert called("explain", PHOTO, "--model", "scenes,photos", "--out", tmp_path) == 0
    page = (tmp_path / "compared" / f"{PHOTO.stem}.html").read_text("utf-8")
    told = "This photo is unlike those the model learned from"
    assert page.count(told) == page.count(f"photos: {told} (photos of Flickr8k") == 1


def test_the_bundled_photos_are_like_the_training_photos() -> None:
    for kind, asked in (("captioner", None), ("vqa", QUESTION)):
        model = vlcam.load("scenes", kind=kind)
        found = [vlcam.explain(model, path, question=asked).likeness for path in PHOTOS[:3]]
        assert [one and one.unlike for one in found] == [False] * 3


class Runs:
    """How often each convolution runs."""

    def __init__(self, module: nn.Module) -> None:
        self.counts: Counter[str] = Counter()
        self._names = {m: n for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}
        for one in self._names:
            one.register_forward_hook(self._count)

    def _count(self, module: nn.Module, *_: object) -> None:
        self.counts[self._names[module]] += 1


def test_no_second_pass_of_the_cnn(noise: Path) -> None:
    """At the last layer nothing of it runs again; at any other what is behind it, once; and the
    score is the same."""
    scores: list[float] = []
    for kind, layer in (("captioner", None), ("vqa", None), ("captioner", "stage2")):
        model = vlcam.load("scenes", layer, kind=kind)
        encoder: Any = model.module.encoder
        runs = Runs(encoder)
        photo = vlcam.look(model, noise)
        first = dict(runs.counts)
        assert set(first.values()) == {1}
        with torch.no_grad():
            likeness = model.likeness(photo.begun or photo.features)  # type: ignore[arg-type]
        behind = [] if layer is None else ["stage3", "stage4"]
        again = {n: c - first.get(n, 0) for n, c in runs.counts.items() if c > first.get(n, 0)}
        assert {n.split(".")[1] for n in again} == set(behind) and set(again.values()) <= {1}
        assert likeness is not None
        scores.append(likeness.score)
        asked = QUESTION if kind == "vqa" else None
        assert vlcam.explain(model, photo, question=asked).likeness == likeness
    assert scores[0] == pytest.approx(scores[2], rel=1e-4)
    other = model.at_layer("stage3")
    with torch.no_grad():
        moved = other.likeness(vlcam.look(other, noise).features)  # type: ignore[arg-type]
    assert moved is not None and moved.score == pytest.approx(scores[0], rel=1e-4)


def test_layers_and_regions_tell_it_too(
    noise: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = (*OF_SCENES, "--layers", "stage4", "stage3")
    assert called("layers", noise, *layers, "--out", tmp_path) == 0
    assert capsys.readouterr().out.count(LINE) == 1
    out = tmp_path / "results.json"
    assert called("regions", noise, PHOTO, "--top", 1, "--out", out) == 0
    assert capsys.readouterr().out.count(LINE) == 1
    assert out.read_text("utf-8").count('"unlike": true') == 1
    assert densecap.load_module(densecap.BUNDLED).world  # type: ignore[truthy-bool]


def test_a_world_is_measured_of_photos_in_a_folder_or_a_list(
    scenes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vlcam.training.world, "LEAST", 3)
    monkeypatch.setattr(vlcam.training.world, "LEAST_HELD_OUT", 1)
    folder, names = tmp_path / "model", tmp_path / "names.txt"
    shutil.copytree(SCENES, folder)
    name = ("--name", "six scenes", "--instead", "For others: nothing")
    assert called("world", folder, "--photos", scenes / "images", *name) == 0
    assert f"{folder / WORLD}: six scenes" in capsys.readouterr().out
    found = read_world(folder)
    assert found is not None and found.instead == "For others: nothing"
    photos = sorted(path.name for path in (scenes / "images").iterdir())
    names.write_text("\n".join(photos[:4]))
    listed = ("--photos", names, "--root", scenes / "images", "--test", scenes / "images")
    assert called("world", folder, *listed, *name) == 0
    assert vlcam.explain(str(folder), noise_of(scenes)).likeness is not None
    before = (folder / WORLD).read_bytes()
    capsys.readouterr()
    names.write_text("none.jpg")
    for arguments, said in (
        ((folder, "--photos", tmp_path / "no", *name), "no: "),
        ((folder, "--photos", names, *name), "none.jpg: no such file"),
        ((folder, "--photos", folder, *name), "no photo there"),
        ((tmp_path / "no", "--photos", scenes, *name), "no such folder"),
        ((tmp_path, "--photos", scenes, *name), "not a model vlcam recognises"),
        ((folder, "--photos", scenes, "--name", "a\nb"), "the photos' name is no line"),
        ((folder, "--photos", scenes, "--name", "a\x07"), "the photos' name is no line"),
        ((folder, "--photos", scenes, "--name", " "), "the photos' name is empty"),
        ((folder, "--photos", scenes), "--name"),
    ):
        assert said in refused(capsys, "world", *arguments)
    monkeypatch.setattr(vlcam.training.world, "LEAST", 100)
    few = refused(capsys, "world", folder, "--photos", scenes, *name)
    assert "too few" in few and (folder / WORLD).read_bytes() == before


def noise_of(scenes: Path) -> Path:
    return next((scenes / "images").iterdir())
