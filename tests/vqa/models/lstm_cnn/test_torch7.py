"""VQA_LSTM_CNN's checkpoints: a narrow VGG and a random language model in its own layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import vlcam
from tests.samples.torch7_files import save
from tests.samples.vqa.lstm_cnn_torch7 import (
    ANSWERS,
    BLOCKS,
    COMMON,
    EMBEDDING,
    FEATURES,
    HIDDEN,
    WORDS,
    write_checkpoint,
)
from vlcam.attribution.encoding import encode
from vlcam.formats.torch7 import load_torch7
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.lstm_cnn.torch7 import load, recognises


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model")


def by_hand(vectors: dict[str, np.ndarray], tokens: list[int], feature: np.ndarray) -> np.ndarray:
    """Scores of the answers as the Lua code computes them, one number after the other."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def taken(flat: list[float], *shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        values = np.array(flat[:size]).reshape(shape)
        del flat[:size]
        return values

    flat = vectors["embedding_w_q"].astype(np.float64).tolist()
    table, bias = taken(flat, EMBEDDING, len(WORDS)), taken(flat, EMBEDDING)
    flat = vectors["encoder_w_q"].astype(np.float64).tolist()
    layers = []
    for inputs in (EMBEDDING, HIDDEN):
        layers.append(
            [(taken(flat, 4 * HIDDEN, n), taken(flat, 4 * HIDDEN)) for n in (inputs, HIDDEN)]
        )
    c, h = np.zeros((2, HIDDEN)), np.zeros((2, HIDDEN))
    for token in tokens:
        x = np.tanh(table[:, token - 1] + bias)
        for i, ((w, b), (v, a)) in enumerate(layers):
            gates = w @ x + b + v @ h[i] + a
            write, forget, read, new = np.split(gates, 4)  # i, f, o, g
            c[i] = sigmoid(forget) * c[i] + sigmoid(write) * np.tanh(new)
            x = h[i] = sigmoid(read) * np.tanh(c[i])
    question = np.concatenate([c[0], h[0], c[1], h[1]])
    flat = vectors["multimodal_w"].astype(np.float64).tolist()
    wq, bq = taken(flat, COMMON, 4 * HIDDEN), taken(flat, COMMON)
    wv, bv = taken(flat, COMMON, FEATURES), taken(flat, COMMON)
    wo, bo = taken(flat, len(ANSWERS), COMMON), taken(flat, len(ANSWERS))
    assert not flat
    image = feature / np.linalg.norm(feature)
    return wo @ (np.tanh(wq @ question + bq) * np.tanh(wv @ image + bv)) + bo


def test_scores_are_the_lua_codes(checkpoint: Path) -> None:
    model = load(checkpoint)
    assert model.layer == "relu5_2" and model.answers == tuple(ANSWERS)
    question = model.understand("Is the dog red?")
    assert question.prompt == (2, 3, 4, 5, 6) and question.unknown == ()
    bgr = torch.from_numpy(np.random.default_rng(1).normal(0, 60, (1, 3, 224, 224))).float()
    pixels = bgr.flip(1)  # ours are RGB
    maps, feature = slow_vgg(load_file(checkpoint / "vgg.safetensors"), bgr)
    features = encode(model, pixels)
    torch.testing.assert_close(features.maps, maps, rtol=1e-4, atol=1e-4)
    assert model.grid((224, 224)).offset == (7.5, 7.5)
    with torch.no_grad():
        scores = model.decode(features, [question.prompt])[0]
    vectors = load_torch7(checkpoint / "lstm.t7")
    expected = by_hand(vectors, [2, 3, 4, 5, 6], feature.double().numpy())
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-5)


def slow_vgg(state: dict[str, Tensor], bgr: Tensor) -> tuple[Tensor, Tensor]:
    x = bgr
    for block, count in BLOCKS.items():
        for i in range(1, count + 1):
            weight, bias = (state[f"conv{block}_{i}.{kind}"] for kind in ("weight", "bias"))
            x = torch.conv2d(x, weight, bias, padding=1).relu()
        maps, x = x, torch.max_pool2d(x, 2)
    x = x.flatten()
    for name in ("fc6", "fc7"):
        x = (state[f"{name}.weight"] @ x + state[f"{name}.bias"]).relu()
    return maps, x


def test_photos_are_shrunk_by_exact_averages(checkpoint: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (448, 336, 3), np.uint8)
    pixels, placement = load(checkpoint).prepare(Image.fromarray(picture))
    assert placement.photo_size == (448, 336) and pixels.shape == (3, 224, 224)
    values = picture.astype(np.float64)
    first = values[:2, :2].copy()  # one and a half columns wide
    expected = (first[:, 0] + first[:, 1] / 2).sum(0) / 3 - (123.68, 116.779, 103.939)
    np.testing.assert_allclose(pixels[:, 0, 0].numpy(), expected, atol=1e-3)


