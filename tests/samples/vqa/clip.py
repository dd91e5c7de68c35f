"""CLIP of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from tests.samples.pretrained import VOCABULARY, randomised, word_pieces


def save(folder: Path, seed: int = 0, **vision: Any) -> Path:
    """A tiny random CLIP: 4 x 4 patches, three vision layers, two text layers."""
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_attention_heads": 3}
    config = CLIPConfig(
        vision_config=sizes
        | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
        | vision,
        text_config=sizes
        | {
            "num_hidden_layers": 2, "vocab_size": len(VOCABULARY), "max_position_embeddings": 24,
            "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
        },
        projection_dim=10,
    )  # fmt: skip
    model = randomised(CLIPModel(config), 0.5, seed)
    with torch.no_grad():
        model.logit_scale.fill_(1.0)
    model.save_pretrained(folder)
    word_pieces().save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder
