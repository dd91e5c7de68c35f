"""LXMERT of transformers, and boxes as another program finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LxmertConfig, LxmertForQuestionAnswering

from tests.samples.captioning.blip import VOCABULARY, save_tokenizer
from tests.samples.pretrained import photo
from vqa.models.lxmert.region_features import Regions

ANSWERS = ["yes", "no", "red", "two"]
FEATURES = 10


def save(folder: Path, answers: bool = True, **changes: Any) -> Path:
    """A tiny random LXMERT: two layers each that read, look and do both."""
    settings: dict[str, Any] = {
        "vocab_size": len(VOCABULARY), "hidden_size": 12, "num_attention_heads": 3,
        "intermediate_size": 16, "max_position_embeddings": 24, "num_qa_labels": len(ANSWERS),
        "l_layers": 2, "x_layers": 2, "r_layers": 2, "visual_feat_dim": FEATURES,
        "pad_token_id": 0,
    }  # fmt: skip
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = LxmertForQuestionAnswering(LxmertConfig(**settings | changes))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.6)
    model.save_pretrained(folder)
    save_tokenizer(folder, VOCABULARY)
    if answers:
        (folder / "trainval_label2ans.json").write_text(json.dumps(ANSWERS), "utf-8")
    return folder


def regions(count: int = 6, width: int = 50, height: int = 40, seed: int = 0) -> Regions:
    random = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, 2, generator=random).sort(1).values * torch.tensor([40, 30])
    sizes = torch.tensor([0.0, 0.0, width - 41.0, height - 31.0])
    return Regions(torch.rand(count, FEATURES, generator=random), corners.flatten(1) + sizes)


def save_photo(folder: Path, found: Regions | None = None) -> Path:
    path = folder / "dog.png"
    photo().save(path)
    found = found or regions()
    np.savez(f"{path}.regions.npz", features=found.features.numpy(), boxes=found.boxes.numpy())
    return path


QUESTION = "a photographers dogs running"
