"""Dense captioners: regions found and described."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from captioning.models import densecap
from captioning.models.densecap import Config, DenseCap, Source
from tests.samples.captioning.densecap import SIDE, squares
from vlcam.formats.vocabulary import Vocabulary
from vlcam.metrics.box_ratio import box_in_input, box_in_photo
from vlcam.photo.preprocess import Preprocess


def test_it_learns_where_regions_are_and_what_they_show(
    dense_captioner: Path, tmp_path: Path
) -> None:
    found = densecap.load_module(dense_captioner)
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


def test_boxes_are_in_pixels_of_the_photo(dense_captioner: Path, squares_data: Path) -> None:
    found = densecap.load_module(dense_captioner)
    with Image.open(squares_data / "images" / "1.png") as photo:
        once = found.describe(photo.convert("RGB"), 2)
        large = photo.convert("RGB").resize((3 * SIDE, 2 * SIDE), Image.Resampling.NEAREST)
    # All that is found there: regions about as sure as each other may change places.
    twice = found.describe(large)
    assert len(once) == 2
    for a in once:
        stretched = [a.box[0] * 3, a.box[1] * 2, a.box[2] * 3, a.box[3] * 2]
        assert any(b.text == a.text and np.allclose(b.box, stretched, atol=12) for b in twice)
    placement = Preprocess(size=(50, 70)).geometry((20, 10))[1]
    box = (1.0, 2.0, 5.0, 11.0)
    assert box_in_photo(box_in_input(box, placement), placement) == pytest.approx(box)
    assert box_in_input((0, 0, 10, 20), placement) == pytest.approx((0, 0, 70, 50))


def test_the_bundled_one_has_a_name(tmp_path: Path) -> None:
    source = Source.found(Path("densecap"))
    assert source is not None and source.folder == densecap.BUNDLED
    assert Source.found(tmp_path) is None and Source.found(tmp_path / "nowhere") is None
    source.model  # noqa: B018 - loaded, and yet
    assert len(pickle.dumps(source)) < 1000
    with Image.new("RGB", (40, 30), "grey") as nothing:
        source.model.describe(nothing)  # whatever it finds there


def test_configurations_that_make_no_sense() -> None:
    vocabulary = Vocabulary(("a", "UNK"))
    for wrong in ({"anchors": ()}, {"cells": 0}, {"code": 1.5}, {"hidden": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Config(cnn="small", vocabulary=vocabulary, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer 'stage9'"):
        DenseCap(Config(cnn="small", vocabulary=vocabulary, regions="stage9"))
    config = Config(cnn="small", vocabulary=vocabulary, preprocess=Preprocess(size=(64, 64)))
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config
