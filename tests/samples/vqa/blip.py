"""BLIP VQA of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BlipConfig, BlipForQuestionAnswering

from tests.samples.pretrained import VOCABULARY, log_probabilities, randomised, word_pieces


def save(folder: Path, seed: int = 0) -> Path:
    """A tiny random BLIP VQA model: 4 x 4 patches, three vision layers, two text layers."""
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_attention_heads": 3}
    config = BlipConfig(
        vision_config=sizes | {"num_hidden_layers": 3, "image_size": 32, "patch_size": 8},
        text_config=sizes
        | {
            "num_hidden_layers": 2, "encoder_hidden_size": 12, "vocab_size": len(VOCABULARY),
            "max_position_embeddings": 24, "bos_token_id": 5, "sep_token_id": 3,
            "eos_token_id": 3, "pad_token_id": 0, "is_decoder": True,
        },
    )  # fmt: skip
    model = randomised(BlipForQuestionAnswering(config), 0.6, seed)
    with torch.no_grad():  # answers of words
        model.text_decoder.cls.predictions.bias[[0, 1, 2, 4, 5]] -= 9
    model.save_pretrained(folder)
    word_pieces().save_pretrained(folder)
    return folder


QUESTION = "a photographers dogs?"


def own_scores(module: Any, pixels: Tensor, question: list[int], answer: list[int]) -> Tensor:
    """log p of each token of an answer, by the parts of the model's own forward."""
    image = module.vision_model(pixel_values=pixels).last_hidden_state
    mask = torch.ones(1, len(question), dtype=torch.long)
    read = module.text_encoder(
        input_ids=torch.tensor([question]), attention_mask=mask, encoder_hidden_states=image,
        encoder_attention_mask=torch.ones(image.shape[:2], dtype=torch.long),
    ).last_hidden_state  # fmt: skip
    logits = module.text_decoder(
        input_ids=torch.tensor([[5, *answer]]), encoder_hidden_states=read,
        encoder_attention_mask=mask,
    ).logits  # fmt: skip
    return log_probabilities(logits[0], answer)
