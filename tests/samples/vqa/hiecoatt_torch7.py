"""HieCoAttenVQA's checkpoints, as Lua Torch7 writes them; behind a VGG or a ResNet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from tests.samples.torch7_files import save
from tests.samples.torch7_networks import Lua, chain
from tests.samples.vqa.lstm_cnn_torch7 import CHANNELS, cnn_state
from vlcam.formats.torch7 import load_torch7

WORDS = ["what", "is", "the", "dog", "red", "?", "UNK"]
ANSWERS = ["yes", "no", "red and yellow"]
HIDDEN, LAST, LAYERS, SLOTS = 5, 6, 3, 26
JSON = "vqa_data_prepro.json"
LINEARS = {"Alternating": "nnn1n1n1", "Parallel": "nnn11"}
"""Of one level's attention, in the order of the file: ``n``: to as many numbers, ``1``: to one."""


def write_checkpoint(folder: Path, kind: str = "Alternating", cnn: bool = True) -> Path:
    folder.mkdir()
    random, n = np.random.default_rng(0), HIDDEN
    attention = sum((n if one == "n" else 1) * (n + 1) for one in LINEARS[kind])
    lengths = {
        "wparams": n * (CHANNELS + 1) + (len(WORDS) + 2) * n + attention,
        "pparams": n * n * 6 + 3 * n + attention,
        "qparams": LAYERS * 4 * n * (2 * n + 2) + attention,
        "aparams": n * (n + 1) + n * (2 * n + 1) + LAST * (2 * n + 1) + len(ANSWERS) * (LAST + 1),
    }
    vectors = {name: random.normal(0, 0.6, k).astype(np.float32) for name, k in lengths.items()}
    options = {"vocab_size": len(WORDS) + 1, "atten_type": kind, "feature_type": "VGG"}
    save(folder / "model_iter7.t7", {**vectors, "lmOpt": options})
    tables = {"ix_to_word": WORDS, "ix_to_ans": ANSWERS}
    numbered = {k: {str(i): w for i, w in enumerate(v, 1)} for k, v in tables.items()}
    (folder / JSON).write_text(json.dumps({**numbered, "uniuqe_img_test": []}))
    if cnn:
        save_file(cnn_state(random), folder / "vgg.safetensors")
    return folder


def write_residual(folder: Path, kind: str = "Alternating", cnn: bool = True) -> Path:
    """Of the feature maps of a ResNet, in a file beside it."""
    write_checkpoint(folder, kind, cnn=False)
    table = load_torch7(folder / "model_iter7.t7")
    table["lmOpt"]["feature_type"] = "Residual"
    save(folder / "model_iter7.t7", table)
    if cnn:
        save(folder / "resnet-200.t7", chain(*RESNET), "Cuda")
    return folder


RESNET = Lua().resnet(4, CHANNELS // 4, 7, stride=8)
