"""Which words of its captions a photo shows, detected in each cell of its feature maps.

A CNN trained from scratch behind an LSTM gets hardly any gradient until its features are useful,
and without a gradient they never become so: the LSTM learns to write without the image. This loss
reaches the CNN directly. It is that of Fang et al. (CVPR 2015), multiple-instance learning of the
words of captions, with a soft maximum over the cells in place of their noisy-or
(:mod:`captioning.models.neuraltalk.word_evidence`). What it trains is the CNN, and the evidence
that some captioners read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning.models.neuraltalk.word_evidence import WordEvidence

Captions = Sequence[Sequence[int]]
"""The tokens of each of a photo's captions."""


class WordDetector(nn.Module):
    """Teaches a CNN, and the evidence of words, what its maps show.

    For a CNN trained from scratch the weights are never negative: a channel can only speak for
    words, so each learns to be active only on what some words name. The channels of a pretrained
    CNN mean something already, and may speak against words; as there are many of them for few
    photos, half of them, drawn for each photo, are dropped in training.

    Args:
        evidence: of words, the first D of which are made ready to be trained, and are taught.
        words: the tokens of the D.
        captions: of each training photo.
        pretrained: whether the CNN is.
    """

    def __init__(
        self,
        evidence: WordEvidence,
        words: Sequence[int],
        captions: Sequence[Captions],
        *,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.evidence, self.pretrained = evidence, pretrained
        self._columns = {token: column for column, token in enumerate(words)}
        counts = torch.zeros(len(words))
        for some in captions:
            counts[self._used(some)] += 1
        with torch.no_grad():
            if pretrained:
                evidence.weight[: len(words)] = 0
            often = (counts / len(captions)).clamp(1e-4, 1 - 1e-4)
            evidence.bias[: len(words)] = often.logit()

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (N, D) that a word is in the photo's captions, from feature maps (N, K, u, v)."""
        if self.pretrained:
            maps = functional.dropout2d(maps, 0.5, self.training)
        else:
            with torch.no_grad():
                self.evidence.weight.clamp_(min=0)
        logits: Tensor = self.evidence(maps)
        return logits[:, : len(self._columns)]

    def loss(self, maps: Tensor, captions: Sequence[Captions]) -> Tensor:
        """Binary cross-entropy, summed over the words, of photos with those captions."""
        logits = self(maps)
        present = torch.zeros_like(logits)
        for row, some in enumerate(captions):
            present[row, self._used(some)] = 1
        each = functional.binary_cross_entropy_with_logits(logits, present, reduction="none")
        return each.sum(1).mean()

    def _used(self, captions: Captions) -> list[int]:
        """The columns of the words that are in the captions."""
        used = {token for caption in captions for token in caption}
        return sorted(self._columns[token] for token in used if token in self._columns)


def frequent(captions: Sequence[Captions], photos: int) -> list[int]:
    """The tokens that the captions of at least so many photos have, in order."""
    counts = Counter(token for some in captions for token in {t for c in some for t in c})
    return sorted(token for token, count in counts.items() if count >= photos)
