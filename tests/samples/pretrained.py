"""Tiny tokenizers and random models of transformers, saved as published ones are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
PIECES = ["a", "dog", "photo", "of", "grass", "##s", "##er", "##grapher", "run", "##ning", ",", "?"]
VOCABULARY = [*SPECIAL, *PIECES]
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
END = "<|endoftext|>"
MERGES = [
    ("Ġ", "d"), ("o", "g"), ("Ġd", "og"), ("Ġ", "p"), ("h", "o"), ("t", "o"), ("Ġp", "ho"),
    ("Ġpho", "to"), ("e", "r"), ("n", "g"), ("i", "ng"), ("Ġ", "r"),
]  # fmt: skip


def randomised(model: Any, std: float = 0.5, seed: int = 0) -> Any:
    """A model with parameters that matter: transformers' own beginnings say the same of all."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def word_pieces(
    around: bool = True, vocabulary: Sequence[str] = VOCABULARY
) -> PreTrainedTokenizerFast:
    """A tokenizer as BERT's; ``around``: [CLS] and [SEP] stand around each text."""
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    if around:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", sep_token="[SEP]",
        cls_token="[CLS]", mask_token="[MASK]",
    )  # fmt: skip


def byte_level(prefix: str | None = None, **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer as GPT-2's; with ``prefix`` and END around each text, as RoBERTa's."""
    merged = [a + b for a, b in MERGES]
    pieces = [END, *([prefix] if prefix else []), *BYTES, *merged]
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(ids, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if prefix:
        around = [(END, ids[END]), (prefix, ids[prefix])]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{prefix} $A {END}", special_tokens=around
        )
        special = {"bos_token": prefix, "cls_token": prefix} | special
    names = {"bos_token": END, "eos_token": END, "unk_token": END, "pad_token": END} | special
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def unigram(pieces: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer as SentencePiece's of T5: pad, end and unknown first."""
    known = pieces or ["▁", "▁a", "▁dog", "s", "▁photo", "graph", "er", "▁run", "ning", ",", "g"]
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0) for piece in known)]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def log_probabilities(logits: Tensor, tokens: Iterable[int]) -> Tensor:
    """(L,) of tokens, from logits (L, V) of them."""
    ids = torch.tensor(list(tokens))
    return logits[: len(ids)].log_softmax(-1).gather(1, ids[:, None]).squeeze(1)


def save(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.save_pretrained(folder)
    return folder


def photo(width: int = 50, height: int = 40, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)
