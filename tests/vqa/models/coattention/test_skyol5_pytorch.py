"""SkyOL5's VQA-CoAttention: random weights in its own layout, against its equations one by one."""

from __future__ import annotations

import json
import pickle
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.resnet import BasicBlock, ResNet

import vlcam
from tests.samples.vqa.skyol5_pytorch import (
    ANSWERS,
    LAYERS,
    SIZE,
    WORDS,
    narrow_resnet,
    weights,
    write,
    write_checkpoint,
)
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.encoding import encode
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.coattention.skyol5_pytorch import CoAttentionPyTorch, load, recognises


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model")


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def by_hand(maps: np.ndarray, tokens: list[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits and each level's shares of the regions, of maps (D, u, v) and one question."""
    w = {name: value.double().numpy() for name, value in weights().items()}
    regions = maps.reshape(SIZE, -1).astype(np.float64)
    word = w["embed.weight"][tokens]

    def at(t: int) -> np.ndarray:
        return word[t] if 0 <= t < len(tokens) else np.zeros(SIZE)

    phrase = []
    for t in range(len(tokens)):
        grams = []
        for name, places in (
            ("unigram_conv", [t]),
            ("bigram_conv", [t - 1, t + 1]),
            ("trigram_conv", [t - 2, t, t + 2]),
        ):
            kernel = w[f"{name}.weight"]
            steps = [kernel[:, :, k] @ at(place) for k, place in enumerate(places)]
            grams.append(np.tanh(sum(steps) + w[f"{name}.bias"]))
        phrase.append(np.max(grams, 0))
    looked, below = [], None
    levels = (("W_w", word), ("W_p", np.array(phrase)), ("W_s", lstm(w, phrase)))
    for name, words in levels:
        affinity = words @ w["W_b"] @ regions
        image, question = w["W_v"] @ regions, w["W_q"] @ words.T
        where = softmax(w["w_hv"][:, 0] @ np.tanh(image + question @ affinity))
        read = softmax(w["w_hq"][:, 0] @ np.tanh(question + image @ affinity.T))
        looked.append(where)
        seen = regions @ where + read @ words
        joined = seen if below is None else np.concatenate([seen, below])
        below = np.tanh(w[f"{name}.weight"] @ joined + w[f"{name}.bias"])
    return w["fc.weight"] @ below + w["fc.bias"], looked


def lstm(w: dict[str, np.ndarray], inputs: list[np.ndarray]) -> np.ndarray:
    h, c = np.zeros((2, LAYERS, SIZE))
    outputs = []
    for x in inputs:
        for i in range(LAYERS):
            gates = w[f"lstm.weight_ih_l{i}"] @ x + w[f"lstm.bias_ih_l{i}"]
            gates = gates + w[f"lstm.weight_hh_l{i}"] @ h[i] + w[f"lstm.bias_hh_l{i}"]
            write, forget, new, show = np.split(gates, 4)
            c[i] = c[i] / (1 + np.exp(-forget)) + np.tanh(new) / (1 + np.exp(-write))
            x = h[i] = np.tanh(c[i]) / (1 + np.exp(-show))
        outputs.append(x)
    return np.array(outputs)


def test_it_is_the_originals_arithmetic(checkpoint: Path) -> None:
    model = load(checkpoint)
    assert model.layer == "7" and model.answers == tuple(ANSWERS)
    maps = np.random.default_rng(1).uniform(0, 2, (1, SIZE, 14, 14)).astype(np.float32)
    features = FeatureMaps(torch.from_numpy(maps).repeat(3, 1, 1, 1))
    questions = [model.understand(text) for text in ("What is the RED dog?", "dog", "is it red?")]
    assert [q.prompt for q in questions] == [(1, 4, 5, 6, 8, 7, 2), (1, 7, 2), (1, 5, 8, 2)]
    assert [q.unknown for q in questions] == [(), (), ("it",)]
    with torch.no_grad():
        logits = model.decode(features, [q.prompt for q in questions]).numpy()
    for row, question in enumerate(questions):
        expected, looked = by_hand(maps[0], list(question.prompt))  # type: ignore[call-overload]
        np.testing.assert_allclose(logits[row], expected, atol=1e-5)
        own = model.attention(features.one(row), question.prompt, (448, 448))
        assert own is not None and own.names == ("word", "phrase", "question")
        np.testing.assert_allclose(own.maps.flatten(1), looked, atol=1e-6)
        assert own.grid.size == (14, 14)


def test_words_are_what_stands_between_single_spaces(checkpoint: Path) -> None:
    model = load(checkpoint)
    assert model.understand("is  red ?").prompt == (1, 5, 8, 2)
    assert model.understand("is red!").unknown == ("red!",)
    for text, said in (("zebra?", "knows no word"), ("?", "has no word")):
        with pytest.raises(ValueError, match=said):
            model.understand(text)
    write(checkpoint / "q2i.pkl", {word: i for i, word in enumerate([*WORDS[:-1], ""])})
    assert load(checkpoint).understand("is  the").prompt == (1, 5, 8, 6, 2)


def test_photos_are_seen_by_resnet(checkpoint: Path) -> None:
    picture = Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 20).convert("RGB")
    model = load(checkpoint, "5")
    pixels, placement = model.prepare(picture)
    assert placement.photo_size == (200, 300)
    shrunk = np.asarray(picture.resize((448, 448), Image.Resampling.BILINEAR)) / 255
    np.testing.assert_allclose(pixels.numpy(), shrunk.transpose(2, 0, 1), atol=1e-6)
    with torch.device("meta"):
        net = ResNet(BasicBlock, [1] * 4)
    for name, value in narrow_resnet().items():  # torchvision's own code, at our widths
        module, _, kind = name.rpartition(".")
        held = net.get_submodule(module)
        is_parameter = isinstance(getattr(held, kind), torch.nn.Parameter)
        setattr(held, kind, torch.nn.Parameter(value) if is_parameter else value)
    trunk = torch.nn.Sequential(*list(net.eval().children())[:-2])
    features = encode(model, pixels[None])
    prompt: Any = model.understand("what is red").prompt
    with torch.no_grad():
        torch.testing.assert_close(features.maps, trunk[:6](pixels[None]))
        expected = by_hand(trunk(pixels[None])[0].numpy(), list(prompt))[0]
        np.testing.assert_allclose(model.decode(features, [prompt])[0], expected, atol=1e-4)


def test_without_a_cnn_maps_can_be_asked_about(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", cnn=False)
    model = load(folder)
    pixels, _ = model.prepare(Image.new("RGB", (50, 40)))
    with pytest.raises(ValueError, match=f"no CNN to see photos with: {folder}: .*resnet18"):
        encode(model, pixels[None])
    with pytest.raises(ValueError, match=r"'6': .* without, only 7"):
        load(folder, "6")
    model.save(tmp_path / "saved")
    maps, prompt = FeatureMaps(torch.rand(1, SIZE, 14, 14)), model.understand("red").prompt
    again = load(tmp_path / "saved")
    assert torch.equal(*(m.decode(maps, [prompt]) for m in (model, again)))


def test_it_is_found_by_what_it_holds(checkpoint: Path) -> None:
    file = checkpoint / "model_best.pth.tar"
    (checkpoint / "checkpoint.pth.tar").write_bytes(file.read_bytes())
    for path in (checkpoint, file):  # of the last and the best, the best
        found = vlcam.load(path)
        assert isinstance(found, CnnAnswerer) and isinstance(found.module, CoAttentionPyTorch)
    assert not recognises(checkpoint / "resnet18-f37072fd.pth")
    assert not recognises(checkpoint / "q2i.pkl") and not recognises(checkpoint / "none")


def test_scores_that_no_answer_has_are_left_out(checkpoint: Path) -> None:
    (checkpoint / "i2a.pkl").unlink()
    torch.save({"state_dict": weights(1000)}, checkpoint / "model_best.pth.tar")
    model = load(checkpoint)
    assert model.answers == tuple(ANSWERS) and model.module.fc.out_features == len(ANSWERS)


def test_saved_and_read_again_it_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    model = load(checkpoint)
    model.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved/config.json").read_text())
    assert config["architecture"] == "coattention-pytorch"
    again = vlcam.load(tmp_path / "saved", "6")
    assert isinstance(again, CnnAnswerer) and again.module.config == model.module.config
    pixels, prompt = torch.randn(1, 3, 448, 448), model.understand("what is red").prompt
    found, same, own = (
        m.decode(encode(m, pixels), [prompt]) for m in (again, load(checkpoint, "6"), model)
    )
    assert torch.equal(found, same)
    torch.testing.assert_close(found, own)  # at another layer, so equal to rounding


def _with(change: dict[str, Tensor | None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        state = {k: v for k, v in (weights() | change).items() if v is not None}
        torch.save({"state_dict": state}, folder / "model_best.pth.tar")

    return spoil


def _cut(folder: Path) -> None:
    file = folder / "model_best.pth.tar"
    file.write_bytes(file.read_bytes()[:-3000])


class _Hostile:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('run')",)


def _wide(folder: Path) -> None:
    torch.save(ResNet(BasicBlock, [1] * 4).state_dict(), folder / "resnet18-f37072fd.pth")


@pytest.mark.parametrize(
    ("said", "spoil"),
    [
        ("missing W_p.bias", _with({"W_p.bias": None})),
        ("unexpected extra", _with({"extra": torch.ones(1)})),
        ("no matrix embed.weight", _with({"embed.weight": None})),
        ("the model has 4 words, the vocabulary 9", _with({"embed.weight": torch.ones(4, SIZE)})),
        ("the model has 2 answers, 3 are named", _with({"fc.weight": torch.ones(2, SIZE)})),
        ("unigram_conv.bias has shape", _with({"unigram_conv.bias": torch.ones(3)})),
        ("damaged|expected one checkpoint", _cut),
        ("maps of 512 channels, the model takes 6", _wide),
        ("q2i.pkl: no such file", lambda f: (f / "q2i.pkl").unlink()),
        ("q2i.pkl: expected texts, numbered", lambda f: write(f / "q2i.pkl", {"a": 1})),
        ("q2i.pkl: expected a dict", lambda f: write(f / "q2i.pkl", ["a"])),
        ("has no <sos>", lambda f: write(f / "q2i.pkl", {"a": 0})),
        ("q2i.pkl: it asks for builtins.exec", lambda f: write(f / "q2i.pkl", _Hostile())),
        ("i2a.pkl: expected texts", lambda f: write(f / "i2a.pkl", {0: 1})),
        ("found a.pth, resnet18", lambda f: torch.save({}, f / "a.pth")),
        ("expected one checkpoint, found none", lambda f: (f / "model_best.pth.tar").unlink()),
    ],
)  # fmt: skip
def test_what_does_not_fit(checkpoint: Path, said: str, spoil: Callable[[Path], None]) -> None:
    spoil(checkpoint)
    with pytest.raises(ValueError, match=said) as error:
        load(checkpoint)
    assert "\n" not in str(error.value) and str(checkpoint) in str(error.value)


def test_vocabularies_of_python_2_and_defaults(checkpoint: Path) -> None:
    counted = defaultdict(int, {word: i for i, word in enumerate(WORDS)})
    (checkpoint / "q2i.pkl").write_bytes(pickle.dumps(counted, 2))
    assert load(checkpoint).module.config.vocabulary == tuple(WORDS)
