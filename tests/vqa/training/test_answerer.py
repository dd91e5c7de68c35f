"""Training a VQA model on a few tiny photos: same seed, same weights; data that does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import vlcam
import vqa
from vlcam.cli.parser import main
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.data.questions import read_data
from vqa.models.lstm_cnn.model import load_module
from vqa.training.answerer import Training, _Trainer, train

SIZES: dict[str, Any] = {
    "size": 32, "embedding": 8, "hidden": 8, "common": 8, "cnn_batch": 4, "batch": 8,
    "cnn_epochs": 2, "epochs": 2, "cnn_lr": 3e-3,
}  # fmt: skip


def write_data(folder: Path, photos: int = 10) -> Path:
    """Red and green squares, each with a question about its colour and one to say yes to."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    random = np.random.default_rng(0)
    questions, annotations = [], []
    for i in range(1, photos + 1):
        colour = ("red", "green")[i % 2]
        pixels = random.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        pixels[..., i % 2] += 150
        Image.fromarray(pixels).save(folder / "images" / f"{i:012}.jpg")
        for k, (text, answer) in enumerate((("What color is it?", colour), ("Is it red?", "yes"))):
            number = 10 * i + k
            questions.append({"question_id": number, "image_id": i, "question": text})
            said = [{"answer": answer, "answer_id": n} for n in range(1, 11)]
            kind = "yes/no" if k else "other"
            annotations.append({"question_id": number, "answer_type": kind, "answers": said})
    write(folder, questions, annotations)
    return folder


def write(
    folder: Path, questions: Any, annotations: Any, prefix: tuple[str, str] = ("", "")
) -> None:
    for name, entries, start in (
        ("questions", questions, prefix[0]),
        ("annotations", annotations, prefix[1]),
    ):
        path = folder / "annotations" / f"{start}{name}.json"
        path.write_text(json.dumps({name: entries}))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


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


def test_the_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--{k.replace('_', '-')}={v}" for k, v in (SIZES | {"epochs": 1}).items()]
    assert main(["train", "vqa", "--data", str(data), "--out", str(tmp_path / "m"), *options]) == 0
    assert "val: accuracy all" in capsys.readouterr().out
    assert main(["train", "vqa", "--data", str(tmp_path / "none"), "--out", "x"]) == 2
    assert "vlcam train vqa: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cnn_epochs": 0, "epochs": 0, "cnn_weights": "w"}, "nothing to train"),
        ({"cnn_epochs": 0}, "--cnn-weights"),
        (
            {"architecture": "mlp"},
            "mlp: must be one of lstm-cnn, coattention, glimpses",
        ),
        ({"question_only": True}, "--question-only: .* without --cnn-epochs"),
        ({"glimpses": 0}, "--glimpses 0: must be at least 1"),
        ({"answers": 0}, "--answers 0: must be at least 1"),
        ({"precision": "half"}, "float32 or bfloat16"),
        ({"first_size": 64}, "--first-size 64"),
    ],
)
def test_options_that_do_not_fit(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Training("data", "out", **(SIZES | wrong))


def test_official_names_and_splits(tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    for subset, number in (("train2014", 1), ("val2014", 2)):
        (folder / subset).mkdir()
        Image.new("RGB", (8, 8)).save(folder / subset / f"COCO_{subset}_{number:012}.jpg")
        questions = [{"question_id": number, "image_id": number, "question": "what?"}]
        said = [{"question_id": number, "answers": [{"answer": "A dog."}]}]
        prefix = (f"v2_OpenEnded_mscoco_{subset}_", f"v2_mscoco_{subset}_")
        write(folder, questions, said, prefix)
    splits = read_data(folder)
    assert [a.photo.name for a in splits.train] == ["COCO_train2014_000000000001.jpg"]
    assert [a.number for a in splits.val] == [2] and not splits.test
    assert splits.train[0].answer == "A dog." and splits.train[0].kind == ""


def test_items_that_cannot_be_used_are_told_of(data: Path) -> None:
    path = data / "annotations" / "questions.json"
    questions = json.loads(path.read_text())["questions"]
    questions += [
        questions[0],
        {"question_id": 900, "image_id": 99, "question": "where?"},
        {"question_id": 901, "image_id": 1, "question": "who?"},
    ]
    path.write_text(json.dumps({"questions": questions}))
    splits = read_data(data)
    assert len(splits.train) + len(splits.val) == 20
    assert splits.skipped == (
        "question 10: asked twice",
        "question 900: no photo 000000000099.jpg",
        "question 901: no answer",
    )
    assert not {a.photo for a in splits.train} & {a.photo for a in splits.val}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("questions.json", None, r"no annotations/\*questions\.json"),
        ("annotations.json", None, "no annotations file that goes with it"),
        ("questions.json", "{", "not a VQA file of questions"),
        ("questions.json", '{"questions": [{"question_id": 1}]}', "not a VQA file of questions"),
        ("annotations.json", '{"annotations": [3]}', "not a VQA file of annotations"),
        ("annotations.json", '{"annotations": []}', "no question that can be used"),
    ],
)
def test_files_that_cannot_be_used(data: Path, name: str, text: str | None, said: str) -> None:
    path = data / "annotations" / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_data(data)
    assert str(data) in str(error.value)
