"""Models that write their answers, asked: BLIP VQA of transformers, tiny and random."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BlipConfig, BlipForQuestionAnswering

import vlcam
from tests.captioning.models.test_blip import photo
from tests.samples.pretrained import VOCABULARY, log_probabilities, randomised, word_pieces
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.targets import units
from vlcam.cli.parser import main
from vqa.answering.writing_answerer import AnswerPrompt
from vqa.models.blip import BlipAnswerer, load

QUESTION = "a photographers dogs?"


def save(folder: Path, seed: int = 0) -> Path:
    """A tiny random BLIP VQA model: 4 x 4 patches, three vision layers, two text layers."""
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_attention_heads": 3}
    config = BlipConfig(
        vision_config=sizes | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8},
        text_config=sizes
        | {
            "num_hidden_layers": 2, "encoder_hidden_size": 12, "vocab_size": len(VOCABULARY),
            "max_position_embeddings": 24, "bos_token_id": 5, "sep_token_id": 3,
            "eos_token_id": 3, "pad_token_id": 0, "is_decoder": True,
        },
    )  # fmt: skip
    model = randomised(BlipForQuestionAnswering(config), 0.6, seed)
    with torch.no_grad():  # answers of words
        model.text_decoder.cls.predictions.bias[[0, 1, 2, 4, 5]] -= 9
    model.save_pretrained(folder)
    word_pieces().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("blip-vqa") / "tiny-vqa")


@pytest.fixture
def model(folder: Path) -> BlipAnswerer:
    found = vlcam.load(folder)
    assert isinstance(found, BlipAnswerer)
    return found


def look(model: BlipAnswerer) -> Tensor:
    return model.prepare(photo(50, 40))[0][None].to(next(model.module.parameters()).dtype)


def own_scores(module: Any, pixels: Tensor, question: list[int], answer: list[int]) -> Tensor:
    """log p of each token of an answer, by the parts of the model's own forward."""
    image = module.vision_model(pixel_values=pixels).last_hidden_state
    mask = torch.ones(1, len(question), dtype=torch.long)
    read = module.text_encoder(
        input_ids=torch.tensor([question]), attention_mask=mask, encoder_hidden_states=image,
        encoder_attention_mask=torch.ones(image.shape[:2], dtype=torch.long),
    ).last_hidden_state  # fmt: skip
    logits = module.text_decoder(
        input_ids=torch.tensor([[5, *answer]]), encoder_hidden_states=read,
        encoder_attention_mask=mask,
    ).logits  # fmt: skip
    return log_probabilities(logits[0], answer)


@pytest.mark.parametrize("layer", [None, "vision_model.encoder.layers.0"])
def test_log_probabilities_are_the_models_own(folder: Path, layer: str | None) -> None:
    """Of answers to questions of unlike length, beside one another."""
    model = load(folder, layer)
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
def test_maps_equal_one_word_at_a_time(folder: Path, number: int) -> None:
    model = load(folder, f"vision_model.encoder.layers.{number}")
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


def test_its_own_answer_word_by_word(model: BlipAnswerer) -> None:
    explanation = vlcam.explain(model, photo(), question=QUESTION)
    assert explanation.question == QUESTION and not explanation.answers
    assert explanation.target == "log-probability of each word"
    own = model.write_answer(encode(model, look_at(model)), model.understand(QUESTION))
    assert [word.text for word in explanation.words] == [unit.text for unit in own.units]
    assert explanation.caption == own.text and len(explanation.maps) == len(own.units)
    whole = vlcam.explain(model, photo(), question=QUESTION, target="caption")
    (answer,) = whole.words
    total = sum(word.log_probability for word in explanation.words)
    assert answer.log_probability == pytest.approx(total, abs=1e-4)


def look_at(model: BlipAnswerer) -> Tensor:
    return model.prepare(photo())[0][None]


def test_given_answers(model: BlipAnswerer) -> None:
    """Each answer's log-probability, the sum of its words'."""
    explanation = vlcam.explain(
        model, photo(), question="dog?", answers=["a dog", "grass", "a dog"]
    )
    assert [answer.text for answer in explanation.answers] == ["a dog", "grass"]
    question = list(model.understand("dog?").prompt)  # type: ignore[call-overload]
    for answer, tokens in zip(explanation.answers, ([6, 7], [10]), strict=True):
        expected = float(own_scores(model.module, look_at(model), question, tokens).sum())
        assert answer.logit == pytest.approx(expected, abs=1e-5)
        assert answer.probability == pytest.approx(torch.tensor(expected).exp().item(), rel=1e-4)


