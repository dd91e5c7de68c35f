"""im2txt's checkpoints: a narrow Inception v3 and an LSTM as TensorFlow writes them.

The original is written down once more here, layer by layer and in its own layout (images NHWC,
kernels HWIO), in the way of slim: a variable is made where it is first used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import vlcam
from captioning.models.im2txt import files as im2txt
from captioning.models.im2txt.model import Im2txt
from tests.samples.tensorflow_files import MAGIC, save
from tests.samples.tiny import photo
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, score
from vlcam.attribution.targets import Target, Term, units
from vlcam.geometry.grid import Grid
from vlcam.photo.preprocess import Preprocess

WORDS = ["a", "</S>", "<S>", "on", "dog", "red", "grass", "."]
TOKENS, EMBEDDING, HIDDEN = 11, 6, 5
CHANNELS = 18  # of the last maps
UNKNOWN = len(WORDS)
SMALL = 139
"""Pixels: the last maps have 3 x 3 cells."""

NAMES = {
    "1.2": ("lstm/basic_lstm_cell/kernel", "lstm/basic_lstm_cell/bias"),
    "1.0": ("lstm/basic_lstm_cell/weights", "lstm/basic_lstm_cell/biases"),
    "0.x": ("lstm/BasicLSTMCell/Linear/Matrix", "lstm/BasicLSTMCell/Linear/Bias"),
}


class Slim:
    """Slim's Inception v3 up to ``Mixed_7c``, narrow; each layer's output is kept by its name.

    Args:
        variables: what is missing in them is made and put there.
    """

    def __init__(self, variables: dict[str, np.ndarray], seed: int = 0) -> None:
        self.variables, self.random = variables, np.random.default_rng(seed)
        self.ends: dict[str, Tensor] = {}

    def get(self, name: str, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        if name not in self.variables:
            self.variables[name] = self.random.uniform(low, high, shape).astype(np.float32)
        return torch.from_numpy(self.variables[name]).double()

    def conv(self, x: Tensor, scope: str, width: int, size: str, stride: int = 1) -> Tensor:
        """``size``: kernel as "3x3"; with "v" behind it, VALID instead of SAME."""
        height, across = int(size[0]), int(size[2])
        inputs, scope = x.shape[-1], f"InceptionV3/{scope}"
        bound = 2.5 / math.sqrt(height * across * inputs)
        kernel = self.get(f"{scope}/weights", height, across, inputs, width, low=-bound, high=bound)
        norm = f"{scope}/BatchNorm"
        beta = self.get(f"{norm}/beta", width, low=0.6, high=1.2)
        mean = self.get(f"{norm}/moving_mean", width, low=-0.2, high=0.2)
        variance = self.get(f"{norm}/moving_variance", width, low=0.5, high=2.0)
        if not size.endswith("v"):
            x = functional.pad(x, (0, 0, across // 2, across // 2, height // 2, height // 2))
        rows = (x.shape[1] - height) // stride + 1
        columns = (x.shape[2] - across) // stride + 1
        total = torch.zeros(len(x), rows, columns, width, dtype=torch.float64)
        for i in range(height):
            for j in range(across):
                end = i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1
                total += x[:, i : end[0] : stride, j : end[1] : stride] @ kernel[i, j]
        return ((total - mean) / torch.sqrt(variance + 0.001) + beta).clamp(min=0)

    def max_pool(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(x.permute(0, 3, 1, 2), 3, 2).permute(0, 2, 3, 1)

    def average_pool(self, x: Tensor) -> Tensor:
        """SAME: sums over 3 x 3 cells, each divided by how many of them there are."""

        def sums(values: Tensor) -> Tensor:
            padded = functional.pad(values, (0, 0, 1, 1, 1, 1))
            h, w = values.shape[1:3]
            return sum(padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3))  # type: ignore[return-value]

        return sums(x) / sums(torch.ones_like(x))

    def end(self, name: str, *branches: Tensor) -> Tensor:
        self.ends[name] = torch.cat(branches, -1)
        return self.ends[name]

    def run(self, x: Tensor, since: str = "") -> Tensor:
        """``Mixed_7c`` of pixels, or of the maps of end point ``since``."""
        steps: list[tuple[str, Callable[[Tensor, str], list[Tensor]]]] = [
            ("Conv2d_1a_3x3", lambda x, n: [self.conv(x, n, 4, "3x3v", 2)]),
            ("Conv2d_2a_3x3", lambda x, n: [self.conv(x, n, 3, "3x3v")]),
            ("Conv2d_2b_3x3", lambda x, n: [self.conv(x, n, 4, "3x3")]),
            ("MaxPool_3a_3x3", lambda x, n: [self.max_pool(x)]),
            ("Conv2d_3b_1x1", lambda x, n: [self.conv(x, n, 3, "1x1v")]),
            ("Conv2d_4a_3x3", lambda x, n: [self.conv(x, n, 4, "3x3v")]),
            ("MaxPool_5a_3x3", lambda x, n: [self.max_pool(x)]),
            ("Mixed_5b", self.mixed_5),
            ("Mixed_5c", self.mixed_5),
            ("Mixed_5d", self.mixed_5),
            ("Mixed_6a", self.mixed_6a),
            *((f"Mixed_6{letter}", self.mixed_6) for letter in "bcde"),
            ("Mixed_7a", self.mixed_7a),
            ("Mixed_7b", self.mixed_7),
            ("Mixed_7c", self.mixed_7),
        ]
        names = [name for name, _ in steps]
        for name, step in steps[names.index(since) + 1 if since else 0 :]:
            x = self.end(name, *step(x, name))
        return x

    def mixed_5(self, x: Tensor, name: str) -> list[Tensor]:
        odd = name == "Mixed_5c"
        first, second = (
            ("Conv2d_0b_1x1", "Conv_1_0c_5x5") if odd else ("Conv2d_0a_1x1", "Conv2d_0b_5x5")
        )
        zero = self.conv(x, f"{name}/Branch_0/Conv2d_0a_1x1", 3, "1x1")
        one = self.conv(x, f"{name}/Branch_1/{first}", 2, "1x1")
        one = self.conv(one, f"{name}/Branch_1/{second}", 3, "5x5")
        two = self.conv(x, f"{name}/Branch_2/Conv2d_0a_1x1", 3, "1x1")
        two = self.conv(two, f"{name}/Branch_2/Conv2d_0b_3x3", 2, "3x3")
        two = self.conv(two, f"{name}/Branch_2/Conv2d_0c_3x3", 2, "3x3")
        three = self.conv(self.average_pool(x), f"{name}/Branch_3/Conv2d_0b_1x1", 2, "1x1")
        return [zero, one, two, three]

    def mixed_6a(self, x: Tensor, name: str) -> list[Tensor]:
        zero = self.conv(x, f"{name}/Branch_0/Conv2d_1a_1x1", 3, "3x3v", 2)
        one = self.conv(x, f"{name}/Branch_1/Conv2d_0a_1x1", 2, "1x1")
        one = self.conv(one, f"{name}/Branch_1/Conv2d_0b_3x3", 3, "3x3")
        one = self.conv(one, f"{name}/Branch_1/Conv2d_1a_1x1", 2, "3x3v", 2)
        return [zero, one, self.max_pool(x)]

    def chain(self, x: Tensor, prefix: str, *layers: str) -> Tensor:
        """Convolutions whose names say how large they are."""
        for layer in layers:
            x = self.conv(x, f"{prefix}/{layer}", 3, layer[-3:])
        return x

    def mixed_6(self, x: Tensor, name: str) -> list[Tensor]:
        wide = "Conv2d_0b_1x7", "Conv2d_0c_7x1"
        tall = "Conv2d_0b_7x1", "Conv2d_0c_1x7", "Conv2d_0d_7x1", "Conv2d_0e_1x7"
        return [
            self.chain(x, f"{name}/Branch_0", "Conv2d_0a_1x1"),
            self.chain(x, f"{name}/Branch_1", "Conv2d_0a_1x1", *wide),
            self.chain(x, f"{name}/Branch_2", "Conv2d_0a_1x1", *tall),
            self.chain(self.average_pool(x), f"{name}/Branch_3", "Conv2d_0b_1x1"),
        ]

    def mixed_7a(self, x: Tensor, name: str) -> list[Tensor]:
        zero = self.chain(x, f"{name}/Branch_0", "Conv2d_0a_1x1")
        zero = self.conv(zero, f"{name}/Branch_0/Conv2d_1a_3x3", 4, "3x3v", 2)
        wide = "Conv2d_0a_1x1", "Conv2d_0b_1x7", "Conv2d_0c_7x1"
        one = self.chain(x, f"{name}/Branch_1", *wide)
        one = self.conv(one, f"{name}/Branch_1/Conv2d_1a_3x3", 3, "3x3v", 2)
        return [zero, one, self.max_pool(x)]

    def mixed_7(self, x: Tensor, name: str) -> list[Tensor]:
        tall = "Conv2d_0b_3x1" if name == "Mixed_7b" else "Conv2d_0c_3x1"
        one = self.chain(x, f"{name}/Branch_1", "Conv2d_0a_1x1")
        two = self.chain(x, f"{name}/Branch_2", "Conv2d_0a_1x1", "Conv2d_0b_3x3")
        return [
            self.chain(x, f"{name}/Branch_0", "Conv2d_0a_1x1"),
            self.chain(one, f"{name}/Branch_1", "Conv2d_0b_1x3"),
            self.chain(one, f"{name}/Branch_1", tall),
            self.chain(two, f"{name}/Branch_2", "Conv2d_0c_1x3"),
            self.chain(two, f"{name}/Branch_2", "Conv2d_0d_3x1"),
            self.chain(self.average_pool(x), f"{name}/Branch_3", "Conv2d_0b_1x1"),
        ]


def variables(names: str = "1.2", seed: int = 0) -> dict[str, np.ndarray]:
    """Of a captioner, by the names that this version of TensorFlow gives them."""
    return {name: values.copy() for name, values in made_once(names, seed).items()}


@cache
def made_once(names: str, seed: int) -> dict[str, np.ndarray]:
    made = cnn_once() if seed else {}
    slim = Slim(made, seed)
    if not made:
        slim.run(torch.zeros(1, 75, 75, 3, dtype=torch.float64))
    slim.get("image_embedding/weights", CHANNELS, EMBEDDING)
    slim.get("seq_embedding/map", TOKENS, EMBEDDING, low=-2, high=2)
    kernel, bias = NAMES[names]
    slim.get(kernel, EMBEDDING + HIDDEN, 4 * HIDDEN, low=-1.5, high=1.5)
    slim.get(bias, 4 * HIDDEN)
    slim.get("logits/weights", HIDDEN, TOKENS, low=-2, high=2)
    slim.get("logits/biases", TOKENS)
    made["global_step"] = np.array(12345)
    return made


def cnn_once() -> dict[str, np.ndarray]:
    """One CNN serves many language models."""
    return {k: v for k, v in made_once("1.2", 0).items() if k.startswith("InceptionV3/")}


def write_words(folder: Path, words: list[str] = WORDS, name: str = "word_counts.txt") -> None:
    lines = [f"{word} {1000 - i}" for i, word in enumerate(words)]
    (folder / name).write_text("\n".join(lines) + "\n", "utf-8")


def write_checkpoint(folder: Path, names: str = "1.2", seed: int = 0, shards: int = 1) -> Path:
    save(folder / "model.ckpt-12345", variables(names, seed), shards)
    write_words(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to."""
    return write_checkpoint(tmp_path_factory.mktemp("im2txt"))


