"""The model of glimpses, explained at the glimpses: exact maps, one pass of the CNN a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import vlcam
import vqa
from tests.samples.families.case import noise
from tests.samples.families.own import tiny_glimpses
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods, targets
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels
from vlcam.attribution.incremental import incremental
from vlcam.attribution.occlusion import Patch, occlusion_maps
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.glimpses import ChannelScale, GlimpsesAnswerer

PHOTOS = Path(str(vlcam.__file__)).parent / "bundled" / "photos"


@pytest.fixture
def answerer() -> GlimpsesAnswerer:
    return GlimpsesAnswerer(tiny_glimpses(), "glimpses")


def test_the_same_logits_at_every_layer(answerer: GlimpsesAnswerer) -> None:
    prompt = answerer.understand("the red dog sees a cat").prompt
    pixels = noise(32)
    logits = answerer.decode(encode(answerer, pixels, [prompt]), [prompt])
    plain = CnnAnswerer(answerer.module, "glimpses", "stage2")
    assert torch.allclose(plain.decode(encode(plain, pixels), [prompt]), logits)
    assert logits.std() > 0.1


def test_grad_cam_is_cam(answerer: GlimpsesAnswerer) -> None:
    """Section 3.1: between the maps and each logit lies but their mean and a function of it."""
    question = answerer.understand("a cat")
    reading = answerer.read(question)
    features = encode(answerer, noise(32), [question.prompt])
    asked = [targets.unit(reading, unit, "logit") for unit in reading.units]
    _, maps = explain_at_layer(answerer, features, asked, methods.get("grad-cam-no-relu"))
    mean = features.maps.mean((2, 3)).requires_grad_()
    encoded = answerer.module.encode_question([question.prompt])  # type: ignore[list-item]
    logits = answerer.module.conclude(mean, encoded)
    cells = features.maps[0, 0].numel()
    for row, found in enumerate(maps):
        (weights,) = torch.autograd.grad(logits[0, row], mean, retain_graph=True)
        cam = (weights[0, :, None, None] / cells * features.maps[0]).sum(0)
        assert torch.allclose(found, cam) and cam.abs().max() > 0


def test_nothing_seen_leaves_the_prior(answerer: GlimpsesAnswerer) -> None:
    prompts = [answerer.understand(text).prompt for text in ("a cat", "the red dog")]
    nothing = torch.zeros(2, answerer.module.encoder.feature_size, dtype=torch.double)
    encoded = answerer.module.encode_question(prompts)  # type: ignore[arg-type]
    assert torch.equal(answerer.module(nothing, encoded), answerer.module.prior(encoded))


def test_photos_asked_several_questions(answerer: GlimpsesAnswerer) -> None:
    features = torch.rand(2, answerer.module.encoder.feature_size, dtype=torch.double)
    questions = answerer.module.encode_question([[1, 2], [3], [2]])
    about = torch.tensor([1, 0, 1])
    together = answerer.module(features, questions, about)
    assert torch.allclose(together, answerer.module(features[about], questions))


def test_a_photo_asked_again_is_not_seen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, passes = vqa.load("scenes"), []
    assert isinstance(model, GlimpsesAnswerer) and model.layer == "glimpses"
    seen = GlimpsesAnswerer.encode_photo

    def counted(self: GlimpsesAnswerer, pixels: torch.Tensor) -> FeatureMaps:
        passes.append(len(pixels))
        return seen(self, pixels)

    monkeypatch.setattr(GlimpsesAnswerer, "encode_photo", counted)
    photo = vlcam.look(model, PHOTOS / "hydrant-bicycle.jpg")
    first = vlcam.explain(model, photo, question="what color is the fire hydrant?")
    other = vlcam.explain(model, photo, question="how many bikes are there?")
    assert passes == [1]
    assert first.answers[0].text == "green and red" and other.answers[0].text == "1"


def test_occlusion_of_several_questions_sees_each_patch_once(answerer: GlimpsesAnswerer) -> None:
    readings = [answerer.read(answerer.understand(text)) for text in ("a cat", "the red dog")]
    asked = [target for reading in readings for target in targets.units(reading, "logit")]
    pixels, patch = noise(32), Patch(16, 8)
    fast, why_not = incremental(answerer, pixels, patch)
    assert fast is not None and why_not is None
    plain = CnnAnswerer(answerer.module, "glimpses", "stage2")
    _, expected, _ = occlusion_maps(plain, pixels, asked, patch)
    for encode_covered in (None, fast):
        _, drops, _ = occlusion_maps(answerer, pixels, asked, patch, encode=encode_covered)
        assert torch.allclose(drops, expected, atol=1e-9) and drops.std() > 1e-4
    with pytest.raises(ValueError, match="targets under 2 prompts"):
        explain_at_pixels(answerer, pixels, asked, methods.get("gradient"))


def test_fig_12a_the_cap_says_red_and_the_body_green() -> None:
    explained = vlcam.explain(
        vqa.load("scenes"),
        PHOTOS / "hydrant-bicycle.jpg",
        question="what color is the fire hydrant?",
        answers=["green", "red"],
    )
    photo = Image.open(PHOTOS / "hydrant-bicycle.jpg")
    (green, red) = (photo.getpixel(answer.peak) for answer in explained.answers)
    assert _channel(green) == "green" and _channel(red) == "red"


def _channel(pixel: Any) -> str:
    return ("red", "green", "blue")[max(range(3), key=lambda i: pixel[i])]


def test_no_relu_behind_the_glimpses(answerer: GlimpsesAnswerer) -> None:
    question = answerer.understand("a cat")
    reading = answerer.read(question)
    asked = [targets.unit(reading, reading.units[0], "logit")]
    features = encode(answerer, noise(32), [question.prompt])
    with pytest.raises(ValueError, match="no ReLU between layer glimpses and the score"):
        explain_at_layer(answerer, features, asked, methods.get("grad-cam-guided"))


def test_channels_are_scaled_and_zeros_stay() -> None:
    scale = ChannelScale(3)
    maps = torch.rand(40, 3, 25) * torch.tensor([1.0, 3.0, 0.5])[:, None]
    maps[:, :, 0] = 0
    scale.measure(maps)
    scaled = scale.eval()(maps)
    assert torch.allclose(scaled.square().mean((0, 2)), torch.ones(3), atol=0.1)
    assert (scaled[:, :, 0] == 0).all()
    trained = ChannelScale(3)
    for _ in range(100):
        trained(maps)
    assert torch.allclose(trained.square, scale.square, rtol=1e-3)
