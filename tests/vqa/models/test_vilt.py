"""ViLT from transformers: a tiny random model; its feature maps depend on the question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BlipImageProcessor,
    ViltImageProcessor,
)

import vlcam
from tests.samples.pretrained import photo
from tests.samples.vqa.vilt import ANSWERS, save
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.methods import get
from vlcam.attribution.targets import unit
from vlcam.geometry.grid import Placement
from vqa.models.vilt import ViltAnswerer, load

QUESTION = "a photographers dogs running"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("vilt") / "tiny-vilt")


def original(model: ViltAnswerer, pixels: torch.Tensor, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad(), torch.random.fork_rng([]):
        return model.module(  # type: ignore[no-any-return]
            input_ids=torch.tensor([ids]),
            pixel_values=pixels,
            pixel_mask=torch.ones(1, *pixels.shape[2:], dtype=torch.long),
        ).logits[0]


def test_logits_are_the_models_own(folder: Path) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, ViltAnswerer) and model.layer == "vilt.encoder.layer.1"
    assert model.answers == tuple(ANSWERS)
    question = model.understand(QUESTION)
    pixels = model.prepare(photo(50, 40))[0][None]
    assert pixels.shape[2:] == (384, 480)
    with torch.no_grad():
        logits = model.decode(encode(model, pixels, [question.prompt]), [question.prompt])[0]
    assert logits.std() > 1e-3
    torch.testing.assert_close(logits, original(model, pixels, question.prompt))


def test_maps_lie_as_the_photo_does(folder: Path) -> None:
    """A patch's cell answers to that patch, whatever transformers' shuffling would do."""
    model = load(folder, "vilt.encoder.layer.0")
    prompt = model.understand(QUESTION).prompt
    pixels = torch.zeros(1, 3, 32, 48)
    plain = encode(model, pixels, [prompt]).maps
    pixels[:, :, 8:16, 24:32] = 3.0
    changed = (encode(model, pixels, [prompt]).maps - plain).abs().sum(1)[0]
    assert plain.shape[2:] == (4, 6) and changed.argmax() == 1 * 6 + 3
    grid = model.grid((32, 48))
    assert grid.size == (4, 6) and grid.offset == (3.5, 3.5) and grid.stride == (8, 8)


def test_a_padded_question_is_answered_as_alone(folder: Path) -> None:
    model = load(folder)
    pixels = model.prepare(photo(50, 40))[0][None]
    prompts = [model.understand(text).prompt for text in (QUESTION, "a dog")]
    features = encode(model, pixels.repeat(2, 1, 1, 1), prompts)
    with torch.no_grad():
        together = model.decode(features, prompts)
    for row, prompt in enumerate(prompts):
        torch.testing.assert_close(together[row], original(model, pixels, prompt))


def test_the_feature_maps_depend_on_the_question(tmp_path: Path) -> None:
    folder = save(tmp_path / "vilt")
    ViltImageProcessor(size={"shortest_edge": 96}).save_pretrained(folder)  # few patches
    model = load(folder)
    seen = vlcam.look(model, photo())
    assert seen.features is None
    explanations = [vlcam.explain(model, seen, question=text) for text in (QUESTION, "a dog")]
    assert [len(e.answers) for e in explanations] == [4, 4]
    assert not torch.allclose(explanations[0].maps, explanations[1].maps)
    question = model.understand("a dog")
    features = encode(model, seen.pixels, [question.prompt])
    reading = model.read(question)
    asked = [unit(reading, u) for u in reading.units]
    scores, maps = explain_at_layer(model, features, asked, get("grad-cam"))
    order = [ANSWERS.index(answer.text) for answer in explanations[1].answers]
    torch.testing.assert_close(explanations[1].maps, maps[order])
    assert [a.logit for a in explanations[1].answers] == pytest.approx(scores[order].tolist())


def test_layers_without_a_gradient_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"layer\.2.* known: vilt\.encoder\.layer\.0 \.\.\. "):
        load(folder, "vilt.encoder.layer.2")


def test_a_model_that_looks_at_random_patches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="10 random patches"):
        load(save(tmp_path / "vilt", max_image_length=10))


def test_questions_it_cannot_read(folder: Path) -> None:
    model = load(folder)
    assert model.understand("a zebra dog").unknown == ("zebra",)
    for text, said in (("", "no word"), ("zebra", "knows no word"), ("dog " * 40, "at most 24")):
        with pytest.raises(ValueError, match=said):
            model.understand(text)


@pytest.mark.parametrize("settings", [{}, {"size": {"shortest_edge": 96}, "resample": 2}])
def test_pixels_are_its_image_processors(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = save(tmp_path / "vilt")
    processor = ViltImageProcessor(**settings)
    if settings:
        processor.save_pretrained(folder)
    pixels, placement = load(folder).prepare(photo(57, 40))
    own = processor(images=photo(57, 40), return_tensors="pt").pixel_values[0]
    assert torch.equal(pixels, own)
    assert placement == Placement.resized((40, 57), (own.shape[1], own.shape[2]))


def test_saved_and_loaded(tmp_path: Path) -> None:
    folder = save(tmp_path / "vilt")
    ViltImageProcessor(size={"shortest_edge": 96}).save_pretrained(folder)
    model = load(folder)
    model.save(tmp_path / "again")
    again = vlcam.load(tmp_path / "again")
    a, b = (vlcam.explain(m, photo(57, 40), question=QUESTION) for m in (model, again))
    assert a.answers == b.answers and torch.equal(a.maps, b.maps) and a.placement == b.placement


def test_another_models_image_processor_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "vilt")
    BlipImageProcessor().save_pretrained(folder)
    with pytest.raises(ValueError, match="BlipImageProcessor is no image processor of ViLT's"):
        load(folder)
