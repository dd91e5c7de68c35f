"""tbmoon's basic_vqa, as his training script saves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

WORDS = ["<pad>", "<unk>", "'", "?", "dog", "is", "red", "s", "the", "what", "where"]
ANSWERS = ["<unk>", "yes", "no", "red and yellow"]
CONVOLUTIONS = (0, 3, 6, 9, 12, 14)  # five blocks, the last of two
CHANNELS, FEATURES, COMMON, EMBEDDING, HIDDEN, LAYERS, WIDE = 3, 6, 5, 4, 3, 3, 7


def weights(layers: int = LAYERS) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for number in CONVOLUTIONS:
        shapes[f"img_encoder.model.features.{number}.weight"] = (CHANNELS, inputs, 3, 3)
        inputs = CHANNELS
    for name, out, n in (
        ("img_encoder.model.classifier.0", 8, CHANNELS * 49),
        ("img_encoder.model.classifier.3", FEATURES, 8),
        ("img_encoder.fc", COMMON, FEATURES),
        ("qst_encoder.fc", COMMON, 2 * layers * HIDDEN),
        ("fc1", WIDE, COMMON),
        ("fc2", len(ANSWERS), WIDE),
    ):
        shapes[f"{name}.weight"] = (out, n)
    shapes |= {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items()}
    shapes["qst_encoder.word2vec.weight"] = (len(WORDS), EMBEDDING)
    for layer in range(layers):
        for kind, n in (("ih", HIDDEN if layer else EMBEDDING), ("hh", HIDDEN)):
            shapes[f"qst_encoder.lstm.weight_{kind}_l{layer}"] = (4 * HIDDEN, n)
            shapes[f"qst_encoder.lstm.bias_{kind}_l{layer}"] = (4 * HIDDEN,)
    random = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in sorted(shapes.items()):
        scale = 1.5 * max(1, int(np.prod(shape[1:]))) ** -0.5
        state[name] = scale * torch.randn(shape, generator=random)
    return state


def write_checkpoint(folder: Path, state: dict[str, Tensor] | None = None) -> Path:
    folder.mkdir()
    torch.save({"epoch": 30, "state_dict": state or weights()}, folder / "model-epoch-30.ckpt")
    for name, texts in (("questions", WORDS), ("answers", ANSWERS)):
        (folder / f"vocab_{name}.txt").write_text("".join(f"{text}\n" for text in texts))
    return folder
