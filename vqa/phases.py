"""How a VQA model learns: with its CNN, then from the CNN's fixed features.

What is learned is the share of people who gave each answer, of those the model can give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlcam.photo_cache import Photos, autocast
from vlcam.training import Phase
from vqa.lstm_cnn import LstmCnn

FIRST_SHARE = 0.75  # of the epochs with the CNN, on photos of the first size


@dataclass(frozen=True)
class Lesson:
    """A question as the model reads it: which photo, its tokens, and the share of people (A,) who
    gave each answer."""

    photo: int
    tokens: tuple[int, ...]
    shares: Tensor


class AnswerPhase(Phase):
    """A phase over questions about photos.

    Args:
        model: the VQA model.
        lessons: at least one; photos are counted from 0.
        batch: questions a step; with the CNN: photos, each with all its questions.
    """

    def __init__(
        self, model: LstmCnn, lessons: Sequence[Lesson], epochs: int, batch: int, lr: float
    ) -> None:
        self.model, self.lessons = model, lessons
        self.epochs, self.batch, self.lr = epochs, batch, lr

    def helpers(self) -> Sequence[nn.Module]:
        return ()

    def answer_loss(self, feature: Tensor, lessons: Sequence[Lesson]) -> tuple[Tensor, float]:
        """Mean cross-entropy of questions, each with its row of image features (N, F)."""
        question = self.model.encode_question([lesson.tokens for lesson in lessons])
        shares = torch.stack([lesson.shares for lesson in lessons]).to(feature.device)
        loss = functional.cross_entropy(self.model(feature, question), shares)
        return loss, loss.item()


class WithCnn(AnswerPhase):
    """With the CNN: each photo once an epoch, all its questions at a time.

    Args:
        photos: to train on.
        views: how many views of them (see :meth:`vlcam.photo_cache.Photos.pixels`).
        first_size: of the input in the first three quarters of the epochs.
        pretrained: whether the CNN's own batch normalisation stays as it is.
        precision: of the CNN.
    """

    def __init__(
        self,
        model: LstmCnn,
        lessons: Sequence[Lesson],
        epochs: int,
        batch: int,
        lr: float,
        *,
        photos: Photos,
        views: int,
        first_size: int | None,
        pretrained: bool,
        precision: torch.dtype,
    ) -> None:
        super().__init__(model, lessons, epochs, batch, lr)
        self.photos, self.views, self.first_size = photos, views, first_size
        self.pretrained, self.precision = pretrained, precision
        self._small = False
        self._of_photo: dict[int, list[Lesson]] = {}
        for lesson in lessons:
            self._of_photo.setdefault(lesson.photo, []).append(lesson)

    def train_mode(self) -> None:
        self.model.train()
        if self.pretrained:
            self.model.encoder.eval()

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[Any]:
        self._small = epoch < FIRST_SHARE * self.epochs
        order = rng.permutation(list(self._of_photo)).tolist()
        parts = [order[i : i + self.batch] for i in range(0, len(order), self.batch)]
        # A photo left over alone has no batch statistics.
        return parts[:-1] if len(parts[-1]) == 1 < len(parts) else parts

    def loss(self, batch: list[int], rng: np.random.Generator) -> tuple[Tensor, float]:
        pixels = self.photos.pixels(batch, int(rng.integers(self.views)), rng)
        if self.first_size and self._small:
            size = (self.first_size, self.first_size)
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        device = next(self.model.parameters()).device
        with autocast(device, self.precision):
            feature = self.model.encoder(pixels.to(device)).float()
        lessons = [lesson for photo in batch for lesson in self._of_photo[photo]]
        rows = [row for row, photo in enumerate(batch) for _ in self._of_photo[photo]]
        return self.answer_loss(feature[rows], lessons)


class FixedCnn(AnswerPhase):
    """Every question once an epoch; ``see(rows, rng)`` gives features (N, F) of photos."""

    fixed = "encoder."

    def __init__(
        self,
        model: LstmCnn,
        lessons: Sequence[Lesson],
        epochs: int,
        batch: int,
        lr: float,
        *,
        see: Callable[[list[int], np.random.Generator], Tensor],
    ) -> None:
        super().__init__(model, lessons, epochs, batch, lr)
        self.see = see

    def train_mode(self) -> None:
        self.model.train()
        self.model.encoder.eval()
        self.model.standardise.eval()

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[Any]:
        order = rng.permutation(len(self.lessons)).tolist()
        return [order[i : i + self.batch] for i in range(0, len(order), self.batch)]

    def loss(self, batch: list[int], rng: np.random.Generator) -> tuple[Tensor, float]:
        lessons = [self.lessons[i] for i in batch]
        return self.answer_loss(self.see([lesson.photo for lesson in lessons], rng), lessons)
