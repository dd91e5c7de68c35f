"""Encoders of photos and decoders of captions of transformers, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    GPT2Config,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
)

from tests.samples.pretrained import byte_level, randomised

SIZE = (32, 48)
_VIT = {
    "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 16,
    "image_size": SIZE, "patch_size": 8,
}  # fmt: skip
_SQUARE = _VIT | {"image_size": 32}
_SWIN = {
    "embed_dim": 4, "depths": [2, 1, 1], "num_heads": [1, 2, 4], "window_size": 2,
    "image_size": SIZE, "patch_size": 4,
}  # fmt: skip
_BEIT = _SQUARE | {"use_relative_position_bias": True, "use_mask_token": False}
ENCODERS: dict[str, tuple[dict[str, Any], int]] = {
    "vit": (_VIT, 8),
    "deit": (_VIT, 8),
    "vit_msn": (_SQUARE, 8),
    "beit": (_BEIT, 8),
    "dinov2": (_SQUARE | {"apply_layernorm": True}, 8),
    "dinov2_with_registers": (_SQUARE | {"num_register_tokens": 2}, 8),
    "swin": (_SWIN, 16),
    "swinv2": (_SWIN, 16),
    "donut-swin": (_SWIN, 16),
    "clip_vision_model": (_SQUARE, 8),
    "siglip_vision_model": (_SQUARE, 8),
}
"""Sizes of each kind, and the side of the cells of its last layer in pixels."""


def gpt2(**changes: Any) -> GPT2Config:
    sizes = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 24}
    kept = {"is_decoder": True, "add_cross_attention": True, "vocab_size": len(byte_level())}
    return GPT2Config(**sizes | kept | changes)


def make(
    encoder: str = "vit",
    decoder: Any = None,
    seed: int = 0,
    start: int = 0,
    end: int = 0,
    hidden_act: str = "gelu",
) -> Any:
    """A tiny random model; ViT and GPT-2 where nothing else is said."""
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        AutoConfig.for_model(encoder, **ENCODERS[encoder][0] | {"hidden_act": hidden_act}),
        decoder or gpt2(),
        decoder_start_token_id=start,
        pad_token_id=0,
        eos_token_id=end,
    )
    return randomised(VisionEncoderDecoderModel(config), seed=seed)


def save(folder: Path, dtype: torch.dtype = torch.float32, **made: Any) -> Path:
    make(**made).to(dtype).save_pretrained(folder)
    byte_level().save_pretrained(folder)
    return folder
