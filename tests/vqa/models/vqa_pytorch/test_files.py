"""vqa.pytorch's files: by other names, without options, saved again, and damaged."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

import vlcam
from tests.samples.vqa.vqa_pytorch import (
    ARCHITECTURES,
    CNN,
    EMBEDDING,
    MODEL,
    WORDS,
    fbresnet,
    features,
    loaded,
    photo,
    write_checkpoint,
)
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.encoding import encode
from vqa.models.vqa_pytorch import files as vqa_pytorch
from vqa.models.vqa_pytorch.fusion import WithAttention
from vqa.models.vqa_pytorch.model import VqaPyTorch


def test_the_best_model_is_taken_then_the_latest(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    order = [
        "best_model.pth.tar",
        "ckpt_model.pth.tar",
        "ckpt_epoch,12_model.pth.tar",
        "ckpt_epoch,9_model.pth.tar",
    ]
    weights = []
    for seed, name in enumerate(order):
        write_checkpoint(folder, name=name, seed=seed)
        weights.append(torch.load(folder / name, weights_only=True)["linear_classif.bias"])
    torch.save({"epoch": 1}, folder / "best_info.pth.tar")
    given = vlcam.load(folder / order[2])
    assert torch.equal(given.module.answerer.linear_classif.bias, weights[2])  # type: ignore
    for name, expected in zip(order, weights, strict=True):
        for path in (folder, folder / "tiny.yaml", folder / "aid_to_ans.pickle"):
            model = vlcam.load(path)
            assert isinstance(model, VqaPyTorch)
            assert torch.equal(model.module.answerer.linear_classif.bias, expected)
        (folder / name).unlink()


def test_other_names_old_files_and_half_precision(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    state = torch.load(folder / "best_model.pth.tar", weights_only=True)
    (folder / "best_model.pth.tar").unlink()
    parallel = {f"module.{name}": value.half() for name, value in state.items()}
    torch.save(parallel, folder / "mutan.pth", _use_new_zipfile_serialization=False)
    model = vlcam.load(folder)
    assert isinstance(model, VqaPyTorch)
    assert model.module.answerer.linear_classif.weight.dtype == torch.float32
    assert vqa_pytorch.recognises(folder / "mutan.pth")
    assert not vqa_pytorch.recognises(folder / CNN)
    pixels = model.prepare(photo())[0][None]
    before = encode(model, pixels).maps
    cnn = torch.load(folder / CNN, weights_only=True)
    (folder / CNN).unlink()
    save_file(cnn, folder / "fbresnet152.safetensors")
    assert torch.equal(encode(vlcam.load(folder), pixels).maps, before)


def test_without_options_they_are_as_published(tmp_path: Path) -> None:
    for architecture in ARCHITECTURES:
        folder = write_checkpoint(tmp_path / architecture, architecture, cnn=False)
        told = loaded(folder)
        (folder / "tiny.yaml").rename(folder / "tiny.txt")
        for file in ("word_to_wid.pickle", "aid_to_ans.pickle"):
            (folder / file).unlink()
        model = loaded(folder)
        assert model.config.activations == told.config.activations
        assert model.config.preprocess.size == (448, 448)
        asked = (1, 2, 3)
        maps = FeatureMaps(features(1))
        assert torch.equal(model.decode(maps, [asked]), told.decode(maps, [asked]))
        assert told.describe()["assumed as published"] == []
        assert "model.fusion.activation" in model.describe()["assumed as published"]
        # The training's log repeats them.
        options = yaml.safe_load((folder / "tiny.txt").read_text())
        (folder / "logger.json").write_text(json.dumps({"name": "x", "options": options}))
        assert loaded(folder).config == told.config


@pytest.mark.parametrize("cnn", [True, False])
@pytest.mark.parametrize("architecture", ["MutanAtt", "MLBNoAtt"])
def test_saved_and_loaded_again(tmp_path: Path, architecture: str, cnn: bool) -> None:
    encoder = "BayesianUniSkip" if cnn else "BiSkip"
    changes = {
        "vqa": {"nlp": "nltk", "pad": "left", "maxlength": 7},
        "fusion": {"activation_v": "relu"},
    }
    model = vlcam.load(write_checkpoint(tmp_path / "one", architecture, encoder, cnn, **changes))
    assert isinstance(model, VqaPyTorch)
    model.save(tmp_path / "two")
    assert {f.name for f in (tmp_path / "two").iterdir()} == {"config.json", "model.safetensors"}
    again = vlcam.load(tmp_path / "two")
    assert isinstance(again, VqaPyTorch)
    assert again.config == model.config and again.describe() == model.describe()
    state = model.module.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in again.module.state_dict().items())
    maps = FeatureMaps(features(1).float())
    question = again.understand("is the dog red").prompt
    assert torch.equal(model.decode(maps, [question]), again.decode(maps, [question]))
    if cnn:
        pixels = again.prepare(photo())[0][None]
        assert torch.equal(encode(model, pixels).maps, encode(again, pixels).maps)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _state(file: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        state = torch.load(folder / file, weights_only=True)
        change(state)
        torch.save(state, folder / file)

    return apply


def _cut(file: str, length: int) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:length])


def _pickle(file: str, data: Any) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).write_bytes(pickle.dumps(data))


def _options(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: write_checkpoint(folder, **changes) and None


def _add(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


PROBLEMS: dict[str, Callable[[Path], Any]] = {
    "missing linear_q_att.bias": _state(MODEL, lambda s: s.pop("linear_q_att.bias")),
    "no matrix linear_classif.weight": _state(MODEL, lambda s: s.pop("linear_classif.weight")),
    "no matrix seq2vec.rnn.gru_cell.weight_hr": _state(
        MODEL, lambda s: s.pop("seq2vec.rnn.gru_cell.weight_hr.weight")
    ),
    "unexpected x0, x1, x2 and 2 more": _state(
        MODEL, lambda s: s.update({f"x{i}": torch.zeros(1) for i in range(5)})
    ),
    "linear_q_fusion.weight has shape (6, 5)": _state(
        MODEL, lambda s: s.update({"linear_q_fusion.weight": torch.zeros(6, 5)})
    ),
    "not finite": _state(MODEL, lambda s: s["conv_att.bias"].fill_(torch.nan)),
    "best_model.pth.tar: damaged": _cut(MODEL, 3000),
    "it asks for": lambda f: torch.save({"a": _Evil(f / "ran")}, f / MODEL),
    "7 words, but weights for 8": _state(
        MODEL, lambda s: s.update({"seq2vec.embedding.weight": torch.zeros(9, EMBEDDING)})
    ),
    "channels of the CNN, but weights for 8": lambda f: torch.save(
        fbresnet_of_other_width(), f / CNN
    ),
    "no best_model.pth.tar": lambda f: (f / MODEL).unlink(),
    "wid_to_word.pickle and word_to_wid.pickle do not agree": _pickle(
        "word_to_wid.pickle", {w: i for i, w in enumerate(reversed(WORDS), 1)}
    ),
    "wid_to_word.pickle: expected texts numbered from 1": _pickle(
        "wid_to_word.pickle", dict(enumerate(WORDS))
    ),
    "aid_to_ans.pickle: expected texts numbered from 0": _pickle("aid_to_ans.pickle", [1, 2]),
    "ans_to_aid.pickle: damaged": _cut("ans_to_aid.pickle", 20),
    "only plain data": lambda f: _pickle("wid_to_word.pickle", _Evil(f / "ran"))(f),
    "options.yaml: not plain YAML (it has aliases)": lambda f: (f / "options.yaml").write_text(
        "model: &a {x: 1}\nvqa: {y: *a, z: *a}\n"
    ),
    "no aid_to_ans.pickle (nor ans_to_aid.pickle)": lambda f: [
        (f / name).unlink() for name in ("aid_to_ans.pickle", "ans_to_aid.pickle")
    ],
    "tiny.yaml: not plain YAML": _add("tiny.yaml", "model: [1"),
    "not plain YAML (could not determine": _add("evil.yaml", "a: !!python/name:os.system"),
    "tiny.yaml: model.arch is 'MLBAtt'": lambda f: (f / "tiny.yaml").write_text(
        (f / "tiny.yaml").read_text().replace("MutanAtt", "MLBAtt")
    ),
    "have other options": _add("other.yaml", "model: {arch: MutanAtt}"),
    "fusion is no section": lambda f: (f / "tiny.yaml").write_text("model: {fusion: 3}"),
    "activation 'softmax' of fusion.v": _options(fusion={"activation_v": "softmax"}),
    "longest is 'x'": _options(vqa={"maxlength": "x"}),
    "must be two whole numbers": _options(coco={"size": "big"}),
    "logger.json: not a log": _add("logger.json", "{}"),
    "expected one file of the CNN's weights": _add("other.pth", ""),
    "fbresnet152-2e20f6b4.pth: damaged": _cut(CNN, 3000),
    "not the weights of a ResNet: missing 5.1.conv2.bias": _state(
        CNN, lambda s: s.pop("layer2.1.conv2.bias")
    ),
    "convolutions without biases, so it is not fbresnet152": lambda f: torch.save(
        fbresnet(lambda *shape: torch.ones(shape), bias=False), f / CNN
    ),
}  # fmt: skip


def fbresnet_of_other_width() -> dict[str, Tensor]:
    state = fbresnet(lambda *shape: torch.ones(shape))
    for name in ("conv3", "downsample.0"):
        key = f"layer4.0.{name}.weight"
        state[key] = torch.ones(9, *state[key].shape[1:])
        state[f"layer4.0.{name}.bias"] = torch.ones(9)
    for name in ("bn3", "downsample.1"):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            state[f"layer4.0.{name}.{kind}"] = torch.ones(9)
    return state


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_files_are_named_in_one_line(tmp_path: Path, message: str) -> None:
    folder = write_checkpoint(tmp_path / "bad")
    PROBLEMS[message](folder)
    with pytest.raises(ValueError) as error:
        vlcam.load(folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert not (folder / "ran").exists()


def test_a_damaged_model_of_ours(tmp_path: Path) -> None:
    vlcam.load(write_checkpoint(tmp_path / "one")).save(tmp_path / "two")
    config = tmp_path / "two" / "config.json"
    for change, message in (
        ({"answers": ["yes"]}, "1 answers, but weights for 4"),
        ({"words": ["yes", "yes"]}, "words: one occurs twice"),
        ({"tokenizer": "x"}, "tokenizer 'x' is none of mcb, nltk, naive"),
        ({"activations": {"fusion.v": "exit"}}, "activation 'exit'"),
        ({"longest": 0}, "longest is 0"),
    ):
        before = config.read_text()
        config.write_text(json.dumps(json.loads(before) | change))
        with pytest.raises(ValueError, match=message) as error:
            vlcam.load(tmp_path / "two")
        assert "config.json" in str(error.value)
        config.write_text(before)


def test_unknown_layers_and_foreign_folders(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    with pytest.raises(ValueError, match="no layer '7'; known: layer1, layer2, layer3, layer4"):
        vlcam.load(folder, "7")
    other = tmp_path / "other"
    other.mkdir()
    torch.save({"conv_att.weight": torch.zeros(1)}, other / "model.pth.tar")
    (other / "vocab.pickle").write_bytes(b"")
    assert not vqa_pytorch.recognises(other)
    assert not vqa_pytorch.recognises(other / "vocab.pickle")
    assert isinstance(vlcam.load(folder).module.answerer, WithAttention)
