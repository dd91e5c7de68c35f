"""CLIP from transformers: a tiny random model, and texts that are compared with a photo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import vlcam
import vqa
from tests.samples.pretrained import photo
from tests.samples.vqa.clip import save
from tests.tools.command_line import read, refused
from vlcam.cli.parser import main
from vqa.models.clip import Clip, load

TEXTS = ["a photo of grass", "a dog", "photographers running"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="module")
def model(folder: Path) -> Clip:
    found = vlcam.load(folder)
    assert isinstance(found, Clip)
    return found


def original(model: Clip, pixels: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """What transformers' own forward pass gives, of a padded batch of texts."""
    inputs = model.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.module(  # type: ignore[no-any-return]
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            pixel_values=pixels,
        ).logits_per_image[0]


def test_scores_are_the_models_own(model: Clip) -> None:
    pixels = model.prepare(photo())[0]
    expected = original(model, pixels[None], TEXTS)
    assert model.layer == "vision_model.encoder.layers.1" and expected.std() > 1e-3
    found = vlcam.explain(model, photo(), answers=TEXTS)
    assert [answer.text for answer in found.answers] == TEXTS and found.model == "tiny-clip"
    logits = torch.tensor([answer.logit for answer in found.answers])
    torch.testing.assert_close(logits, expected)
    chances = torch.tensor([answer.probability for answer in found.answers])
    torch.testing.assert_close(chances, expected.softmax(0))
    assert found.maps.shape == (3, 4, 4) and found.maps.abs().amax() > 0
    contrast = vlcam.explain(model, photo(), contrast=("a dog", "a photo of grass"))
    (answer,) = contrast.answers
    assert answer.logit == pytest.approx(float(expected[1] - expected[0]), rel=1e-4)


@pytest.mark.parametrize("method", ["attention-rollout", "attention-relevance", "layercam"])
def test_methods_for_vision_transformers(model: Clip, method: str) -> None:
    found = vlcam.explain(model, photo(), answers=TEXTS, method=method)
    assert found.maps.shape == (3, 4, 4) and found.maps.amax() > 0


def test_what_cannot_be_asked(model: Clip, folder: Path) -> None:
    for given, said in (
        ({}, "compares texts: give some"),
        ({"answers": [" "]}, "has no word"),
        ({"answers": ["a dog " * 30]}, "reads at most 24"),
        ({"question": "what is it?", "answers": ["a dog"]}, "reads no question"),
    ):
        with pytest.raises(ValueError, match=said):
            vlcam.explain(model, photo(), **given)  # type: ignore[arg-type]
    for layer in ("vision_model.encoder.layers.2", "nope"):
        with pytest.raises(
            ValueError, match=r"no layer .*; known: .*layers\.0 \.\.\. .*layers\.1$"
        ):
            load(folder, layer)
    with pytest.raises(ValueError, match="for comparing a photo with texts"):
        vqa.load(folder)


def test_the_published_settings_of_photos(folder: Path, tmp_path: Path) -> None:
    """As they were written in 2021, before image processors had their names and sizes theirs."""
    old = {
        "crop_size": 32, "size": 32, "do_center_crop": True, "do_normalize": True,
        "do_resize": True, "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3,
        "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
    }  # fmt: skip
    (tmp_path / "clip").mkdir()
    for file in folder.iterdir():
        if file.name not in ("preprocessor_config.json", "processor_config.json"):
            (tmp_path / "clip" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "clip" / "preprocessor_config.json").write_text(json.dumps(old))
    pixels, placement = load(tmp_path / "clip").prepare(photo(60, 40))
    assert pixels.shape == (3, 32, 32) and placement.photo_size == (40, 60)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, out = tmp_path / "photo.png", tmp_path / "out"
    photo().save(picture)
    asked = ["explain", str(picture), "--model", str(folder), "--out", str(out)]
    assert main([*asked, "--answers", "a dog", "grass"]) == 0
    assert [answer["text"] for answer in read(out / "photo")["answers"]] == ["a dog", "grass"]
    assert "a dog 0." in capsys.readouterr().out
    assert "give it some as --answers, and no question" in refused(capsys, *asked)
    line = refused(capsys, *asked, "--question", "what is it?", "--answers", "a dog", "grass")
    assert "give it some as --answers, and no question" in line
