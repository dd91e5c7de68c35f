"""VQA_LSTM_CNN's checkpoints, as Lua Torch7 writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.samples.torch7_files import save

WORDS = ["what", "is", "the", "dog", "red", "?", "UNK"]
ANSWERS = ["yes", "no", "red and yellow"]
EMBEDDING, HIDDEN, COMMON, FEATURES, CHANNELS = 5, 4, 6, 7, 12
BLOCKS = {"1": 1, "2": 1, "3": 1, "4": 1, "5": 2}


def cnn_state(random: np.random.Generator) -> dict[str, Tensor]:
    state, inputs = {}, 3
    shapes: dict[str, tuple[int, ...]] = {}
    for block, count in BLOCKS.items():
        for i in range(1, count + 1):
            shapes[f"conv{block}_{i}"] = (CHANNELS, inputs, 3, 3)
            inputs = CHANNELS
    shapes |= {"fc6": (8, CHANNELS * 49), "fc7": (FEATURES, 8), "fc8": (3, FEATURES)}
    for name, shape in shapes.items():
        scale = np.prod(shape[1:]) ** -0.5
        state[f"{name}.weight"] = torch.from_numpy(random.normal(0, 2 * scale, shape)).float()
        state[f"{name}.bias"] = torch.from_numpy(random.normal(0.2, 0.1, shape[0])).float()
    # On pixels in 0..255.
    state["conv1_1.weight"] /= 100
    return state


def write_checkpoint(folder: Path) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    lengths = {
        "embedding_w_q": EMBEDDING * (len(WORDS) + 1),
        "encoder_w_q": 4 * HIDDEN * (EMBEDDING + 1 + 3 * (HIDDEN + 1)) + HIDDEN + 1,
        "multimodal_w": COMMON * (4 * HIDDEN + 1 + FEATURES + 1) + len(ANSWERS) * (COMMON + 1),
    }
    vectors = {name: random.normal(0, 0.8, n).astype(np.float32) for name, n in lengths.items()}
    save(folder / "lstm.t7", vectors)
    tables = {"ix_to_word": WORDS, "ix_to_ans": ANSWERS}
    numbered = {k: {str(i): w for i, w in enumerate(v, 1)} for k, v in tables.items()}
    (folder / "data_prepro.json").write_text(json.dumps(numbered))
    save_file(cnn_state(random), folder / "vgg.safetensors")
    return folder
