"""Questions: answers explained from Python and from the command line, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import captioning
import vlcam
from tests.samples.tiny import TinyCaptioner, photo
from tests.samples.vqa.lstm_cnn import ANSWERS, save
from tests.tools.command_line import PHOTO
from vlcam.attribution.gradients import score
from vlcam.attribution.targets import unit
from vlcam.cli.parser import main
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.lstm_cnn.model import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "tiny-vqa")


@pytest.fixture
def model(folder: Path) -> CnnAnswerer:
    return load(folder)


def test_the_likeliest_answers_in_order(model: CnnAnswerer) -> None:
    explanation = vlcam.explain(model, photo(), question="What color is it?", top=3)
    assert explanation.text == explanation.question == "What color is it?"
    assert explanation.unknown == ("it",) and explanation.items == explanation.answers
    logits = [answer.logit for answer in explanation.answers]
    assert len(logits) == 3 and logits == sorted(logits, reverse=True)
    everything = vlcam.explain(model, photo(), question="What color is it?", top=99)
    assert sum(answer.probability for answer in everything.answers) == pytest.approx(1)
    assert everything.answers[:3] == explanation.answers


def test_answers_of_ones_own_from_one_look(model: CnnAnswerer) -> None:
    passes: list[int] = []
    first = next(m for m in model.module.modules() if isinstance(m, nn.Conv2d))
    handle = first.register_forward_hook(
        lambda _, inputs, __: passes.append(0 if inputs[0].is_meta else len(inputs[0]))
    )
    seen = vlcam.look(model, photo())
    forced = vlcam.explain(model, seen, question="what color", answers=["two", "red", "two"])
    assert [answer.text for answer in forced.answers] == ["two", "red"]
    vlcam.explain(model, seen, question="is the color")
    handle.remove()
    assert sum(passes) == 1
    reading = model.read(model.understand("what color"), ["two", "red"])
    assert seen.features is not None
    values = score(model, seen.features, [unit(reading, u) for u in reading.units])
    assert [answer.logit for answer in forced.answers] == pytest.approx(values.tolist())


def test_why_one_rather_than_another(model: CnnAnswerer) -> None:
    both = vlcam.explain(model, photo(), question="what", answers=["red", "two"])
    (answer,) = vlcam.explain(model, photo(), question="what", contrast=("red", "two")).answers
    red, two = both.answers
    assert answer.text == "red rather than two"
    assert answer.logit == pytest.approx(red.logit - two.logit, abs=1e-5)
    assert answer.probability == pytest.approx(
        red.probability / (red.probability + two.probability)
    )


def test_it_is_saved_and_shown(model: CnnAnswerer, tmp_path: Path) -> None:
    explanation = vlcam.explain(model, photo(), question="what <color> is it?")
    explanation.save(tmp_path / "saved")
    again = vlcam.Explanation.load(tmp_path / "saved")
    assert again.answers == explanation.answers and again.question == explanation.question
    assert torch.equal(again.maps, explanation.maps)
    page = again.html()
    assert "what &lt;color&gt; is it?" in page and "Not in the model" in page
    assert page.count('<button type="button" class="word') == len(ANSWERS)
    drawn = [text.get_text() for text in again.figure().texts]
    assert set(ANSWERS) <= set(drawn) and "what <color> is it?" in drawn


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo().save(tmp_path / "photo.png")
    ask = ["explain", str(tmp_path / "photo.png"), "--model", str(folder), "--out", str(tmp_path)]
    assert main([*ask, "--question", "What color is it?", "--answers", "red", "yellow"]) == 0
    out, err = capsys.readouterr()
    assert "red 0." in out and "vocabulary: it" in err
    data = json.loads((tmp_path / "photo" / "explanation.json").read_text())
    assert data["question"] == "What color is it?" and "caption" not in data
    assert [answer["text"] for answer in data["answers"]] == ["red", "yellow"]
    assert set(data["answers"][0]) == {"text", "logit", "probability", "peak", "degenerate"}
    assert main([*ask, "--question", "What?", "--contrast", "red", "two"]) == 0
    assert "red rather than two" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--question", " "), "--question is empty"),
        (("--question", "what " * 3000), "has 3000 words; tiny-vqa reads at most 26"),
        (("--question", "zebra?"), "knows no word of the question: zebra"),
        (("--question", "what", "--answers", "yelow"), "did you mean yellow"),
        (("--question", "what", "--contrast", "red", "red"), "--contrast of 'red' with itself"),
        (("--question", "what", "--contrast", "red", "two", "--answers", "two"), "give one of"),
        (("--question", "what", "--caption", "a dog"), "--caption and --question"),
        (("--question", "what is it", "--strict"), "not in the vocabulary of tiny-vqa: it"),
        (("--answers", "red"), "go with a --question"),
    ],
)
def test_what_is_refused(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    photo().save(tmp_path / "photo.png")
    command = ["explain", str(tmp_path / "photo.png"), "--model", str(folder)]
    assert main([*command, "--out", str(tmp_path / "out"), *arguments]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_models_of_the_other_kind(model: CnnAnswerer, capsys: Any) -> None:
    with pytest.raises(ValueError, match="writes no captions: give a question"):
        vlcam.explain(model, photo())
    with pytest.raises(ValueError, match="tiny answers no questions"):
        vlcam.explain(TinyCaptioner(), photo(), question="what?")
    captioner = Path(str(captioning.__file__)).parent / "bundled" / "scenes"
    asked = ["explain", str(PHOTO), "--model", str(captioner), "--question", "what?"]
    assert main(asked) == 1
    assert "neuraltalk is a captioner, which answers no questions" in capsys.readouterr().err
