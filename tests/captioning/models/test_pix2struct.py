"""Pix2Struct of transformers: a tiny random captioner; photos keep their shape."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    Pix2StructImageProcessor,
)

import vlcam
from captioning.models.pix2struct import Pix2Struct, load
from tests.samples.captioning.pix2struct import PATCHES, SIDE, save
from tests.samples.pretrained import log_probabilities, photo
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.targets import units
from vlcam.geometry.grid import Placement


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("pix2struct") / "tiny")


def look(model: Pix2Struct, width: int = 50, height: int = 40) -> Tensor:
    pixels = model.prepare(photo(width, height))[0][None]
    return pixels.to(next(model.module.parameters()).dtype)


def own_inputs(folder: Path, width: int = 50, height: int = 40) -> Any:
    """What the model's own processor makes: patches in a row, filled up with nothing."""
    processor = Pix2StructImageProcessor.from_pretrained(folder)
    return processor(images=photo(width, height), return_tensors="pt")


def own_scores(module: Any, inputs: Any, labels: list[int]) -> Tensor:
    found = module(
        flattened_patches=inputs.flattened_patches.to(next(module.parameters()).dtype),
        attention_mask=inputs.attention_mask,
        labels=torch.tensor([labels]),
    )
    return log_probabilities(found.logits[0], labels)


@pytest.mark.parametrize(("width", "height", "grid"), [(50, 40, (4, 5)), (30, 90, (8, 2))])
@pytest.mark.parametrize("layer", [None, "encoder.encoder.layer.0"])
def test_log_probabilities_are_the_models_own(
    folder: Path, width: int, height: int, grid: tuple[int, int], layer: str | None
) -> None:
    model = vlcam.load(folder, layer)
    assert isinstance(model, Pix2Struct)
    model.module.double()
    inputs = own_inputs(folder, width, height)
    assert int(inputs.attention_mask.sum()) == grid[0] * grid[1] < PATCHES
    features = encode(model, look(model, width, height))
    assert tuple(features.maps.shape[2:]) == grid and not features.rest
    labels = model.tokenizer("a dogs, running")["input_ids"]
    with torch.no_grad():
        scores = model.decode(features, [tuple(labels)])[0]
    torch.testing.assert_close(scores, own_scores(model.module, inputs, labels))
    reading = model.read("a dogs, running")
    assert list(reading.prompt) == labels[:-1]  # type: ignore[call-overload]
    assert [unit.text for unit in reading.units] == ["a", "dogs,", "running"]


def test_pixels_are_the_processors_patches(folder: Path) -> None:
    model = load(folder)
    pixels, placement = model.prepare(photo(50, 40))
    patches = own_inputs(folder).flattened_patches[0]
    for row, column, *values in patches[patches[:, 0] > 0].tolist():
        top, left = SIDE * (int(row) - 1), SIDE * (int(column) - 1)
        part = pixels[:, top : top + SIDE, left : left + SIDE].permute(1, 2, 0)
        assert torch.equal(part.flatten(), torch.tensor(values))
    assert placement == Placement.resized((40, 50), (16, 20))
    grid = model.grid((16, 20))
    assert grid.size == (4, 5) and grid.offset == (1.5, 1.5) and grid.stride == (4, 4)


@pytest.mark.parametrize("number", [2, 1])
def test_maps_equal_one_word_at_a_time(folder: Path, number: int) -> None:
    model = load(folder, f"encoder.encoder.layer.{number}")
    module = model.module.double()
    inputs = own_inputs(folder)
    reading = model.read("a photographers dogs")
    tokens = list(reading.prompt)  # type: ignore[call-overload]
    features = encode(model, look(model))
    _, maps = explain_at_layer(model, features, units(reading), methods.get("grad-cam"))
    kept: dict[str, Tensor] = {}

    def cut(_: Any, __: Any, output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept["patches"] = output[0].detach().requires_grad_()
        return kept["patches"], *output[1:]

    handle = module.get_submodule(model.layer).register_forward_hook(cut)
    for k, unit in enumerate(reading.units):
        value = own_scores(module, inputs, tokens)[list(unit.scores)].sum()
        (gradient,) = torch.autograd.grad(value, kept["patches"])
        own = int(inputs.attention_mask.sum())
        weights = gradient[:, :own].mean(1, keepdim=True)
        # Its normalisation is in float32, whatever the rest is in.
        cam = (weights * kept["patches"][:, :own]).sum(2).clamp(min=0)
        torch.testing.assert_close(maps[k], cam.detach().reshape(4, 5), rtol=1e-4, atol=1e-7)
    handle.remove()
    assert maps.amax() > 0


@pytest.mark.parametrize("beam", [1, 3])
def test_captions_equal_generate(beam: int, tmp_path: Path) -> None:
    captions = set()
    for seed in (1, 2):
        model = load(save(tmp_path / str(seed), seed))
        inputs = own_inputs(tmp_path / str(seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its default length is a default
            own = model.module.generate(**inputs, num_beams=beam)[0, 1:].tolist()
        expected = own[: own.index(1)] if 1 in own else own
        written = model.write(encode(model, look(model)), beam)
        assert list(written.prompt) == expected  # type: ignore[call-overload]
        captions.add(written.prompt)
    assert len(captions) == 2


def test_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.save(tmp_path / "again")
    again = load(tmp_path / "again")
    a, b = (vlcam.explain(m, photo(50, 40)) for m in (model, again))
    assert a.words == b.words and torch.equal(a.maps, b.maps) and a.grid == b.grid


def test_models_that_read_questions_off_photos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it reads questions off the photo") as error:
        vlcam.load(save(tmp_path / "vqa", is_vqa=True))
    assert "\n" not in str(error.value)


def test_unknown_layers_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no layer 'x'; known: encoder\.encoder\.layer\.0 \.\.\."):
        load(folder, "x")


def test_without_settings_patches_are_those_the_model_reads(folder: Path, tmp_path: Path) -> None:
    """transformers' own are of 16 x 16 pixels, whatever the model."""
    for name in ("alone", "other"):
        shutil.copytree(folder, tmp_path / name)
    (tmp_path / "alone" / "preprocessor_config.json").unlink()
    model = load(tmp_path / "alone")
    assert model.prepare(photo(50, 40))[0].shape[1:] == torch.Size([28, 32])  # 63 patches at most
    found = vlcam.explain(model, photo(50, 40), "a dog").details["assumed as published"]
    side = f"{{'height': {SIDE}, 'width': {SIDE}}}"
    assert found[:2] == [
        f"Pix2StructImageProcessor.patch_size: {side}",
        "Pix2StructImageProcessor.max_patches: 63",
    ]
    model.save(tmp_path / "saved")  # as `vlcam convert` does
    again = load(tmp_path / "saved")
    assert torch.equal(again.prepare(photo(50, 40))[0], model.prepare(photo(50, 40))[0])
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["patch_size"] = {"height": 16, "width": 16}
    (tmp_path / "other" / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"patches of 16 x 16 pixels, 768 .* reads 48"):
        vlcam.load(tmp_path / "other")


def test_a_photo_of_more_patches_in_a_line_than_there_are_places(tmp_path: Path) -> None:
    model = load(save(tmp_path / "many", max_patches=100))
    with pytest.raises(ValueError, match=r"makes 1 x .* patches .* the model has places for 63 in"):
        vlcam.explain(model, photo(900, 4), "a dog")