def test_why_one_rather_than_another(model: BlipAnswerer) -> None:
    both = vlcam.explain(model, photo(), question="dog?", answers=["dog", "grass"])
    found = vlcam.explain(model, photo(), question="dog?", contrast=("dog", "grass"))
    (answer,) = found.answers
    dog, grass = both.answers
    assert answer.text == "dog rather than grass"
    assert answer.logit == pytest.approx(dog.logit - grass.logit, abs=1e-5)
    assert answer.probability == pytest.approx(
        dog.probability / (dog.probability + grass.probability), rel=1e-4
    )


def test_one_look_serves_all_questions(model: BlipAnswerer) -> None:
    seen = vlcam.look(model, photo())
    looks: list[int] = []
    handle = model.module.vision_model.embeddings.register_forward_hook(lambda *_: looks.append(1))
    for question in (QUESTION, "dog?"):
        vlcam.explain(model, seen, question=question, answers=["dog", "a photo of grass"])
    handle.remove()
    assert not looks


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"question": "zebra"}, "knows no word of the question: zebra"),
        ({"question": " "}, "has no word"),
        ({"question": "a " * 30}, "reads at most 24"),
        ({"question": "a zebra", "strict": True}, "not in the vocabulary of tiny-vqa: zebra"),
        ({"question": "dog?", "answers": [" "]}, "has no word"),
        ({"question": "dog?", "answers": ["a " * 30]}, "the answer has 30 tokens; tiny-vqa reads"),
        ({"question": "dog?", "contrast": ("dog", "dog")}, "a contrast of 'dog' with itself"),
        ({"question": "dog?", "answers": []}, "no answer to explain"),
        ({"question": "dog?", "answers": ["a"], "contrast": ("a", "dog")}, "give one of them"),
        ({"caption": "a dog"}, "tiny-vqa writes no captions"),
    ],
)
def test_what_is_refused(model: BlipAnswerer, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        vlcam.explain(model, photo(), **asked)
    assert "\n" not in str(error.value)


def test_unknown_words_are_told_of(model: BlipAnswerer) -> None:
    found = vlcam.explain(model, photo(), question="a zebra?", answers=["dog", "a lion"])
    assert found.unknown == ("zebra", "lion")


@pytest.mark.parametrize("asked", [{}, {"answers": ["dog", "<grass"]}, {"contrast": ("dog", "a")}])
def test_it_is_saved_and_shown(model: BlipAnswerer, asked: Any, tmp_path: Path) -> None:
    explanation = vlcam.explain(model, photo(), question="a <dog>?", **asked)
    explanation.save(tmp_path / "saved")
    again = vlcam.Explanation.load(tmp_path / "saved")
    assert (again.words, again.answers) == (explanation.words, explanation.answers)
    assert again.question == "a <dog>?" and again.caption == explanation.caption
    assert torch.equal(again.maps, explanation.maps)
    page = again.html()
    assert "a &lt;dog&gt;?" in page and "<grass" not in page
    assert page.count('<button type="button" class="word') == len(explanation.maps)
    assert "a <dog>?" in [text.get_text() for text in again.figure().texts]


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo().save(tmp_path / "photo.png")
    ask = ["explain", str(tmp_path / "photo.png"), "--model", str(folder), "--out", str(tmp_path)]
    assert main([*ask, "--question", QUESTION]) == 0
    data = json.loads((tmp_path / "photo" / "explanation.json").read_text())
    assert data["question"] == QUESTION and data["caption"] and data["words"]
    assert (tmp_path / "photo" / "page.html").is_file()
    assert main([*ask, "--question", "a zebra dog?", "--answers", "dog", "grass"]) == 0
    data = json.loads((tmp_path / "photo" / "explanation.json").read_text())
    assert [answer["text"] for answer in data["answers"]] == ["dog", "grass"]
    assert "zebra" in capsys.readouterr().err
    assert main([*ask, "--question", "dog?", "--contrast", "dog", "grass"]) == 0
    assert "dog rather than grass" in capsys.readouterr().out
    assert main([*ask, "--question", "a zebra dog?", "--strict"]) == 1
    err = capsys.readouterr().err
    assert "not in the vocabulary of tiny-vqa: zebra" in err and err.count("\n") == 1


def test_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    model.save(tmp_path / "again")
    again = load(tmp_path / "again")
    a, b = (vlcam.explain(m, photo(50, 40), question=QUESTION) for m in (model, again))
    assert a.words == b.words and torch.equal(a.maps, b.maps)
