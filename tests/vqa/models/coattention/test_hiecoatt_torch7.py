"""HieCoAttenVQA's checkpoints: a narrow VGG and random co-attention in its own layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import vlcam
from tests.samples.torch7_files import save
from tests.samples.torch7_networks import Lua, chain, run
from tests.samples.vqa.hiecoatt_torch7 import (
    ANSWERS,
    HIDDEN,
    JSON,
    LAST,
    LAYERS,
    LINEARS,
    RESNET,
    SLOTS,
    WORDS,
    write_checkpoint,
    write_residual,
)
from tests.samples.vqa.lstm_cnn_torch7 import BLOCKS, CHANNELS
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.encoding import encode
from vlcam.formats.torch7 import load_torch7
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.coattention.hiecoatt_torch7 import load, recognises
from vqa.models.coattention.model import CoAttention

KINDS = ("Alternating", "Parallel")


@pytest.fixture(params=KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", request.param)


class Vector:
    """A flat vector, taken apart from its start."""

    def __init__(self, values: np.ndarray) -> None:
        self.rest = values.astype(np.float64)

    def take(self, *shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        taken, self.rest = self.rest[:size].reshape(shape), self.rest[size:]
        return taken

    def linear(self, out: int, inputs: int) -> Callable[[np.ndarray], np.ndarray]:
        weight, bias = self.take(out, inputs), self.take(out)
        return lambda x: x @ weight.T + bias


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def by_hand(
    path: Path, kind: str, maps: np.ndarray, tokens: list[int]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores and each level's shares of the regions, of maps (C, 14, 14) and one question in its 26
    slots, as the Lua code computes them."""
    n, table = HIDDEN, load_torch7(path)
    w, p, q, a = (Vector(table[name]) for name in ("wparams", "pparams", "qparams", "aparams"))
    image = np.tanh(w.linear(n, CHANNELS)(maps.reshape(CHANNELS, -1).T.astype(np.float64)))
    slots = tokens + [0] * (SLOTS - len(tokens))
    rows = w.take(len(WORDS) + 2, n)
    word = np.array([np.tanh(rows[token]) if token else np.zeros(n) for token in slots])
    padded = np.concatenate([np.zeros((1, n)), word, np.zeros((1, n))])
    grams = []
    for size, first in ((1, 1), (2, 0), (3, 0)):  # where in the padded words its window begins
        weight, bias = p.take(n, 1, size, n)[:, 0], p.take(n)
        gram = [np.einsum("oki,ki->o", weight, padded[first + t :][:size]) for t in range(SLOTS)]
        grams.append(np.array(gram) + bias)
    phrase = np.tanh(np.max(grams, 0))
    whole = lstm(q, phrase, len(tokens))
    looked, vectors = [], []
    for flat, words in ((w, word), (p, phrase), (q, whole)):
        attend = alternating if kind == "Alternating" else parallel
        question, seen, where = attend(flat, words, image, len(tokens))
        assert not len(flat.rest)
        looked.append(where)
        vectors.append(question + seen)
    h = np.tanh(a.linear(n, n)(vectors[0]))
    h = np.tanh(a.linear(n, 2 * n)(np.concatenate([vectors[1], h])))
    h = np.tanh(a.linear(LAST, 2 * n)(np.concatenate([vectors[2], h])))
    scores = a.linear(len(ANSWERS), LAST)(h)
    assert not len(a.rest)
    return scores, looked


def lstm(flat: Vector, inputs: np.ndarray, length: int) -> np.ndarray:
    n = HIDDEN
    layers = [(flat.linear(4 * n, n), flat.linear(4 * n, n)) for _ in range(LAYERS)]
    c, h = np.zeros((2, LAYERS, n))
    outputs = np.zeros((SLOTS, n))
    for t in range(length):
        x = inputs[t]
        for i, (of_input, of_state) in enumerate(layers):
            write, forget, show, new = np.split(of_input(x) + of_state(h[i]), 4)
            c[i] = c[i] / (1 + np.exp(-forget)) + np.tanh(new) / (1 + np.exp(-write))
            x = h[i] = np.tanh(c[i]) / (1 + np.exp(-show))
        outputs[t] = x
    return outputs


