"""What a CNN's feature maps say for each of some words, cell by cell: the words' evidence.

A linear detector of each word in each cell, and a soft maximum over the cells (Pinheiro and
Collobert, CVPR 2015)::

    cell r says for word w    s_wr = W_w . A_r
    evidence of word w        b_w + log(mean_r exp(4 s_wr)) / 4

A captioner adds to a word's logit what speaks for it (the detections of Fang et al., CVPR 2015,
enter their language model so)::

    logit of word w, after the LSTM's output h    (V h)_w + trust_w sigmoid(g . h) e_w

with e the evidence, standardised. Grad-CAM of what it writes is then made of the detectors' own
maps: with y the score, dy/dA_r is a weighted sum of the W_w, foremost of that of the word itself,
and what comes by way of the mean of the maps, which the LSTM reads: the same in all cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlcam.networks.encoder import Encoder

_SHARPNESS = 4.0  # 0: the mean over the cells; infinite: the greatest


class WordEvidence(nn.Module):
    """Linear detectors of words in cells.

    Args:
        channels: K of the feature maps.
        words: how many, D.
    """

    def __init__(self, channels: int, words: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(words, channels) / channels)
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(self, maps: Tensor) -> Tensor:
        """Evidence (N, D), logits that a caption of the photo has the word, from feature maps
        (N, K, u, v)."""
        cells = functional.linear(maps.flatten(2).transpose(1, 2), self.weight)
        greatest = torch.logsumexp(_SHARPNESS * cells, 1) - math.log(cells.shape[1])
        return self.bias + greatest / _SHARPNESS


class EvidentLogits(nn.Module):
    """Logits of words from the LSTM's outputs and the evidence of D of them.

    Args:
        words: from outputs (n, H) to logits (n, V).
        detected: the tokens of those whose evidence there is.
    """

    columns: Tensor

    def __init__(self, words: nn.Linear, detected: Sequence[int]) -> None:
        super().__init__()
        self.words = words
        self.gate = nn.Linear(words.in_features, 1)
        self.trust = nn.Parameter(torch.ones(len(detected)))
        self.register_buffer("columns", torch.tensor(detected), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """Logits (n, V) from outputs and standardised evidence, (n, H + D)."""
        outputs, evidence = states.tensor_split([self.words.in_features], -1)
        more = self.trust * self.gate(outputs).sigmoid() * evidence
        logits: Tensor = self.words(outputs)
        return logits.index_add(-1, self.columns, more.to(logits.dtype))  # autocast's may differ


class WordEncoder(Encoder):
    """A CNN whose image feature is that of an :class:`Encoder` and behind it the evidence of D
    words in its last feature maps, (B, F + D). It can be cut at these or at any layer before.

    Args:
        name, size: as of an :class:`Encoder`.
        words: D.
    """

    def __init__(self, name: str, size: tuple[int, int], words: int) -> None:
        super().__init__(name, size)
        names = [layer.name for layer in self.layers]
        self.layers = self.layers[: 1 + names.index(self.default_layer)]
        self.words = WordEvidence(self.layer().shape[0], words)
        self.feature_size += words

    def forward(self, pixels: Tensor) -> Tensor:
        """Image features (B, F + D) of normalised pixels (B, 3, H, W)."""
        before, after = self.split()
        feature: Tensor = after(before(pixels))
        return feature

    def split(self, layer: str | None = None) -> tuple[nn.Module, nn.Module]:
        """As of an :class:`Encoder`."""
        before, _ = super().split(layer)
        _, pooled = super().split()
        between = self.between(self.layer(layer).name, self.default_layer)
        return before, _Read(between, pooled, self.words)


class _Read(nn.Module):
    """From a layer's feature maps to the image feature and the evidence of words."""

    def __init__(self, between: nn.Module, pooled: nn.Module, words: WordEvidence) -> None:
        super().__init__()
        self.between, self.pooled, self.words = between, pooled, words

    def forward(self, maps: Tensor) -> Tensor:
        last: Any = self.between(maps)
        return torch.cat([self.pooled(last), self.words(last)], 1)
