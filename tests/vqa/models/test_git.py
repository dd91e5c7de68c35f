"""GIT of transformers: a tiny random model that writes captions and answers."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPImageProcessor

import vlcam
from tests.samples.pretrained import log_probabilities, photo
from tests.samples.vqa.git import save
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.targets import units
from vlcam.geometry.grid import Grid
from vqa.models.git import Git, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("git") / "tiny-git")


@pytest.fixture
def model(folder: Path) -> Git:
    found = vlcam.load(folder)
    assert isinstance(found, Git)
    return found


def look(model: Git) -> Tensor:
    return model.prepare(photo(50, 40))[0][None].to(next(model.module.parameters()).dtype)


def own_scores(module: Any, pixels: Tensor, question: list[int], answer: list[int]) -> Tensor:
    """log p of each token of an answer by the model's own forward, which gives the loss's parts."""
    ids = torch.tensor([[2, *question, *answer]])
    logits = module(input_ids=ids, pixel_values=pixels).logits[0]
    seen = logits.shape[0] - ids.shape[1]
    return log_probabilities(logits[seen + len(question) :], answer)


@pytest.mark.parametrize("layer", [None, "git.image_encoder.vision_model.encoder.layers.0"])
def test_log_probabilities_are_the_models_own(folder: Path, layer: str | None) -> None:
    """Of captions, and of answers behind questions of unlike length, beside one another."""
    model = load(folder, layer)
    module = model.module.double()
    pixels = look(model)
    asked = [((), (6, 7, 11)), ((7, 8, 9), (10,)), ((6,), (6, 8, 13, 9, 10))]
    features = encode(model, pixels).rows(torch.zeros(3, dtype=torch.long))
    reading = model.read("a dogs")
    prompts = [type(reading.prompt)(*pair) for pair in asked]
    with torch.no_grad():
        scores = model.decode(features, prompts)
        for row, (question, answer) in enumerate(asked):
            expected = own_scores(module, pixels, list(question), list(answer))
            torch.testing.assert_close(scores[row, : len(answer)], expected)
    loss = module(
        input_ids=torch.tensor([[2, 6, 7, 11]]), pixel_values=pixels,
        labels=torch.tensor([[2, 6, 7, 11]]),
    ).loss  # fmt: skip
    assert float(-scores[0, :3].mean()) == pytest.approx(float(loss), rel=1e-6)


@pytest.mark.parametrize("number", [2, 0])
def test_maps_equal_one_word_at_a_time(folder: Path, number: int) -> None:
    model = load(folder, f"git.image_encoder.vision_model.encoder.layers.{number}")
    module = model.module.double()
    pixels = look(model)
    reading = model.read_answer(model.understand("dogs of grass?"), "a photographer running")
    question, answer = reading.prompt  # type: ignore[misc]
    kept: dict[str, Tensor] = {}

    def cut(_: Any, __: Any, output: Tensor) -> Tensor:
        kept["patches"] = output[:, 1:].detach().requires_grad_()
        return torch.cat([output[:, :1].detach(), kept["patches"]], 1)

    features = encode(model, pixels)
    scores, maps = explain_at_layer(model, features, units(reading), methods.get("grad-cam"))
    handle = module.get_submodule(model.layer).register_forward_hook(cut)
    for k, unit in enumerate(reading.units):
        value = own_scores(module, pixels, question, answer)[list(unit.scores)].sum()
        (gradient,) = torch.autograd.grad(value, kept["patches"])
        cam = (gradient.mean(1, keepdim=True) * kept["patches"]).sum(2).clamp(min=0)
        expected = cam.detach().reshape(4, 4)
        torch.testing.assert_close(maps[k], expected, rtol=1e-6, atol=1e-9)
        assert float(scores[k]) == pytest.approx(value.item())
    handle.remove()
    assert maps.amax() > 0


@pytest.mark.parametrize("beam", [1, 3])
def test_captions_and_answers_equal_generate(beam: int, tmp_path: Path) -> None:
    written = set()
    for seed in (1, 2):
        model = load(save(tmp_path / str(seed), seed))
        pixels = look(model)
        features = encode(model, pixels)
        question = model.understand("a dog?")
        for text, found in (
            ([2], model.write(features, beam)),
            ([2, 6, 7, 17], model.write_answer(features, question, beam)),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that its default length is a default
                ids = torch.tensor([text]) if len(text) > 1 else None
                own = model.module.generate(pixel_values=pixels, input_ids=ids, num_beams=beam)
            expected = own[0, len(text) :].tolist()
            expected = expected[: expected.index(3)] if 3 in expected else expected
            assert list(found.prompt.answer) == expected  # type: ignore[attr-defined]
            written.add(tuple(expected))
    assert len(written) == 4


def test_asked_and_not_asked(folder: Path) -> None:
    """One model, a captioner and a VQA model."""
    caption = vlcam.explain(folder, photo(), "a dogs")
    assert [word.text for word in caption.words] == ["a", "dogs"] and caption.question is None
    answers = vlcam.explain(folder, photo(), question="photo of?", answers=["dog", "grass"])
    assert [answer.text for answer in answers.answers] == ["dog", "grass"]
    assert vlcam.explain(folder, photo(), question="a zebra?").unknown == ("zebra",)
    with pytest.raises(ValueError, match="knows no word of the question: zebra"):
        vlcam.explain(folder, photo(), question="zebra")
    with pytest.raises(ValueError, match="the caption has 25 tokens; tiny-git reads at most 24"):
        vlcam.explain(folder, photo(), "a " * 25)
    with pytest.raises(ValueError, match="question and answer have 26 tokens"):
        vlcam.explain(folder, photo(), question="a dog?", answers=["a " * 23])


def test_the_model_is_left_alone(folder: Path) -> None:
    """What stands in for its vision transformer stands elsewhere."""
    model = load(folder)
    encoder = model.module.git.image_encoder
    vlcam.explain(model, photo(), "a dog")
    assert model.module.git.image_encoder is encoder
    shared = {id(p) for p in model.module.parameters()}
    assert {id(p) for p in model._writer.parameters()} <= shared


def test_cells_are_patches_of_the_middle(model: Git) -> None:
    """Its photos are cut: what lies outside was not seen."""
    pixels, placement = model.prepare(photo(50, 40))
    assert pixels.shape == (3, 32, 32) and model.grid((32, 32)) == Grid((4, 4), (3.5, 3.5), (8, 8))
    assert placement.scale == (0.8, 0.8) and placement.shift == pytest.approx((-0.1, -4.1))
    (drawn, _) = vlcam.explain(model, photo(50, 40), "a dog").photo_maps()
    assert drawn.shape == (40, 50) and drawn.any()
    assert not drawn[:, :4].any() and not drawn[:, 46:].any()


def test_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    kept = save(tmp_path / "kept")
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 36}, crop_size=size).save_pretrained(kept)
    model = load(kept)
    model.save(tmp_path / "again")
    again = load(tmp_path / "again")
    a, b = (vlcam.explain(m, photo(50, 40)) for m in (model, again))
    assert a.words == b.words and torch.equal(a.maps, b.maps) and a.placement == b.placement
    assert a.placement.scale == (0.9, 0.9)


def test_films_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="looks at 6 pictures of a film at once"):
        load(save(tmp_path / "film", num_image_with_embedding=6))


def test_other_models_are_not_taken_for_it(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["GitModel"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="not a model vlcam recognises"):
        vlcam.load(tmp_path)


def test_what_was_assumed_is_recorded(folder: Path, tmp_path: Path) -> None:
    said = tmp_path / "said"
    shutil.copytree(folder, said)
    (said / "preprocessor_config.json").unlink(missing_ok=True)
    (said / "processor_config.json").unlink(missing_ok=True)
    found = vlcam.explain(vlcam.load(said), photo(50, 40), "a dog").details["assumed as published"]
    assert any(line.startswith("CLIPImageProcessor.crop_size: ") for line in found)
    vlcam.load(said).save(tmp_path / "saved")
    again = vlcam.explain(vlcam.load(tmp_path / "saved"), photo(50, 40), "a dog")
    assert again.details["assumed as published"] == []
