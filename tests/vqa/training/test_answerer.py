"""Training a VQA model on a few tiny photos: same seed, same weights; options that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import vlcam
import vqa
from tests.samples.transformers_cnns import model_of
from tests.samples.vqa.training import SIZES
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.lstm_cnn.model import load_module
from vqa.training.answerer import Training, _Trainer, train


def test_a_training_stopped_anywhere_continues_to_the_same_weights(
    data: Path, tmp_path: Path
) -> None:
    whole = train(Training(str(data), str(tmp_path / "whole"), **SIZES))
    assert [epoch["epoch"] for epoch in whole["epochs"]] == [1, 2, 3, 4]
    assert set(whole["accuracy"]["val"]) <= {"all", "yes/no", "other"}
    weights = load_file(tmp_path / "whole" / "model.safetensors")
    for stop in (1, 2, 3):
        how = Training(str(data), str(tmp_path / str(stop)), **SIZES)
        trainer = _Trainer(how)
        for _ in range(stop):
            trainer.run_epoch()
        train(how)
        again = load_file(tmp_path / str(stop) / "model.safetensors")
        assert all(np.array_equal(weights[key], again[key]) for key in weights)


def test_it_learns_and_is_asked(data: Path, tmp_path: Path) -> None:
    more = SIZES | {"cnn_epochs": 12, "epochs": 12, "lr": 1e-2, "dropout": 0.1}
    report = train(Training(str(data), str(tmp_path / "model"), half=True, **more))
    assert report["epochs"][-1]["loss"] < report["epochs"][0]["loss"]
    model = load_module(tmp_path / "model")
    assert set(model.config.answers) == {"yes", "red", "green"}
    adapter = CnnAnswerer(model, "model")
    photo = data / "images" / "000000000001.jpg"
    explanation = vlcam.explain(adapter, photo, question="What color is it?", top=2)
    assert [a.text for a in explanation.answers] != [] and len(explanation.answers) == 2
    assert explanation.answers[0].logit >= explanation.answers[1].logit


@pytest.mark.parametrize("attention", ["alternating", "parallel"])
def test_co_attention_is_trained_alike(data: Path, tmp_path: Path, attention: str) -> None:
    more = SIZES | {"cnn_epochs": 12, "epochs": 12, "lr": 1e-2, "dropout": 0.1, "first_size": 16}
    kind = {"architecture": "coattention", "attention": attention}
    report = train(Training(str(data), str(tmp_path / "model"), **more, **kind))
    assert report["epochs"][-1]["loss"] < 0.7 * report["epochs"][0]["loss"]
    model = vlcam.load(tmp_path / "model")
    assert model.module.config.attention == attention
    photo = data / "images" / "000000000001.jpg"
    explanation = vlcam.explain(model, photo, question="What color is it?")
    assert explanation.answers[0].text == "green"


def test_glimpses_are_trained_alike(data: Path, tmp_path: Path) -> None:
    more = SIZES | {"cnn_epochs": 12, "epochs": 12, "lr": 1e-2, "dropout": 0.1, "first_size": 16}
    how = Training(str(data), str(tmp_path / "model"), architecture="glimpses", glimpses=2, **more)
    report = train(how)
    assert report["epochs"][-1]["loss"] < 0.7 * report["epochs"][0]["loss"]
    model = vqa.load(tmp_path / "model")
    assert model.module.config.glimpses == 2
    photo = data / "images" / "000000000001.jpg"
    explanation = vlcam.explain(model, photo, question="What color is it?")
    assert explanation.answers[0].text == "green"


def test_training_on_from_the_cnn_of_a_model_of_ours(data: Path, tmp_path: Path) -> None:
    first = Training(str(data), str(tmp_path / "first"), **(SIZES | {"epochs": 0}))
    train(first)
    weights = {"cnn_epochs": 0, "cnn_weights": str(tmp_path / "first")}
    train(Training(str(data), str(tmp_path / "second"), **(SIZES | weights)))
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("first", "second"))
    cnn = [name for name in one if name.startswith("encoder.")]
    assert cnn and all(np.array_equal(one[name], two[name]) for name in cnn)
    wrong = Training(
        str(data), str(tmp_path / "third"), **(SIZES | weights | {"cnn": "mobilenet_v2"})
    )
    with pytest.raises(ValueError, match="first: not the weights of mobilenet_v2"):
        train(wrong)


@pytest.mark.parametrize("architecture", ["lstm-cnn", "coattention", "glimpses"])
def test_a_question_only_model_sees_nothing(data: Path, tmp_path: Path, architecture: str) -> None:
    options = SIZES | {"cnn_epochs": 0, "epochs": 8, "lr": 1e-2}
    blind = {"architecture": architecture, "question_only": True}
    out = tmp_path / "model"
    report = train(Training(str(data), str(out), **options, **blind))
    assert not list(out.glob("cache/photos-*")), "no photo is even decoded"
    # It learns what is always answered, and cannot tell red from green.
    assert report["accuracy"]["val"]["yes/no"] == 1
    other = report["epochs"][-1]["loss"]
    assert 0.8 * np.log(2) / 2 < other < 1.5


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cnn_epochs": 0, "epochs": 0, "cnn_weights": "w"}, "nothing to train"),
        ({"cnn_epochs": 0}, "--cnn-weights"),
        (
            {"architecture": "mlp"},
            "unknown --architecture 'mlp'; known: lstm-cnn, coattention, glimpses",
        ),
        ({"question_only": True}, "--question-only: .* without --cnn-epochs"),
        ({"glimpses": 0}, "--glimpses 0: must be at least 1"),
        ({"answers": 0}, "--answers 0: must be at least 1"),
        ({"precision": "half"}, "unknown --precision 'half'; known: auto, float32, bfloat16"),
        ({"first_size": 64}, "--first-size 64"),
    ],
)
def test_options_that_do_not_fit(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Training("data", "out", **(SIZES | wrong))


def test_vqa_training_takes_one(tmp_path: Path) -> None:
    model_of("convnext").save_pretrained(tmp_path)
    how = Training(data="d", out="o", cnn=str(tmp_path))
    assert how.cnn.startswith("transformers:convnext {") and how.cnn_weights == str(tmp_path)
    assert Training(data="d", out="o", cnn=str(tmp_path), cnn_weights="w").cnn_weights == "w"