@pytest.fixture
def own(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def loaded(path: Path, layer: str | None = None) -> Im2txt:
    model = vlcam.load(path, layer)
    assert isinstance(model, Im2txt)
    model.module.double()
    return model


def noise(size: int = SMALL) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, size, size, generator=generator, dtype=torch.float64) * 2 - 1


class SlowLanguage:
    """The LSTM and what is behind it, one step after the other."""

    def __init__(self, made: dict[str, np.ndarray], names: str = "1.2") -> None:
        self.made = {n: torch.from_numpy(np.asarray(v)).double() for n, v in made.items()}
        self.kernel, self.bias = (self.made[name] for name in NAMES[names])

    def step(self, x: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        gates = torch.cat([x, h]) @ self.kernel + self.bias
        i, j, f, o = (gates[k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
        c = c * torch.sigmoid(f + 1.0) + torch.sigmoid(i) * torch.tanh(j)
        return c, torch.tanh(c) * torch.sigmoid(o)

    def begin(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """State (c, h) after the image, from ``Mixed_7c`` (1, u, v, K)."""
        image = maps.mean((1, 2))[0] @ self.made["image_embedding/weights"]
        zero = torch.zeros(HIDDEN, dtype=torch.float64)
        return self.step(image, zero, zero)

    def log_probabilities(self, maps: Tensor, tokens: list[int]) -> Tensor:
        """(len(tokens), V): row k what follows <S> and the first k tokens."""
        state, rows = self.begin(maps), []
        for token in [WORDS.index("<S>"), *tokens[:-1]]:
            row, state = self.behind(token, state)
            rows.append(row)
        return torch.stack(rows)

    def behind(
        self, token: int, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Log-probabilities of what follows a token, and the state then."""
        c, h = self.step(self.made["seq_embedding/map"][token], *state)
        logits = h @ self.made["logits/weights"] + self.made["logits/biases"]
        return logits.log_softmax(0), (c, h)


# --- the same numbers


@pytest.mark.parametrize(("names", "shards"), [("1.2", 1), ("1.0", 3), ("0.x", 1)])
def test_log_probabilities_are_the_originals(tmp_path: Path, names: str, shards: int) -> None:
    folder = write_checkpoint(tmp_path / "model", names, 3, shards)
    made = variables(names, 3)
    model = loaded(folder)
    assert model.name == "model.ckpt-12345" and model.layer == "Mixed_7c"
    features = encode(model, noise())
    slim = Slim(made)
    maps = slim.run(noise().permute(0, 2, 3, 1))
    torch.testing.assert_close(features.maps, maps.permute(0, 3, 1, 2), rtol=1e-9, atol=1e-9)
    reading = model.read("A red zebra on grass.")
    assert [unit.text for unit in reading.units] == ["a", "red", "zebra", "on", "grass", "."]
    assert [unit.unknown for unit in reading.units] == [False, False, True, False, False, False]
    assert reading.prompt == (0, 5, UNKNOWN, 3, 6, 7)
    tokens = [*reading.prompt, WORDS.index("</S>")]
    slow = SlowLanguage(made, names).log_probabilities(maps, tokens)
    with torch.no_grad():
        states = model.teacher_force(features, torch.tensor([tokens]))
        fast = model.log_probabilities(states)[0]
        scores = model.decode(features, [tuple(tokens)])[0]
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-9)
    torch.testing.assert_close(scores, slow[range(7), tokens], rtol=0, atol=1e-9)


def test_every_end_point_is_the_originals(checkpoint: Path) -> None:
    slim = Slim(variables())
    slim.run(noise().permute(0, 2, 3, 1))
    net = loaded(checkpoint).module
    for name, maps in slim.ends.items():
        found = encode(Im2txt(net, "im2txt", name), noise()).maps
        torch.testing.assert_close(found, maps.permute(0, 3, 1, 2), rtol=1e-9, atol=1e-9)
    assert [layer.name for layer in net.encoder.layers] == list(slim.ends)


@pytest.mark.parametrize("layer", ["Mixed_7c", "Mixed_6c", "MaxPool_3a_3x3"])
def test_maps_equal_one_word_at_a_time(checkpoint: Path, layer: str) -> None:
    made = variables()
    model, language = loaded(checkpoint, layer), SlowLanguage(made)
    slim = Slim(made)
    slim.run(noise().permute(0, 2, 3, 1))
    maps = slim.ends[layer]
    features = encode(model, noise())
    reading = model.read("a red dog .")
    scores, found = explain_at_layer(model, features, units(reading), methods.get("grad-cam"))
    tokens = [0, 5, 4, 7]
    for k, token in enumerate(tokens):
        leaf = maps.clone().requires_grad_()
        last = leaf if layer == "Mixed_7c" else Slim(made).run(leaf, since=layer)
        value = language.log_probabilities(last, tokens)[k, token]
        (gradient,) = torch.autograd.grad(value, leaf)
        cam = (gradient[0].mean((0, 1)) * leaf[0]).sum(-1).clamp(min=0).detach()
        torch.testing.assert_close(found[k], cam, rtol=1e-7, atol=1e-12)
        assert float(scores[k]) == pytest.approx(value.item(), abs=1e-9)
    assert found.amax() > 0


# --- its own captions


def slow_search(
    language: SlowLanguage, maps: Tensor, beam: int, power: float
) -> list[tuple[float, list[int]]]:
    """Scores and tokens of the captions that beam search ends with, by sorted lists."""
    start, end = WORDS.index("<S>"), WORDS.index("</S>")
    partial = [(0.0, [start], language.begin(maps))]
    complete: list[tuple[float, list[int]]] = []
    for _ in range(19):
        longer = []
        for total, tokens, before in partial:
            row, state = language.behind(tokens[-1], before)
            for word in row.argsort(descending=True)[:beam].tolist():
                value = total + float(row[word])
                if word == end:
                    complete.append((value / (len(tokens) + 1) ** power, [*tokens, end]))
                else:
                    longer.append((value, [*tokens, word], state))
        partial = sorted(longer, key=lambda caption: -caption[0])[:beam]
        complete = sorted(complete, reverse=True)[:beam]
        if not partial:
            break
    return complete or [(value, tokens) for value, tokens, _ in partial]


def test_captions_are_the_originals(tmp_path: Path) -> None:
    """Of several models: some captions end, some are cut off, some have tokens beyond the words."""
    lengths, texts = set(), set()
    maps = 2 * torch.rand(1, 3, 3, CHANNELS, generator=torch.Generator().manual_seed(0)).double()
    for seed in range(4):
        made = variables(seed=seed)
        save(tmp_path / f"{seed}" / "model", made)
        write_words(tmp_path / f"{seed}")
        model, language = loaded(tmp_path / f"{seed}"), SlowLanguage(made)
        features = FeatureMaps(maps.permute(0, 3, 1, 2))
        for beam, power in ((1, 0.0), (2, 0.0), (3, 0.0), (3, 0.7), (5, 1.0)):
            expected = slow_search(language, maps, beam, power)
            found = model.beam_search(features, beam, power)
            assert [list(caption.tokens) for caption in found] == [t for _, t in expected]
            assert [c.score for c in found] == pytest.approx([s for s, _ in expected])
            if power == 0:
                tokens = expected[0][1][1:-1]  # what the original prints
                written = [word.text for word in model.generate(features, beam)]
                assert written == [WORDS[t] if t < len(WORDS) else "<UNK>" for t in tokens]
                lengths.add(len(written))
                texts.update(written)
    assert {1, 18} < lengths and "<UNK>" in texts


def test_a_beam_of_one_is_greedy(checkpoint: Path) -> None:
    model, language = loaded(checkpoint), SlowLanguage(variables())
    maps = Slim(variables()).run(noise().permute(0, 2, 3, 1))
    tokens: list[int] = []
    while len(tokens) < 19 and WORDS.index("</S>") not in tokens:
        row = language.log_probabilities(maps, [*tokens, 0])[-1]
        tokens.append(int(row.argmax()))
    words = model.generate(encode(model, noise()))
    assert [word.tokens[0] for word in words] == tokens[:-1]
    asked = Target("all", (Term(1.0, tuple(tokens), tuple(range(len(tokens)))),))
    (best,) = model.beam_search(encode(model, noise()), 1)
    value = float(score(model, encode(model, noise()), [asked]))
    assert value == pytest.approx(best.log_probability, abs=1e-9)


def test_improbable_words_are_not_tried(tmp_path: Path) -> None:
    made = variables()
    made["logits/weights"][:] = 0
    made["logits/biases"][:] = -40  # e^-40 is below 1e-12
    made["logits/biases"][[4, 5]] = [0, -1]
    save(tmp_path / "model", made)
    write_words(tmp_path)
    found = loaded(tmp_path).beam_search(FeatureMaps(torch.ones(1, CHANNELS, 2, 2).double()), 3)
    assert all(set(caption.tokens[1:]) <= {4, 5} for caption in found)


# --- photos


@pytest.mark.parametrize("size", [(410, 300), (37, 700), (346, 346), (1, 1), (2, 1500)])
def test_photos_are_resized_as_tensorflow_1_does(checkpoint: Path, size: tuple[int, int]) -> None:
    picture = photo(*size)
    pixels, _ = vlcam.load(checkpoint).prepare(picture)
    values = np.asarray(picture).astype(np.float64) / 255
    height, width = values.shape[:2]
    for row, column in ((0, 0), (298, 298), (150, 7), (3, 200), (211, 123)):
        y, x = (row + 23) * height / 346, (column + 23) * width / 346
        top, left = math.floor(y), math.floor(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        down, across = y - top, x - left
        upper = values[top, left] * (1 - across) + values[top, right] * across
        lower = values[bottom, left] * (1 - across) + values[bottom, right] * across
        expected = ((upper * (1 - down) + lower * down) - 0.5) * 2
        np.testing.assert_allclose(pixels[:, row, column].numpy(), expected, atol=2e-4)


def test_placement_says_where_tensorflow_1_puts_a_pixel() -> None:
    """Enlarged four times, row 4 k is exactly row k."""
    preprocess = Preprocess((40, 40), resize_to=(48, 64), interpolation="tensorflow1")
    values = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    pixels, placement = preprocess(Image.fromarray(values))
    for k, m in ((2, 4), (5, 9), (9, 12)):
        y, x = placement.to_input(k, m)
        assert (y, x) == (4 * k - 4, 4 * m - 12)
        seen = pixels[:, int(y), int(x)] * torch.tensor(preprocess.std) + torch.tensor(
            preprocess.mean
        )
        np.testing.assert_allclose(seen.numpy() * 255, values[k, m], atol=1e-3)


def test_cells_lie_where_unpadded_layers_put_them(checkpoint: Path) -> None:
    net = loaded(checkpoint).module
    for layer, stride, first, cells in (
        ("Conv2d_1a_3x3", 2, 1, 149),
        ("MaxPool_5a_3x3", 8, 13, 35),
        ("Mixed_5d", 8, 13, 35),
        ("Mixed_6e", 16, 21, 17),
        ("Mixed_7c", 32, 37, 8),
    ):
        model = Im2txt(net, "im2txt", layer)
        place, step = (float(first),) * 2, (float(stride),) * 2
        assert model.grid((299, 299)) == Grid((cells, cells), place, step)
        assert net.encoder.layer(layer).shape[1:] == (cells, cells)


def test_a_photo_is_explained_with_one_look_and_no_trace(checkpoint: Path) -> None:
    model = vlcam.load(checkpoint)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    looks = []
    first = model.module.encoder.Conv2d_1a_3x3  # type: ignore[union-attr]
    handle = first.register_forward_hook(lambda _, x, __: looks.append(x[0].device.type))  # type: ignore[operator,union-attr]
    explanation = vlcam.explain(model, photo(410, 300), "a dog on zebra grass")
    handle.remove()
    assert looks.count("cpu") == 1
    assert [word.text for word in explanation.words] == ["a", "dog", "on", "grass"]
    assert explanation.unknown == ("zebra",) and explanation.maps.shape == (4, 8, 8)
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    own = vlcam.explain(model, photo(410, 300))
    assert own.words and "S>" not in own.caption.replace("<S>", "")
    larger = vlcam.explain(vlcam.load(checkpoint, size=(363, 331)), photo(410, 300), "a dog")
    assert larger.maps.shape == (2, 10, 9)


# --- files


def test_saved_it_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    original = vlcam.load(checkpoint, "Mixed_6e")
    original.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architecture"] == "im2txt" and config["words"] == WORDS
    for path in (tmp_path / "saved", tmp_path / "saved" / "model.safetensors"):
        again = vlcam.load(path, "Mixed_6e")
        assert isinstance(again, Im2txt)
        ours, theirs = original.module.state_dict(), again.module.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        a, b = (vlcam.explain(m, photo(90, 70), "a red dog") for m in (original, again))
        assert torch.equal(a.maps, b.maps) and a.grid == b.grid and a.placement == b.placement


def test_it_goes_by_any_of_its_names(own: Path) -> None:
    save(own / "other.ckpt-1", variables(seed=1))
    (own / "checkpoint").write_text('model_checkpoint_path: "/tmp/train/other.ckpt-1"\n')
    for path, name in (
        ("", "other.ckpt-1"),
        ("checkpoint", "other.ckpt-1"),
        ("model.ckpt-12345", "model.ckpt-12345"),
        ("model.ckpt-12345.index", "model.ckpt-12345"),
        ("model.ckpt-12345.data-00000-of-00001", "model.ckpt-12345"),
    ):
        assert vlcam.load(own / path).name == name
    (own / "checkpoint").unlink()
    with pytest.raises(ValueError, match=r"several checkpoints \(model.ckpt-12345, other.ckpt-1\)"):
        vlcam.load(own)


def test_half_precision_and_what_the_training_left_are_no_hindrance(own: Path) -> None:
    made = variables()
    half = {name: v.astype(np.float16) if v.dtype == np.float32 else v for name, v in made.items()}
    kernel = NAMES["1.2"][0]
    half |= {
        "OptimizeLoss/learning_rate": np.array(2.0, np.float32),
        f"OptimizeLoss/{kernel}/Momentum": np.zeros_like(made[kernel]),
        f"{kernel}/Adam_1": np.zeros_like(made[kernel]),
        "beta1_power": np.array(0.9, np.float32),
        "InceptionV3/Logits/Conv2d_1c_1x1/weights": np.zeros((1, 1, CHANNELS, 3), np.float32),
        "InceptionV3/AuxLogits/Conv2d_2b_1x1/biases": np.zeros(3, np.float32),
    }
    exact = vlcam.load(own).module.state_dict()
    save(own / "model.ckpt-12345", half)
    found = vlcam.load(own).module.state_dict()
    assert found.keys() == exact.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, exact[key], rtol=1e-3, atol=1e-3)


def test_a_vocabulary_is_known_by_its_lines(own: Path) -> None:
    (own / "word_counts.txt").unlink()
    (own / "readme.txt").write_text("Trained for a week.\n")
    with pytest.raises(ValueError, match=r"beside model\.ckpt-12345, word_counts\.txt.*found none"):
        vlcam.load(own)
    write_words(own, ["<UNK>", *WORDS], "words.txt")
    model = loaded(own)
    assert model.read("a zebra").prompt == (1, 0)
    assert [(w.text, w.unknown) for w in model.words("<UNK> zebra")] == [
        ("<UNK>", False),
        ("zebra", True),
    ]
    write_words(own, WORDS, "more.txt")
    with pytest.raises(ValueError, match=r"found more\.txt, words\.txt"):
        vlcam.load(own)
    write_words(own, [repr(word.encode()) for word in [*WORDS, "café", "'s"]])
    model = loaded(own)
    assert [word.tokens for word in model.words("the café's dog")] == [(10,), (8,), (9,), (4,)]


def test_a_full_vocabulary_has_no_token_for_other_words(own: Path) -> None:
    write_words(own, [*WORDS, "cat", "the", "mr."])
    (word,) = loaded(own).words("zebra")
    assert word.unknown and word.tokens == ()
    reading = loaded(own).read("Mr. dog. a cat")
    assert [unit.text for unit in reading.units] == ["mr.", "dog", ".", "a", "cat"]
    write_words(own, [*WORDS, "cat", "the", "mr.", "one"])
    with pytest.raises(ValueError, match=r"12 words, but the model has 11 tokens"):
        vlcam.load(own)


def changed(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        made = variables()
        change(made)
        save(folder / "model.ckpt-12345", made)

    return apply


def cut(file: str, keep: float) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: int(keep * len(data))])

    return apply


INDEX, DATA = "model.ckpt-12345.index", "model.ckpt-12345.data-00000-of-00001"
CONV = "InceptionV3/Mixed_5c/Branch_1/Conv_1_0c_5x5/weights"
MEAN = "InceptionV3/Mixed_6b/Branch_0/Conv2d_0a_1x1/BatchNorm/moving_mean"
PROBLEMS: dict[str, Callable[[Path], object]] = {
    f"{INDEX}: not a readable index of a checkpoint (its end is missing)": cut(INDEX, 0.5),
    f"{INDEX}: no such file": lambda f: (f / INDEX).unlink(),
    f"{DATA}: no such file": lambda f: (f / DATA).unlink(),
    "is cut short": cut(DATA, 0.5),
    "no convolution Mixed_5c/Branch_1/Conv_1_0c_5x5": changed(lambda v: v.pop(CONV)),
    "missing encoder.Mixed_6b.Branch_0.Conv2d_0a_1x1.bn.running_mean": changed(
        lambda v: v.pop(MEAN)
    ),
    "missing logits/biases": changed(lambda v: v.pop("logits/biases")),
    "missing lstm/basic_lstm_cell/kernel": changed(lambda v: v.pop(NAMES["1.2"][0])),
    "unexpected attention/a, attention/b": changed(
        lambda v: v.update({f"attention/{n}": np.zeros(2, np.float32) for n in "ab"})
    ),
    "has shape (3, 2, 5, 4), expected (3, 2, 5, 5)": changed(
        lambda v: v.update({CONV: v[CONV][:, :4].transpose(0, 1, 2, 3)})
    ),
    "image.weight has shape": changed(
        lambda v: v.update({"image_embedding/weights": np.zeros((7, EMBEDDING), np.float32)})
    ),
    "have shapes (11, 19) and (20,)": changed(
        lambda v: v.update({NAMES["1.2"][0]: v[NAMES["1.2"][0]][:, 1:]})
    ),
    "holds numbers that are not finite": changed(
        lambda v: v["logits/biases"].__setitem__(0, np.nan)
    ),
    "word_counts.txt: not lines of a word": lambda f: (f / "word_counts.txt").write_text("a\nb\n"),
    "word_counts.txt: <S> and </S> are not": lambda f: write_words(f, ["a", "<S>"]),
    "b'(1).real' is no word": lambda f: write_words(f, ["b'(1).real'x", *map(repr, [b"<S>"])]),
}


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_files_are_named_in_one_line(own: Path, message: str) -> None:
    PROBLEMS[message](own)
    with pytest.raises(ValueError) as error:
        vlcam.load(own)
    assert message.replace("b'(1).real'", "b'(1).real'x") in str(error.value)
    assert str(own) in str(error.value) and "\n" not in str(error.value)


def test_damaged_files_of_ours_are_named(checkpoint: Path, tmp_path: Path) -> None:
    vlcam.load(checkpoint).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"words": ["a"]}, "<S> is not among them"),
        ({"words": [1, 2]}, "expected a list of strings"),
        ({"words": [*WORDS, "b", "c", "d", "e"]}, "12 words"),
        ({"preprocess": {"interpolation": "best"}}, "interpolation"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message) as error:
            vlcam.load(tmp_path)
        assert "config.json" in str(error.value)


def test_a_checkpoint_of_version_1_is_to_be_converted(own: Path) -> None:
    for file in (INDEX, DATA):
        (own / file).unlink()
    names = b"InceptionV3/Conv2d_1a_3x3/weights ... image_embedding/weights"
    old = names + bytes(60) + MAGIC.to_bytes(8, "little")
    (own / "model.ckpt-12345").write_bytes(old)
    for path in (own, own / "model.ckpt-12345"):
        with pytest.raises(ValueError, match=r"model\.ckpt-12345: .*version 1.*convert"):
            vlcam.load(path)


def test_other_files_are_not_recognised(checkpoint: Path, tmp_path: Path) -> None:
    assert not im2txt.recognises(tmp_path)
    write_words(tmp_path)
    (tmp_path / "a.index").write_bytes(b"")
    (tmp_path / "b.index").write_bytes(b"\0" * 100)
    made = variables()
    save(tmp_path / "inception", {n: v for n, v in made.items() if n.startswith("InceptionV3")})
    save(tmp_path / "language", {n: v for n, v in made.items() if "Inception" not in n})
    assert not im2txt.recognises(tmp_path)
    for file in (*tmp_path.iterdir(), checkpoint / "word_counts.txt", tmp_path / "nothing"):
        assert not im2txt.recognises(file), file
    with pytest.raises(ValueError, match="unknown; near: Mixed_7c, Mixed_7b"):
        vlcam.load(checkpoint, "Mixed_7d")
