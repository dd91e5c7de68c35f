"""Which layer and method: the right one where it is known, and doubt where nothing is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vlcam
from tests.samples.families.located import ANSWERS, SQUARE, Halves, photo, score, wrapped
from tests.samples.tiny import TinyCaptioner
from tests.tools.untouched import unchanged
from vlcam.choosing.choice import Choice

PHOTOS = [photo(seed) for seed in range(5)]
IMAGES = [image for image, _ in PHOTOS]


def hits(model: vlcam.Adapter, method: str) -> int:
    """On how many of 20 photos the peak of "red" on the left lies on what is red there."""
    count = 0
    for image, (x, y) in (photo(seed) for seed in range(20)):
        found = vlcam.explain(model, image, question="left", answers=["red"], method=method)
        column, row = found.answers[0].peak
        count += x <= column < x + SQUARE and y <= row < y + SQUARE
    return count


@pytest.fixture(scope="module")
def chosen() -> Choice:
    net = Halves().train()
    with unchanged(net):
        return vlcam.choose(wrapped(net), IMAGES, question="left", answers=["red"])


def test_the_right_layer_and_method_are_recommended(chosen: Choice) -> None:
    """Behind the question, or where each cell has a gradient of its own; and the hits follow."""
    right = [("see", "hirescam"), ("see", "layercam")]
    right += [("asked", name) for name in ("grad-cam", "hirescam", "layercam")]
    assert (chosen.layer, chosen.method) in right
    assert [(row.layer, row.method) for row in chosen.rows][-1] == ("see", "grad-cam")
    told = chosen.recommendation
    assert told.told_apart and told.runner_up == "grad-cam at see" and len(told.same) == 4
    assert told.interval is not None and told.interval[0] > 0 and told.beats_centre
    assert told.difference is not None and told.difference.error is not None
    assert told.text.startswith(f"Take {chosen.method} at {chosen.layer} (")
    assert "above the runner-up, grad-cam at see (95 % interval" in told.text
    assert "paired on 5 photos" in told.text and "\n" not in told.text
    model = wrapped(Halves())
    assert hits(model, "grad-cam") <= 14
    assert chosen.layer is not None and chosen.method is not None
    assert hits(model.at_layer(chosen.layer), chosen.method) == 20


def test_what_is_found_is_plain_data(chosen: Choice, tmp_path: Path) -> None:
    frame = chosen.to_frame()
    assert len(frame) == len(chosen.rows) == 6
    assert list(frame["faithfulness"]) == sorted(frame["faithfulness"], reverse=True)
    chosen.save(tmp_path / "out")
    data = json.loads((tmp_path / "out" / "scores.json").read_text("utf-8"))
    assert data == chosen.data() and data["rows"][0]["redrawn"]["error"] > 0
    text = (tmp_path / "out" / "scores.md").read_text("utf-8")
    assert str(chosen) in text and chosen.recommendation.text in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 6 + 1 and len({len(row) for row in rows}) == 1
    assert len(repr(chosen)) < 500 and "\n" not in repr(chosen)


def test_one_photo_has_no_standard_error() -> None:
    """Which is said; and nothing is "nan"."""
    found = vlcam.choose(wrapped(Halves()), IMAGES[:1], question="left", layers=["see"])
    assert not found.recommendation.told_apart
    assert "cannot be told apart on 1 photo, of which there is no standard error" in str(found)
    assert "nan" not in str(found) and "±" not in str(found)
    assert found.rows[0].faithfulness.error is None and found.recommendation.interval is None
    json.dumps(found.data(), allow_nan=False)


class Noise(nn.Module):
    """Random weights: nothing is to be seen in them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.mix = nn.Linear(8 * 16, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.mix(self.two(self.one(pixels)).flatten(1)).sin()
        return found


def of_noise(net: nn.Module, layer: str = "two", **more: Any) -> vlcam.ModuleAdapter:
    return vlcam.wrap(
        net,
        layer=layer,
        score=lambda module, pixels, prompts: module(pixels),
        answers=["a", "b"],
        question="which?",
        preprocess=vlcam.Preprocess(size=(32, 32)),
        **more,
    )


def noise(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(count)]


def test_noise_is_not_told_apart() -> None:
    found = vlcam.choose(of_noise(Noise()), noise(4))
    assert not found.recommendation.told_apart and found.recommendation.as_good
    assert "cannot be told apart on 4 photos; give more" in found.recommendation.text


def counted(net: nn.Module) -> tuple[vlcam.ModuleAdapter, list[int]]:
    """The model, and how many inputs it is run on, call by call."""
    calls: list[int] = []

    def scored(module: nn.Module, pixels: Tensor, prompts: Sequence[object]) -> Tensor:
        calls.append(len(pixels))
        return score(module, pixels, prompts)

    model = vlcam.wrap(
        net,
        layer="see",
        score=scored,
        answers=ANSWERS,
        preprocess=vlcam.Preprocess(size=(64, 64)),
    )
    return model, calls


def test_what_does_not_depend_on_the_map_is_computed_once() -> None:
    """The patch's places once a photo; deletion and insertion once a map, whoever gives it."""
    model, calls = counted(Halves())

    def passes(layers: list[str], methods: list[str]) -> tuple[int, int]:
        """How many places of the patch, and how many rankings of pixels; in batches."""
        calls.clear()
        asked = {"question": "left", "answers": ["red", "green"]}
        found = vlcam.choose(model, IMAGES[:2], layers=layers, methods=methods, **asked)  # type: ignore[arg-type]
        assert len(found.rows) == len(layers) * len(methods)
        return calls.count(32), calls.count(14)

    covered = 2 * 2 * (14 * 14 // 32)  # photos; once up to the layer, once behind it
    assert passes(["see"], ["grad-cam"])[0] == covered
    several, rankings = passes(["see", "asked"], ["grad-cam", "layercam", "hirescam"])
    assert several == covered
    # Of six maps two differ, and there is that of the centre; for each photo and answer.
    assert rankings == 2 * 3 * 2 * 2


def test_models_that_write() -> None:
    """Those words of a caption count for which the photo matters most; an adapter of one layer is
    compared by its methods."""
    model = TinyCaptioner()
    with unchanged(model.module):
        found = vlcam.choose(model, noise(2), caption="a red dog on the grass", top=2)
    assert {row.layer for row in found.rows} == {"before.3"} and len(found.rows) == 3
    assert all(len(words) == 2 for words in found.asked)
    with pytest.raises(ValueError, match=r"at layer before\.3 alone"):
        vlcam.choose(model, noise(2), layers=["before.0"])


def test_what_cannot_be_measured_is_said() -> None:
    """Of a layer, of a method, of a model that cannot be copied."""
    model = of_noise(Noise())
    asked = {
        "layers": ["one", "mix"],
        "methods": ["layercam", "guided-backprop", "attention-rollout"],
    }
    found = vlcam.choose(model, noise(2), **asked)  # type: ignore[arg-type]
    assert [(o.layer, o.method) for o in found.unmeasured] == [
        ("mix", "layercam"),
        ("all layers of attention", "attention-rollout"),
    ]
    assert {(row.layer, row.method) for row in found.rows} == {
        ("one", "layercam"),
        ("pixels", "guided-backprop"),
    }
    assert "layercam at mix was not measured: layer mix gives (1, 2)" in str(found)
    net = Noise()
    closed = vlcam.wrap(
        net,
        layer="two",
        score=lambda module, pixels, prompts: net(pixels),
        answers=["a", "b"],
        question="which?",
        preprocess=vlcam.Preprocess(size=(32, 32)),
    )
    with unchanged(net):
        alone = vlcam.choose(closed, noise(2), layers=["two"], methods=["grad-cam"])
    assert alone.rows[0].redrawn is None and "a copy of Noise does not run by itself" in str(alone)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"methods": ["cam"]}, "unknown method 'cam'"),
        ({"methods": ["occlusion"]}, "occlusion is what the other methods are compared with"),
        ({"methods": []}, "no method to compare"),
        ({"methods": "grad-cam"}, "methods is 'grad-cam', expected a list of texts"),
        ({"layers": ["tow"]}, "no layer 'tow'"),
        ({"layers": []}, "no layer to compare"),
        ({"photos": []}, "no photo to compare layers and methods on"),
        ({"photos": "photo.jpg"}, "photos: expected a list of them"),
        ({"photos": ["gone.jpg"]}, "gone.jpg"),
        ({"answers": ["c"]}, "'c' is no answer of Noise"),
        ({"caption": "a dog"}, "Noise"),
        ({"top": 0}, "top is 0"),
        ({"layers": ["mix"]}, "grad-cam at mix: layer mix gives"),
    ],
)
def test_what_is_refused(asked: dict[str, Any], said: str) -> None:
    arguments = {"photos": noise(1)} | asked
    with pytest.raises(ValueError) as error:
        vlcam.choose(of_noise(Noise()), **arguments)  # type: ignore[arg-type]
    assert said in str(error.value) and "\n" not in str(error.value)
