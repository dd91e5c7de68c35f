"""How a captioner learns: with its CNN, then from the CNN's fixed features, then from rewards.

1. :class:`WithCnn`: the likelihood of one drawn caption a photo, the CNN being trained as well.
2. :class:`FixedCnn`: the likelihood of every caption (teacher forcing), the features given.
3. :class:`Rewarded`: minimum risk training (Shen et al., ACL 2016): what beam search finds is made
   likelier the more it would add to the BLEU-4 of all, and the more of it is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captioning.models.neuraltalk.neuraltalk import NeuralTalk
from captioning.training.recalled import Recalled
from captioning.training.reward import NOTHING, References, Truth
from captioning.training.word_detector import WordDetector
from vlcam.formats.vocabulary import END
from vlcam.training import phases
from vlcam.training.photo_cache import See
from vlcam.training.photo_trainer import Views
from vlcam.training.trainer import Schedule

MAX_WORDS = 20
SHARPNESS = 5.0  # of the distribution over a photo's candidates
MEMORY = 0.98  # of the captions whose BLEU is to grow: those of the last fifty batches or so

Captions = Sequence[Sequence[Sequence[int]]]
"""Tokens, by photo and caption."""

Rows = list[int]
"""Places of photos in the training set."""


class WithCnn(phases.WithCnn):
    """The likelihood of one drawn caption per photo, with the CNN.

    Args:
        model, schedule, views, pretrained: see :class:`vlcam.training.phases.WithCnn`.
        tokens: the photos' captions.
        naming: detects words in the CNN's cells; its loss counts ``naming_weight`` times.
        recalled: keeps the CNN to what it told of words before.
        helpers: what is trained besides the model.
    """

    model: NeuralTalk

    def __init__(
        self,
        model: NeuralTalk,
        schedule: Schedule,
        *,
        views: Views,
        pretrained: bool,
        tokens: Captions,
        naming: WordDetector,
        naming_weight: float,
        recalled: Recalled | None = None,
        helpers: Sequence[nn.Module],
    ) -> None:
        super().__init__(model, schedule, views=views, pretrained=pretrained)
        self.tokens, self._helpers = tokens, helpers
        self.naming, self.naming_weight = naming, naming_weight
        self.recalled = recalled

    def helpers(self) -> Sequence[nn.Module]:
        return self._helpers

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[list[tuple[int, int]]]:
        """Each photo once, with one caption drawn: most of the time goes into the photos."""
        parts = super().begin_epoch(epoch, rng)
        return [[(i, int(rng.integers(len(self.tokens[i])))) for i in part] for part in parts]

    def loss(self, batch: list[tuple[int, int]], rng: np.random.Generator) -> tuple[Tensor, float]:
        rows = [i for i, _ in batch]
        # Half precision makes the CNN faster, not the LSTM, which sums long chains of small terms.
        with self.views.autocast():
            seen = self.views(rows, rng)
            maps = self.before(seen)
            feature = self.after(maps)
        texts = [self.tokens[i][k] for i, k in batch]
        loss = self.model.word_losses(feature.float(), texts)[0].mean()
        value = loss.item()
        if self.naming_weight:
            named = self.naming.loss(maps.float(), [self.tokens[i] for i in rows])
            loss = loss + self.naming_weight * named
        if self.recalled:
            with self.views.autocast():
                loss = loss + self.recalled.loss(seen, maps)
        return loss, value


class FixedCnn(phases.FixedCnn):
    """The likelihood of every caption.

    Args:
        model, schedule, see: see :class:`vlcam.training.phases.FixedCnn`; its batches are of
            captions.
        tokens: the photos' captions.
        smoothing: see :meth:`captioning.language.writer.Writer.word_losses`.
        image_decay: weight decay of the image embedding, where it has one of its own.
    """

    model: NeuralTalk

    def __init__(
        self,
        model: NeuralTalk,
        schedule: Schedule,
        *,
        see: See,
        tokens: Captions,
        smoothing: float = 0.0,
        image_decay: float | None = None,
    ) -> None:
        super().__init__(model, schedule, see=see)
        self.tokens, self.smoothing = tokens, smoothing
        if image_decay is not None:
            self.decays = {model.get_parameter("embed_image.weight"): image_decay}

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[Any]:
        """Every caption once, those of similar length together."""
        size = self.schedule.batch
        pairs = [(i, k) for i, captions in enumerate(self.tokens) for k in range(len(captions))]
        order = rng.permutation(len(pairs)).tolist()
        parts = []
        for start in range(0, len(order), size * 16):
            window = [pairs[i] for i in order[start : start + size * 16]]
            window.sort(key=lambda pair: len(self.tokens[pair[0]][pair[1]]))
            parts += [window[i : i + size] for i in range(0, len(window), size)]
        return [parts[i] for i in rng.permutation(len(parts))]

    def loss(self, batch: Any, rng: np.random.Generator) -> tuple[Tensor, float]:
        feature = self.encode([i for i, _ in batch], rng)
        texts = [self.tokens[i][k] for i, k in batch]
        losses, _ = self.model.word_losses(feature, texts, self.smoothing)
        return losses.mean(), losses.mean().item()


class Rewarded(FixedCnn):
    """Minimum risk over what beam search finds: the candidates that it compares in the end get its
    own scores, and those that would add more to the BLEU-4 of all captions are made likelier.

    Training on samples instead makes greedy captions better and those of beam search worse.

    Args:
        model, schedule, see, tokens: see :class:`FixedCnn`.
        beams: candidates per photo, at least 2.
        truth: how much :class:`captioning.training.reward.Truth` counts beside BLEU.
    """

    measure = "reward"
    keep = 0.99
    clip = 1.0

    def __init__(
        self,
        model: NeuralTalk,
        schedule: Schedule,
        *,
        see: See,
        tokens: Captions,
        beams: int,
        truth: float = 0.0,
    ) -> None:
        # The image embedding has no decay of its own: a reward's small gradients could not
        # outweigh it.
        super().__init__(model, schedule, see=see, tokens=tokens)
        self.beams = beams
        self._references = [References([_ended(c) for c in captions]) for captions in tokens]
        self._truth, self._truth_weight = Truth(tokens), truth
        self._sums, self._count = NOTHING, 0.0

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[Any]:
        self._sums, self._count = NOTHING, 0.0
        order = rng.permutation(len(self.tokens)).tolist()
        size = max(1, self.schedule.batch // self.beams)
        return [order[i : i + size] for i in range(0, len(order), size)]

    def loss(self, batch: Any, rng: np.random.Generator) -> tuple[Tensor, float]:
        feature = self.encode(batch, rng)
        self.model.eval()
        found = self.model.candidates(feature, self.beams)
        self.train_mode()
        rows = [row for row, captions in enumerate(found) for _ in captions]
        texts = [list(caption.tokens) for captions in found for caption in captions]
        rewards = self._rewards([batch[row] for row in rows], texts, rows).to(feature.device)
        losses, inside = self.model.word_losses(feature[rows], texts)
        lengths = inside.sum(1)
        totals = -losses.new_zeros(inside.shape).masked_scatter(inside, losses).sum(1)
        scores = totals / lengths**self.model.config.length_power
        chances = _shares(SHARPNESS * scores, torch.tensor(rows, device=feature.device))
        return -(chances * rewards).sum() / len(batch), self._sums.bleu()

    def _rewards(self, photos: Rows, texts: Sequence[Sequence[int]], rows: Rows) -> Tensor:
        """What each text would add to the BLEU of the best candidates so far, and how true it is;
        both standardised."""
        pairs = zip(photos, texts, strict=True)
        counts = [self._references[photo].count(_ended(text)) for photo, text in pairs]
        best = [c for i, c in enumerate(counts) if i == 0 or rows[i] != rows[i - 1]]
        self._sums = sum(best, self._sums * MEMORY)
        self._count = self._count * MEMORY + len(best)
        gains = _standard([each.gain(self._sums, self._count) for each in counts])
        if not self._truth_weight:
            return gains
        pairs = zip(photos, texts, strict=True)
        return gains + self._truth_weight * _standard([self._truth.share(*one) for one in pairs])


def _standard(values: Sequence[float]) -> Tensor:
    found = torch.tensor(values)
    return (found - found.mean()) / (found.std(correction=0) + 1e-6)


def _shares(scores: Tensor, groups: Tensor) -> Tensor:
    """Softmax of scores (N,) within each group (N,)."""
    same = groups[:, None] == groups[None]
    return torch.exp(
        scores - scores.expand(len(scores), -1).masked_fill(~same, -torch.inf).logsumexp(1)
    )


def _ended(text: Sequence[int]) -> list[int]:
    """A caption with its end as a word, so that a reward of n-grams sees "in a" end there."""
    return [*text, END] if len(text) < MAX_WORDS else list(text)