def alternating(
    flat: Vector, words: np.ndarray, image: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = HIDDEN
    q3, i2, q1, h1, q2, h2, i3, h3 = (
        flat.linear(n if one == "n" else 1, n) for one in LINEARS["Alternating"]
    )
    words = words[:length]  # the rest has no share
    summary = softmax(h1(np.tanh(q1(words)))[:, 0]) @ words
    where = softmax(h2(np.tanh(i2(image) + q2(summary)))[:, 0])
    seen = where @ image
    return softmax(h3(np.tanh(q3(words) + i3(seen)))[:, 0]) @ words, seen, where


def parallel(
    flat: Vector, words: np.ndarray, image: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = HIDDEN
    corr, img, ques, hq, hv = (
        flat.linear(n if one == "n" else 1, n) for one in LINEARS["Parallel"]
    )
    affinity = np.tanh(words @ corr(image).T)  # of all 26 slots
    read = hq(np.tanh(ques(words) + affinity @ img(image)))[:length, 0]
    where = softmax(hv(np.tanh(img(image) + affinity.T @ ques(words)))[:, 0])
    return softmax(read) @ words[:length], where @ image, where


def test_scores_and_attention_are_the_lua_codes(checkpoint: Path) -> None:
    model = load(checkpoint, "pool5")
    kind = load_torch7(checkpoint / "model_iter7.t7")["lmOpt"]["atten_type"]
    assert model.answers == tuple(ANSWERS)
    question = model.understand("Is the zebra red?")
    assert question.prompt == (2, 3, 7, 5, 6) and question.unknown == ("zebra",)
    maps = np.random.default_rng(1).uniform(0, 2, (1, CHANNELS, 14, 14)).astype(np.float32)
    prompts: list[Any] = [question.prompt, model.understand("what").prompt]
    features = FeatureMaps(torch.from_numpy(maps).repeat(2, 1, 1, 1))
    with torch.no_grad():
        scores = model.decode(features, prompts).numpy()
        own = model.attention(features.one(0), question.prompt, (448, 448))
    for row, prompt in enumerate(prompts):
        expected, looked = by_hand(checkpoint / "model_iter7.t7", kind, maps[0], list(prompt))
        np.testing.assert_allclose(scores[row], expected, atol=1e-5)
        if row == 0:
            assert own is not None and own.names == ("word", "phrase", "question")
            np.testing.assert_allclose(own.maps.flatten(1), looked, atol=1e-6)
            assert own.grid.size == (14, 14) and own.grid.offset == (15.5, 15.5)


def test_empty_places_take_part_in_the_parallel_attention(tmp_path: Path) -> None:
    """As in the original; our own models leave them out."""
    model = load(write_checkpoint(tmp_path / "model", "Parallel"), "pool5")
    features = FeatureMaps(torch.rand(1, CHANNELS, 14, 14))
    prompt: Any = model.understand("what is red").prompt
    with torch.no_grad():
        scores = model.decode(features, [prompt])
        for level in model.module.attend.values():
            level.filled = False
        assert (model.decode(features, [prompt]) - scores).abs().max() > 1e-3


def test_photos_are_seen_by_vgg(checkpoint: Path) -> None:
    model = load(checkpoint)
    assert model.layer == "relu5_2"
    picture = np.random.default_rng(0).integers(0, 256, (896, 672, 3), np.uint8)
    pixels, placement = model.prepare(Image.fromarray(picture))
    assert placement.photo_size == (896, 672) and pixels.shape == (3, 448, 448)
    values = picture.astype(np.float64)
    first = (values[:2, :1] + values[:2, 1:2] / 2).sum((0, 1)) / 3 - (123.68, 116.779, 103.939)
    np.testing.assert_allclose(pixels[:, 0, 0].numpy(), first, atol=1e-3)
    state, x = load_file(checkpoint / "vgg.safetensors"), pixels[None].flip(1)
    for block, count in BLOCKS.items():
        for i in range(1, count + 1):
            weight, bias = (state[f"conv{block}_{i}.{kind}"] for kind in ("weight", "bias"))
            x = torch.conv2d(x, weight, bias, padding=1).relu()
        maps, x = x, torch.max_pool2d(x, 2)
    features = encode(model, pixels[None])
    torch.testing.assert_close(features.maps, maps, rtol=1e-4, atol=1e-4)
    prompt: Any = model.understand("what is red").prompt
    with torch.no_grad():
        scores = [
            model.decode(features, [prompt]),
            load(checkpoint, "pool5").decode(FeatureMaps(x), [prompt]),
        ]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)


def test_without_a_cnn_maps_can_be_asked_about(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", cnn=False)
    model = vlcam.load(folder)
    assert isinstance(model, CnnAnswerer) and model.layer == "pool5"
    pixels, _ = model.prepare(Image.new("RGB", (50, 40)))
    with pytest.raises(ValueError, match=f"no CNN to see photos with: .*VGG-19.* not in {folder}"):
        encode(model, pixels[None])
    with pytest.raises(ValueError, match=r"'relu5_4': .*VGG-19.*; without, only pool5"):
        load(folder, "relu5_4")
    model.save(tmp_path / "saved")
    with pytest.raises(ValueError, match="trained on features, and its checkpoint came without"):
        encode(vlcam.load(tmp_path / "saved"), pixels[None])


def test_photos_are_seen_by_a_resnet_of_torch7(tmp_path: Path) -> None:
    folder = write_residual(tmp_path / "model")
    model = vlcam.load(folder)
    assert isinstance(model, CnnAnswerer) and model.layer == "9"
    picture = np.random.default_rng(0).integers(0, 256, (896, 896, 3), np.uint8)
    pixels, _ = model.prepare(Image.fromarray(picture))
    halved = picture.reshape(448, 2, 448, 2, 3).mean((1, 3)) / 255
    expected = ((halved - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1)
    np.testing.assert_allclose(pixels, expected, atol=1e-5)
    maps = run(chain(*RESNET[:-3]), expected[None].copy())
    features = encode(model, pixels[None])
    np.testing.assert_allclose(features.maps, maps, rtol=1e-4, atol=1e-4)
    prompt: Any = model.understand("what is red").prompt
    with torch.no_grad():
        scores = model.decode(features, [prompt])
    file = folder / "model_iter7.t7"
    by_lua, _ = by_hand(file, "Alternating", maps[0], list(prompt))
    np.testing.assert_allclose(scores[0], by_lua, atol=1e-4)
    earlier = load(folder, "6.1")
    assert earlier.grid((448, 448)).size == (14, 14)
    with torch.no_grad():
        again = earlier.decode(encode(earlier, pixels[None]), [prompt])
    torch.testing.assert_close(again, scores, rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "saved")
    (folder / "resnet-200.t7").unlink()
    saved = vlcam.load(tmp_path / "saved", layer="6.1")
    assert isinstance(saved, CnnAnswerer) and saved.module.config == model.module.config
    with torch.no_grad():
        assert torch.equal(again, saved.decode(encode(saved, pixels[None]), [prompt]))


@pytest.mark.parametrize(
    ("said", "modules"),
    [
        (r"makes feature maps \(24, 14, 14\), .* takes \(12, 14, 14\)", Lua().resnet(2, 6, 7, 8)),
        (r"b\.t7: not a network that is read: it ends with 'ReLU'", RESNET[8:9]),
    ],
)
def test_resnets_that_do_not_fit(tmp_path: Path, said: str, modules: list[Any]) -> None:
    folder = write_residual(tmp_path / "model")
    save(folder / "b.t7", chain(*modules))
    with pytest.raises(ValueError, match=r"expected one file .* CNN, found b\.t7, resnet-200\.t7"):
        load(folder)
    (folder / "resnet-200.t7").unlink()
    with pytest.raises(ValueError, match=said) as error:
        load(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_a_saved_resnet_must_be_described(tmp_path: Path) -> None:
    load(write_residual(tmp_path / "model")).save(tmp_path / "saved")
    file = tmp_path / "saved" / "config.json"
    whole = json.loads(file.read_text())
    for said, network in (
        ("layer 1 is none of", [{"kind": "eval"}]),
        ("layer 1 does not fit", whole["network"][1:]),
        ("no feature maps", []),
        ("no list of layers", 7),
        ("not the weights of this coattention VQA model", whole["network"][:-2]),
    ):
        file.write_text(json.dumps({**whole, "network": network}))
        with pytest.raises(ValueError, match=said) as error:
            vlcam.load(tmp_path / "saved")
        assert "\n" not in str(error.value) and str(tmp_path / "saved") in str(error.value)


def test_of_features_of_a_residual_network(tmp_path: Path) -> None:
    folder = write_residual(tmp_path / "model", cnn=False)
    model = load(folder)
    assert model.layer == "features"
    pixels, _ = model.prepare(Image.new("RGB", (50, 40), (255, 0, 0)))
    np.testing.assert_allclose(pixels[:, 0, 0], [2.2489, -2.0357, -1.8044], atol=1e-3)
    with pytest.raises(ValueError, match=f"ResNet-200 of .* is not in {folder}"):
        encode(model, pixels[None])


def test_it_is_found_by_what_it_holds(checkpoint: Path) -> None:
    for path in (checkpoint, checkpoint / "model_iter7.t7"):
        assert isinstance(vlcam.load(path).module, CoAttention)
    (checkpoint / "network.t7").write_bytes(b"")
    save(checkpoint / "network.t7", {"protos": 1})
    assert recognises(checkpoint) and not recognises(checkpoint / "network.t7")
    assert not recognises(checkpoint / "none.t7")
    assert not recognises(checkpoint / JSON)


def test_options_need_not_be_there(checkpoint: Path) -> None:
    file = checkpoint / "model_iter7.t7"
    table = dict(load_torch7(file))
    kind = table.pop("lmOpt")["atten_type"]
    save(file, table)
    (checkpoint / JSON).rename(checkpoint / "words.json")
    config = load(checkpoint).module.config
    assert (config.attention, config.layers, config.common) == (kind.lower(), LAYERS, LAST)


def test_saved_and_read_again_it_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    model = load(checkpoint)
    model.save(tmp_path / "saved")
    again = vlcam.load(tmp_path / "saved")
    assert isinstance(again, CnnAnswerer) and again.layer == model.layer
    assert again.module.config == model.module.config
    pixels, prompt = torch.randn(1, 3, 448, 448), model.understand("what is red").prompt
    assert torch.equal(*(m.decode(encode(m, pixels), [prompt]) for m in (model, again)))


def _change(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        table = dict(load_torch7(folder / "model_iter7.t7"))
        save(folder / "model_iter7.t7", {**table, **changes})

    return spoil


def _cut(folder: Path) -> None:
    file = folder / "model_iter7.t7"
    file.write_bytes(file.read_bytes()[:-300])


def _other_channels(folder: Path) -> None:
    state: dict[str, Tensor] = load_file(folder / "vgg.safetensors")
    state["conv5_2.weight"] = state["conv5_2.weight"][:4].contiguous()
    state["conv5_2.bias"] = state["conv5_2.bias"][:4].contiguous()
    save_file(state, folder / "vgg.safetensors")


FEW = np.zeros(7, np.float32)


@pytest.mark.parametrize(
    ("said", "spoil"),
    [
        ("not a readable Torch7 file", _cut),
        ("pparams is 1, expected a vector", _change(pparams=1)),
        ("fit no model of 8 words and 3 answers", _change(aparams=FEW)),
        ("fit no model of 7 words", _change(lmOpt={"vocab_size": 7}, qparams=FEW)),
        ("holds numbers that are not finite", _change(pparams=np.full(333, np.inf, np.float32))),
        (r"expected one file \*data_prepro.json .* found none", lambda f: (f / JSON).unlink()),
        ("found coco_data_prepro.json, vqa", lambda f: (f / "coco_data_prepro.json").touch()),
        ("vqa_data_prepro.json: no ix_to_word", lambda f: (f / JSON).write_text("{}")),
        ("vqa_data_prepro.json: no ix_to_word", lambda f: (f / JSON).write_text("[" * 9999)),
        ("found a.pth, vgg.safetensors", lambda f: (f / "a.pth").touch()),
        ("no conv1_1.weight", lambda f: save_file({"a": torch.ones(1)}, f / "vgg.safetensors")),
        (r"makes feature maps \(4, 14, 14\)", _other_channels),
        ("found a.t7, model_iter7.t7", lambda f: shutil.copy(f / "model_iter7.t7", f / "a.t7")),
        ("found none; give the file", lambda f: (f / "model_iter7.t7").unlink()),
    ],
)  # fmt: skip
def test_what_does_not_fit(tmp_path: Path, said: str, spoil: Callable[[Path], None]) -> None:
    folder = write_checkpoint(tmp_path / "model")
    spoil(folder)
    with pytest.raises(ValueError, match=said) as error:
        load(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_without_a_cnn_cells_and_attention_are_those_with_one(tmp_path: Path) -> None:
    """The feature maps are all that is needed, as of Cadene's models."""
    for write, layer in ((write_checkpoint, "pool5"), (write_residual, None)):
        model = load(write(tmp_path / write.__name__), layer)
        pixels, _ = model.prepare(Image.new("RGB", (50, 40), "red"))
        size = (pixels.shape[1], pixels.shape[2])
        features, prompt = encode(model, pixels[None]), model.understand("what is it?").prompt
        folder = write(tmp_path / f"{write.__name__} blind", cnn=False)
        vlcam.load(folder).save(tmp_path / f"{write.__name__} saved")
        for blind in (folder, tmp_path / f"{write.__name__} saved"):
            alone = vlcam.load(blind)
            assert isinstance(alone, CnnAnswerer)
            grid = alone.grid(size)
            assert grid == model.grid(size) and grid.size == (14, 14)
            own, expected = (one.attention(features, prompt, size) for one in (alone, model))
            assert own is not None and expected is not None
            assert own.names == expected.names and own.grid == expected.grid
            torch.testing.assert_close(own.maps, expected.maps)
            assert alone.describe()["assumed as published"] == ["preprocess"]
