"""ruotianluo's captioners, as his training script saves them."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.samples.foreign import resnet_state

WORDS = ["a", "dog", "on", "grass", "red", "UNK"]
EMBED, HIDDEN, FEATURE = 5, 7, 8


def write_checkpoint(
    folder: Path, kind: str = "fc", cnn: str | None = None, seed: int = 0, suffix: str = ""
) -> Path:
    """A random model as the project's training script saves one."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.8

    rows = len(WORDS) + 1
    feature, core = ("fc_embed", "_core") if kind == "newfc" else ("img_embed", "core")
    state = {
        f"{feature}.weight": random(EMBED, FEATURE),
        f"{feature}.bias": random(EMBED),
        "embed.weight": random(rows, EMBED) * 2,
        "logit.weight": random(rows, HIDDEN) * 2,
        "logit.bias": random(rows) * 0.3,
    }
    if kind == "show_tell":
        state["core.weight_ih_l0"] = random(4 * HIDDEN, EMBED)
        state["core.weight_hh_l0"] = random(4 * HIDDEN, HIDDEN)
    else:
        for name, size in (("i2h", EMBED), ("h2h", HIDDEN)):
            state[f"{core}.{name}.weight"] = random(5 * HIDDEN, size)
            state[f"{core}.{name}.bias"] = random(5 * HIDDEN)
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / f"model{suffix}.pth")
    if cnn is not None:
        torch.save(resnet_state(random), folder / cnn)
    options = argparse.Namespace(
        caption_model=kind, id="tiny", seq_length=6, max_length=6, rnn_type="lstm", rnn_size=HIDDEN
    )
    vocabulary = {str(i): word for i, word in enumerate(WORDS, 1)}
    infos = {"opt": options, "vocab": vocabulary, "iter": 1, "best_val_score": np.float64(0.5)}
    (folder / f"infos_tiny{suffix}.pkl").write_bytes(pickle.dumps(infos, protocol=2))
    return folder
