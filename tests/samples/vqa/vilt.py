"""ViLT of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import ViltConfig, ViltForQuestionAnswering

from tests.samples.captioning.blip import VOCABULARY, save_tokenizer

ANSWERS = ["yes", "no", "red", "red and yellow"]


def save(folder: Path, **changes: Any) -> Path:
    """A tiny random ViLT: 4 x 4 patches, three layers."""
    settings: dict[str, Any] = {
        "vocab_size": len(VOCABULARY), "hidden_size": 12, "num_hidden_layers": 3,
        "num_attention_heads": 3, "intermediate_size": 16, "max_position_embeddings": 24,
        "image_size": 32, "patch_size": 8, "hidden_dropout_prob": 0.0, "pad_token_id": 0,
        "attention_probs_dropout_prob": 0.0, "id2label": dict(enumerate(ANSWERS)),
    }  # fmt: skip
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = ViltForQuestionAnswering(ViltConfig(**settings | changes))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    save_tokenizer(folder, VOCABULARY)
    return folder
