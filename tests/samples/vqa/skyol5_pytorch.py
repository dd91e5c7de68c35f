"""SkyOL5's co-attention, as his training script saves it."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models.resnet import BasicBlock, ResNet

WORDS = ["<pad>", "<sos>", "<eos>", "<unk>", "what", "is", "the", "dog", "red"]
ANSWERS = ["yes", "no", "red and yellow"]
SIZE, HIDDEN, LAYERS = 6, 4, 2  # of everything, of the attention's hidden units, of the LSTM


def weights(scores: int = len(ANSWERS)) -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "embed.weight": (len(WORDS), SIZE),
        "W_b": (SIZE, SIZE),
        "W_v": (HIDDEN, SIZE),
        "W_q": (HIDDEN, SIZE),
        "w_hv": (HIDDEN, 1),
        "w_hq": (HIDDEN, 1),
    }
    for name, shape in (
        ("unigram_conv", (SIZE, SIZE, 1)),
        ("bigram_conv", (SIZE, SIZE, 2)),
        ("trigram_conv", (SIZE, SIZE, 3)),
        ("W_w", (SIZE, SIZE)),
        ("W_p", (SIZE, 2 * SIZE)),
        ("W_s", (SIZE, 2 * SIZE)),
        ("fc", (scores, SIZE)),
    ):
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for layer in range(LAYERS):
        for kind in ("ih", "hh"):
            shapes[f"lstm.weight_{kind}_l{layer}"] = (4 * SIZE, SIZE)
            shapes[f"lstm.bias_{kind}_l{layer}"] = (4 * SIZE,)
    random = torch.Generator().manual_seed(0)
    return {name: 0.6 * torch.randn(shape, generator=random) for name, shape in shapes.items()}


@cache
def narrow_resnet() -> dict[str, Tensor]:
    """One block a stage; torchvision's names, and its shapes made narrow."""
    with torch.device("meta"):
        full = ResNet(BasicBlock, [1] * 4).state_dict()
    shapes = {name: tensor.shape for name, tensor in full.items()}
    widths = {64: 2, 128: 3, 256: 4, 512: SIZE, 3: 3}
    random = torch.Generator().manual_seed(1)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        narrow = [*(widths.get(n, n) for n in shape[:2]), *shape[2:]]
        state[name] = 0.3 * torch.randn(narrow, generator=random)
        if name.endswith("running_var"):
            state[name] = state[name].abs() + 0.5
    return state


def write_checkpoint(folder: Path, cnn: bool = True) -> Path:
    folder.mkdir()
    best = np.float64(0.5)
    torch.save(
        {"epoch": 3, "state_dict": weights(), "best_prec": best}, folder / "model_best.pth.tar"
    )
    write(folder / "q2i.pkl", {word: i for i, word in enumerate(WORDS)})
    write(folder / "a2i.pkl", {answer: i for i, answer in enumerate(ANSWERS)})
    write(folder / "i2a.pkl", dict(enumerate(ANSWERS)))
    if cnn:
        torch.save(narrow_resnet(), folder / "resnet18-f37072fd.pth")
    return folder


def write(path: Path, value: Any) -> None:
    path.write_bytes(pickle.dumps(value))
