"""im2txt's Inception v3 and LSTM, as TensorFlow writes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import vlcam
from captioning.models.im2txt.model import Im2txt
from tests.samples.tensorflow_files import save

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


def loaded(path: Path, layer: str | None = None) -> Im2txt:
    model = vlcam.load(path, layer)
    assert isinstance(model, Im2txt)
    model.module.double()
    return model


def noise(size: int = SMALL) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, size, size, generator=generator, dtype=torch.float64) * 2 - 1
