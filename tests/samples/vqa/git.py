"""GIT of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import GitConfig, GitForCausalLM

from tests.samples.pretrained import VOCABULARY, randomised, word_pieces


def save(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A tiny random GIT: 4 x 4 patches, three vision layers, two text layers."""
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_attention_heads": 3}
    config = GitConfig(
        vision_config=sizes | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8},
        num_hidden_layers=2, vocab_size=len(VOCABULARY), max_position_embeddings=24,
        bos_token_id=2, eos_token_id=3, pad_token_id=0, tie_word_embeddings=False,
        **sizes | changes,
    )  # fmt: skip
    model = randomised(GitForCausalLM(config), 0.6, seed)
    model.generation_config.no_repeat_ngram_size = 1
    model.save_pretrained(folder)
    word_pieces().save_pretrained(folder)
    return folder
