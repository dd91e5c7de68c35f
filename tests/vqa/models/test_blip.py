"""BLIP VQA of transformers: the numbers of its own forward pass."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vlcam
from tests.samples.pretrained import photo
from tests.samples.vqa.blip import QUESTION, own_scores, save
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.targets import units
from vqa.answering.writing_answerer import AnswerPrompt
from vqa.models.blip import BlipAnswerer, load


def look(model: BlipAnswerer) -> Tensor:
    return model.prepare(photo(50, 40))[0][None].to(next(model.module.parameters()).dtype)


@pytest.mark.parametrize("layer", [None, "vision_model.encoder.layers.0"])
def test_log_probabilities_are_the_models_own(blip_vqa: Path, layer: str | None) -> None:
    """Of answers to questions of unlike length, beside one another."""
    model = load(blip_vqa, layer)
    module = model.module.double()
    pixels = look(model)
    features = encode(model, pixels).rows(torch.zeros(3, dtype=torch.long))
    asked = [(QUESTION, (6, 7, 11)), ("dog?", (10,)), ("a", (6, 8, 13, 9, 10))]
    prompts = [AnswerPrompt(model.understand(text).prompt, answer) for text, answer in asked]
    with torch.no_grad():
        scores = model.decode(features, prompts)
        for row, (question, answer) in enumerate(prompts):
            expected = own_scores(module, pixels, list(question), list(answer))  # type: ignore[call-overload]
            torch.testing.assert_close(scores[row, : len(answer)], expected)
        ids = torch.tensor([[5, 6, 7, 11]])
        questions = torch.tensor([prompts[0].question])
        loss = module(
            input_ids=questions, pixel_values=pixels, labels=ids,
            attention_mask=torch.ones_like(questions),
        ).loss  # fmt: skip
    assert float(-scores[0, :3].mean()) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("number", [2, 0])
def test_maps_equal_one_word_at_a_time(blip_vqa: Path, number: int) -> None:
    model = load(blip_vqa, f"vision_model.encoder.layers.{number}")
    module = model.module.double()
    pixels = look(model)
    reading = model.read_answer(model.understand(QUESTION), "running photographer")
    question, answer = reading.prompt  # type: ignore[misc]
    features = encode(model, pixels)
    _, maps = explain_at_layer(model, features, units(reading), methods.get("grad-cam"))
    kept: dict[str, Tensor] = {}

    def cut(_: Any, __: Any, output: Tensor) -> Tensor:
        kept["patches"] = output[:, 1:].detach().requires_grad_()
        return torch.cat([output[:, :1].detach(), kept["patches"]], 1)

    handle = module.get_submodule(model.layer).register_forward_hook(cut)
    for k, unit in enumerate(reading.units):
        value = own_scores(module, pixels, question, answer)[list(unit.scores)].sum()
        (gradient,) = torch.autograd.grad(value, kept["patches"])
        cam = (gradient.mean(1, keepdim=True) * kept["patches"]).sum(2).clamp(min=0)
        torch.testing.assert_close(maps[k], cam.detach().reshape(4, 4), rtol=1e-6, atol=1e-9)
    handle.remove()
    assert maps.amax() > 0


@pytest.mark.parametrize("beam", [1, 3])
def test_its_own_answers_equal_generate(beam: int, tmp_path: Path) -> None:
    answers = set()
    for seed in (1, 2):
        model = load(save(tmp_path / str(seed), seed))
        pixels = look(model)
        question = model.understand(QUESTION)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its default length is a default
            own = model.module.generate(
                input_ids=torch.tensor([question.prompt]), pixel_values=pixels, num_beams=beam
            )
        expected = own[0, 1:].tolist()
        expected = expected[: expected.index(3)] if 3 in expected else expected
        written = model.write_answer(encode(model, pixels), question, beam)
        assert written.prompt == (question.prompt, tuple(expected))
        answers.add(tuple(expected))
    assert len(answers) == 2


def test_saved_and_loaded(blip_vqa: Path, tmp_path: Path) -> None:
    model = load(blip_vqa)
    model.save(tmp_path / "again")
    again = load(tmp_path / "again")
    a, b = (vlcam.explain(m, photo(50, 40), question=QUESTION) for m in (model, again))
    assert a.words == b.words and torch.equal(a.maps, b.maps)
