"""Pix2Struct of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Pix2StructConfig,
    Pix2StructForConditionalGeneration,
    Pix2StructImageProcessor,
)
from transformers.models.pix2struct.modeling_pix2struct import Pix2StructLayerNorm

from captioning.models.pix2struct import Pix2Struct, Pix2StructProcessor
from tests.samples.pretrained import randomised, unigram
from vlcam.adapters.pretrained import Pretrained

SIDE, PATCHES = 4, 24


def save(folder: Path, seed: int = 0, is_vqa: bool = False, **processor: Any) -> Path:
    """A tiny random Pix2Struct: at most 24 patches of 4 x 4 pixels, three layers."""
    tokenizer = unigram()
    vision = {
        "hidden_size": 12, "patch_embed_hidden_size": 3 * SIDE**2, "d_ff": 16, "d_kv": 4,
        "num_hidden_layers": 3, "num_attention_heads": 3, "seq_len": 64,
    }  # fmt: skip
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 12, "d_kv": 4, "d_ff": 16, "num_layers": 2,
        "num_heads": 3, "is_decoder": True, "decoder_start_token_id": 0, "pad_token_id": 0,
        "eos_token_id": 1, "encoder_hidden_size": 12,
    }  # fmt: skip
    config = Pix2StructConfig(
        vision_config=vision, text_config=text, is_vqa=is_vqa, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=1, tie_word_embeddings=False,
    )  # fmt: skip
    model = randomised(Pix2StructForConditionalGeneration(config), 0.5, seed)
    model.generation_config.decoder_start_token_id = 0
    model.generation_config.update(no_repeat_ngram_size=2, min_length=5, suppress_tokens=[0, 2])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    settings = {"patch_size": size, "max_patches": PATCHES, "is_vqa": is_vqa} | processor
    Pix2StructImageProcessor(**settings).save_pretrained(folder)
    return folder


class Exact(torch.nn.Module):
    """Its normalisation, which is in float32 in parts, in float64."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.eps = norm.weight, norm.variance_epsilon

    def forward(self, states: Tensor) -> Tensor:
        size = (states.shape[-1],)
        return torch.nn.functional.rms_norm(states, size, self.weight, self.eps)


def exact(folder: Path, layer: str | None) -> Pix2Struct:
    """The model of a folder in float64 throughout; with ReLUs, so that rules have some."""
    module = Pix2StructForConditionalGeneration.from_pretrained(folder).double()
    module.eval().requires_grad_(False)
    for name, norm in list(module.named_modules()):
        if type(norm) is Pix2StructLayerNorm:
            module.set_submodule(name, Exact(norm))
    for block in module.encoder.encoder.layer:
        block.mlp.act = torch.nn.ReLU()
    processor = Pix2StructProcessor(Pix2StructImageProcessor.from_pretrained(folder))
    return Pix2Struct(Pretrained("exact", module, unigram(), processor), layer)
