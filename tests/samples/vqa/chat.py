"""Tiny random chat models of transformers in folders, as their ``save_pretrained`` writes them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    SmolVLMImageProcessor,
)

import vlcam
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.encoding import encode
from vqa.models.chat.chat import ChatModel

END, PAD = "<|im_end|>", "<|pad|>"
IMAGES = {"llava": "<image>", "qwen": "<|image_pad|>", "smolvlm": "<image>"}

QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}"
    "{{ ':' if m['content'][0]['type'] == 'image' else ': ' }}{% for c in m['content'] %}"
    "{{ '<image>' if c['type'] == 'image' else c['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
_TILES = [f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)]
_ADDED = {
    "llava": [END, PAD, "<image>"],
    "qwen": [
        END, PAD, "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
        "<|video_pad|>",
    ],
    "smolvlm": [
        END, PAD, "<|im_start|>", "<image>", "<fake_token_around_image>", "<global-img>", *_TILES
    ],
}  # fmt: skip
_MERGES = ["Ġ a", "r e", "re d", "Ġ red", "Ġ d", "o g", "Ġd og", "i s", "Ġ is", "Ċ Ċ"]


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE: the added tokens, all bytes, a few words."""
    merges = [tuple(merge.split(" ")) for merge in _MERGES]
    pieces = [*_ADDED[family], *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += ["".join(pair) for pair in merges]
    bpe = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(token, special=True) for token in _ADDED[family]])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END, pad_token=PAD)


_TEXT = {
    "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 512, "bos_token_id": None,
    "eos_token_id": 0, "pad_token_id": 1, "tie_word_embeddings": False,
}  # fmt: skip
_QWEN_TEXT = _TEXT | {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
    "max_window_layers": 2,
}
_QWEN3_TEXT = _QWEN_TEXT | {"head_dim": 8}
_SIZES = {"hidden_size": 12, "intermediate_size": 14, "num_attention_heads": 3}


def configuration(kind: str, vision: dict[str, Any], **options: Any) -> Any:
    """The configuration of a tiny model of a ``model_type``."""
    family, text = FAMILIES[kind], dict(_TEXT)
    words = tokenizer(family)
    text["vocab_size"] = len(words)
    if kind == "llava":
        eyes = _SIZES | {"model_type": "clip_vision_model", "num_hidden_layers": 4}
        eyes |= {"image_size": 32, "patch_size": 8}
        text["model_type"] = "llama"
    elif kind == "qwen2_vl":
        eyes = {"embed_dim": 12, "hidden_size": 16, "depth": 3, "num_heads": 3, "patch_size": 4}
        text = _QWEN_TEXT | text
    elif kind == "qwen2_5_vl":
        eyes = {"hidden_size": 12, "intermediate_size": 14, "out_hidden_size": 16, "depth": 4}
        eyes |= {"num_heads": 3, "patch_size": 4, "window_size": 16, "fullatt_block_indexes": [2]}
        text = _QWEN_TEXT | text
    elif kind == "qwen3_vl":
        eyes = {"hidden_size": 12, "intermediate_size": 14, "out_hidden_size": 16, "depth": 4}
        eyes |= {"num_heads": 3, "patch_size": 4, "num_position_embeddings": 16}
        eyes |= {"deepstack_visual_indexes": [0, 2]}
        text = _QWEN3_TEXT | text
    else:
        eyes = _SIZES | {"num_hidden_layers": 3, "image_size": 16, "patch_size": 4}
        text["model_type"] = "llama"
        options = {"scale_factor": 2} | options
    image = words.convert_tokens_to_ids(IMAGES[family])
    named = "image_token_index" if kind == "llava" else "image_token_id"
    if family == "qwen":
        options = {"video_token_id": words.convert_tokens_to_ids("<|video_pad|>")} | options
    return AutoConfig.for_model(
        kind, vision_config=eyes | vision, text_config=text, **{named: image}, **options
    )


FAMILIES = {
    "llava": "llava", "qwen2_vl": "qwen", "qwen2_5_vl": "qwen", "qwen3_vl": "qwen",
    "smolvlm": "smolvlm", "idefics3": "smolvlm",
}  # fmt: skip


def processor(kind: str) -> Any:
    if kind == "llava":
        side = {"height": 32, "width": 32}
        return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side)
    if FAMILIES[kind] == "qwen":
        limits = {"shortest_edge": 8 * 8 * 4, "longest_edge": 8 * 8 * 20}
        return Qwen2VLImageProcessor(patch_size=4, size=limits)
    return SmolVLMImageProcessor(size={"longest_edge": 48}, max_image_size={"longest_edge": 16})


def save(
    folder: Path,
    kind: str,
    seed: int = 0,
    vision: dict[str, Any] | None = None,
    std: float = 0.5,
    **options: Any,
) -> Path:
    """A tiny random model whose answers depend on the photo."""
    config = configuration(kind, vision or {}, **options)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=std)
        nn.init.normal_(model.lm_head.weight, std=1.0)
    model.save_pretrained(folder)
    words = tokenizer(FAMILIES[kind])
    words.chat_template = {"qwen": QWEN_TEMPLATE, "smolvlm": SMOLVLM_TEMPLATE}.get(FAMILIES[kind])
    words.save_pretrained(folder)
    processor(kind).save_pretrained(folder)
    return folder


def photo(width: int = 50, height: int = 36, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


def make_exact(module: nn.Module) -> None:
    """Leave a model in float64 no part that counts in float32: its normalisations."""
    for parent in list(module.modules()):
        for name, own in parent.named_children():
            if type(own).__name__.endswith("RMSNorm"):
                setattr(parent, name, _Norm(own.weight, own.variance_epsilon))


class _Norm(nn.Module):
    """RMSNorm in the precision of its input."""

    def __init__(self, weight: nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt())


KINDS = list(FAMILIES)
UNLIKE = ["llava", "qwen2_5_vl", "qwen3_vl", "smolvlm"]
"""One of each of those that share their code."""
LAYERS = {
    "llava": [f"model.vision_tower.encoder.layers.{i}" for i in range(3)]
    + ["model.multi_modal_projector"],
    "qwen": [f"model.visual.blocks.{i}" for i in range(3)] + ["model.visual.merger"],
    "smolvlm": [f"model.vision_model.encoder.layers.{i}" for i in range(3)] + ["model.connector"],
}
QUESTION, ANSWER = "is the dog red?", "a red dog"


@lru_cache
def loaded(folder: Path, layer: str | None = None) -> ChatModel:
    model = vlcam.load(folder, layer)
    assert isinstance(model, ChatModel)
    return model


def seen(model: ChatModel, picture: Image.Image | None = None) -> FeatureMaps:
    pixels, _ = model.prepare(picture or photo())
    return encode(model, pixels[None])
