"""Models that write their answers, asked: BLIP VQA of transformers, tiny and random."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vlcam
from tests.samples.pretrained import photo
from tests.samples.vqa.blip import QUESTION, own_scores
from vlcam.attribution.encoding import encode
from vlcam.cli.parser import main
from vqa.models.blip import BlipAnswerer


@pytest.fixture
def model(blip_vqa: Path) -> BlipAnswerer:
    found = vlcam.load(blip_vqa)
    assert isinstance(found, BlipAnswerer)
    return found


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


def test_the_command(blip_vqa: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo().save(tmp_path / "photo.png")
    ask = ["explain", str(tmp_path / "photo.png"), "--model", str(blip_vqa), "--out", str(tmp_path)]
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
