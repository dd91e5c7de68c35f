"""BLIP of transformers, and the tokenizer it shares with ViLT and LXMERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import BlipConfig, BlipForConditionalGeneration

from tests.samples import pretrained

VOCABULARY = [*pretrained.VOCABULARY[:-1], "-"]


def save(folder: Path, seed: int = 0, **text: Any) -> Path:
    """A tiny random BLIP: 4 x 4 patches, three vision layers, two text layers."""
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_attention_heads": 3}
    config = BlipConfig(
        vision_config=sizes | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8},
        text_config=sizes
        | {
            "num_hidden_layers": 2, "encoder_hidden_size": 12, "vocab_size": len(VOCABULARY),
            "max_position_embeddings": 24, "bos_token_id": 5, "sep_token_id": 3,
            "eos_token_id": 3, "pad_token_id": 0, "is_decoder": True,
        }
        | text,
    )  # fmt: skip
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = BlipForConditionalGeneration(config)
        for parameter in model.parameters():  # random enough for captions that depend on the photo
            torch.nn.init.normal_(parameter, std=0.6)
        with torch.no_grad():  # captions of words
            model.text_decoder.cls.predictions.bias[
                [i for i in range(len(pretrained.SPECIAL)) if i != 3]
            ] -= 9
    model.save_pretrained(folder)
    save_tokenizer(folder, VOCABULARY)
    return folder


def save_tokenizer(folder: Path, vocabulary: list[str]) -> None:
    pretrained.word_pieces(around=False, vocabulary=vocabulary).save_pretrained(folder)
