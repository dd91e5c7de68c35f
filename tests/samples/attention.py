"""Tiny models whose attention is followed, of BLIP's photos and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    BlipConfig,
    BlipForQuestionAnswering,
    GPT2Config,
    GPT2LMHeadModel,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)

from tests.samples.captioning import blip


def encoder_decoder(folder: Path, vision: Any = None) -> Path:
    """ViT and GPT-2, of BLIP's photos and tokens."""
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 16}
    vision = vision or ViTModel(
        ViTConfig(num_hidden_layers=2, image_size=32, patch_size=8, **sizes),  # type: ignore[arg-type]
        add_pooling_layer=False,
    )
    text = GPT2Config(
        vocab_size=len(blip.VOCABULARY), n_embd=12, n_layer=2, n_head=3, n_positions=24,
        add_cross_attention=True, bos_token_id=5, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        vision.config, text, decoder_start_token_id=5, pad_token_id=0, eos_token_id=3
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = VisionEncoderDecoderModel(config, vision, GPT2LMHeadModel(text))
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.6)
    model.save_pretrained(folder)
    blip.save_tokenizer(folder, blip.VOCABULARY)
    return folder


def blip_vqa(folder: Path) -> Path:
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_attention_heads": 3}
    config = BlipConfig(
        vision_config=sizes | {"num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
        text_config=sizes
        | {
            "num_hidden_layers": 2, "encoder_hidden_size": 12,
            "vocab_size": len(blip.VOCABULARY), "max_position_embeddings": 24,
            "bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0,
        },
    )  # fmt: skip
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = BlipForQuestionAnswering(config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.6)
    model.save_pretrained(folder)
    blip.save_tokenizer(folder, blip.VOCABULARY)
    return folder