def test_it_is_found_by_its_folder_or_file(checkpoint: Path) -> None:
    for path in (checkpoint, checkpoint / "lstm.t7"):
        assert isinstance(vlcam.load(path), CnnAnswerer)


def test_checkpoints_of_other_names_and_sizes(checkpoint: Path) -> None:
    """As training saves them on its way; and as many numbers in a word's embedding as words."""
    random = np.random.default_rng(0)
    file = (checkpoint / "lstm.t7").rename(checkpoint / "lstm_save_iter150.t7")
    assert isinstance(vlcam.load(checkpoint), CnnAnswerer) and recognises(file)
    sizes = {"embedding_w_q": 9 * (len(WORDS) + 1), "encoder_w_q": 4 * 3 * (9 + 1 + 3 + 1) + 4}
    sizes["multimodal_w"] = COMMON * (2 * 3 + 1 + FEATURES + 1) + len(ANSWERS) * (COMMON + 1)
    vectors = {name: random.normal(0, 1, n).astype(np.float32) for name, n in sizes.items()}
    save(file, vectors)
    config = load(checkpoint).module.config
    assert (config.embedding, config.hidden, config.layers, config.common) == (9, 3, 1, COMMON)
    (checkpoint / "lstm_save_iter300.t7").write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"found lstm_save_iter150.t7, lstm_save_iter300.t7"):
        load(checkpoint)


def test_saved_and_read_again_it_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    model = load(checkpoint)
    model.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["cnn"] == "vgg"
    again = vlcam.load(tmp_path / "saved")
    assert isinstance(again, CnnAnswerer) and again.layer == model.layer == "relu5_2"
    assert again.module.config == model.module.config
    pixels, prompt = torch.randn(1, 3, 224, 224), model.understand("is the dog red ?").prompt
    assert torch.equal(*(m.decode(encode(m, pixels), [prompt]) for m in (model, again)))


def test_torchvisions_names_are_understood(checkpoint: Path) -> None:
    from vlcam.networks.vgg import read_vgg

    state = {}
    number = 0
    for block, count in {"1": 2, "2": 2, "3": 3, "4": 3, "5": 3}.items():
        for _ in range(count):
            inputs = 3 if number == 0 else 2
            state[f"features.{number}.weight"] = torch.randn(2, inputs, 3, 3)
            state[f"features.{number}.bias"] = torch.randn(2)
            number += 2
        number += 1
        assert block
    for name, shape in (("0", (4, 98)), ("3", (4, 4)), ("6", (10, 4))):
        state[f"classifier.{name}.weight"] = torch.randn(*shape)
        state[f"classifier.{name}.bias"] = torch.randn(shape[0])
    save_file(state, checkpoint / "vgg.safetensors")
    net = read_vgg(checkpoint / "vgg.safetensors")
    assert net.default_layer == "relu5_3" and net.feature_size == 4
    assert torch.equal(net.conv5_3.weight, state["features.28.weight"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer 'relu9' of this CNN: unknown"):
        net.layer("relu9")


@pytest.mark.parametrize(
    ("said", "spoil"),
    [
        ("found none", lambda f: (f / "vgg.safetensors").unlink()),
        ("found other.pth, vgg", lambda f: (f / "other.pth").touch()),
        ("not a readable Torch7 file", lambda f: (f / "lstm.t7").write_bytes(b"\x03")),
        ("embedding_w_q is None, expected a vector", lambda f: save(f / "lstm.t7", {"a": 1})),
        ("no ix_to_word", lambda f: (f / "data_prepro.json").write_text("{}")),
        ("no ix_to_word", lambda f: (f / "data_prepro.json").write_text("[1")),
        ("not the weights of a VGG: no conv1_1", lambda f: _other_weights(f)),
        ("fit no model of 7 words", lambda f: _cut_vector(f)),
    ],
)  # fmt: skip
def test_what_does_not_fit(checkpoint: Path, said: str, spoil: object) -> None:
    spoil(checkpoint)  # type: ignore[operator]
    with pytest.raises(ValueError, match=said) as error:
        load(checkpoint)
    assert "\n" not in str(error.value) and str(checkpoint) in str(error.value)


def _other_weights(folder: Path) -> None:
    save_file({"a": torch.ones(1)}, folder / "vgg.safetensors")


def _cut_vector(folder: Path) -> None:
    vectors = dict(load_torch7(folder / "lstm.t7"))
    vectors["encoder_w_q"] = vectors["encoder_w_q"][:-3]
    save(folder / "lstm.t7", vectors)
