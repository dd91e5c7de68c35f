"""Which words of its captions a photo shows, detected in each cell of its feature maps.

A CNN trained from scratch behind an LSTM gets hardly any gradient until its features are useful,
and without a gradient they never become so: the LSTM learns to write without the image. This loss
reaches the CNN directly. It is that of Fang et al. (CVPR 2015), multiple-instance learning of the
words of captions, with a soft maximum over the cells (Pinheiro and Collobert, CVPR 2015) in place
of their noisy-or; it trains the CNN and is no part of the captioner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlcam.formats.vocabulary import Vocabulary

Captions = Sequence[Sequence[int]]
"""The tokens of each of a photo's captions."""

_SHARPNESS = 4.0  # 0: the mean over the cells; infinite: the greatest


class WordDetector(nn.Module):
    """A linear detector of each word in each cell.

    For a CNN trained from scratch its weights are never negative: a channel can only speak for
    words, so each learns to be active only on what some words name. The channels of a pretrained
    CNN mean something already, and may speak against words; as there are many of them for few
    photos, half of them, drawn for each photo, are dropped in training.

    Args:
        channels: K of the feature maps.
        tokens: of each photo's captions.
        vocabulary: V tokens.
        pretrained: whether the CNN is.
    """

    def __init__(
        self,
        channels: int,
        tokens: Sequence[Captions],
        vocabulary: Vocabulary,
        *,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.pretrained = pretrained
        self.weight = nn.Parameter(torch.rand(len(vocabulary), channels) / channels)
        if pretrained:
            nn.init.zeros_(self.weight)
        counts = torch.zeros(len(vocabulary))
        for captions in tokens:
            counts[_used(captions)] += 1
        self.bias = nn.Parameter((counts / len(tokens)).clamp(1e-4, 1 - 1e-4).logit())

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (N, V) that a word is in the photo's captions, from feature maps (N, K, u, v)."""
        if self.pretrained:
            maps = functional.dropout2d(maps, 0.5, self.training)
        else:
            with torch.no_grad():
                self.weight.clamp_(min=0)
        cells = functional.linear(maps.flatten(2).transpose(1, 2), self.weight)
        greatest = torch.logsumexp(_SHARPNESS * cells, 1) - math.log(cells.shape[1])
        return self.bias + greatest / _SHARPNESS

    def loss(self, maps: Tensor, tokens: Sequence[Captions]) -> Tensor:
        """Binary cross-entropy, summed over the vocabulary, of photos with those captions."""
        logits = self(maps)
        present = torch.zeros_like(logits)
        for row, captions in enumerate(tokens):
            present[row, _used(captions)] = 1
        each = functional.binary_cross_entropy_with_logits(logits, present, reduction="none")
        return each.sum(1).mean()


def _used(captions: Captions) -> list[int]:
    """Each token of the captions once."""
    return sorted({token for caption in captions for token in caption})
