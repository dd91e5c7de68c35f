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

from vlcam.training.photo_trainer import Views
from vlcam.training.trainer import Phase
from vqa.models import glimpses
from vqa.models.coattention import model as coattention
from vqa.models.lstm_cnn import model as lstm_cnn


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
        self, model: Model, lessons: Sequence[Lesson], epochs: int, batch: int, lr: float
    ) -> None:
        self.model = model
        self.epochs, self.batch, self.lr = epochs, batch, lr
        self.of_photo: dict[int, list[Lesson]] = {}
        for lesson in lessons:
            self.of_photo.setdefault(lesson.photo, []).append(lesson)

    def helpers(self) -> Sequence[nn.Module]:
        return ()

    def answer_loss(
        self, feature: Tensor, lessons: Sequence[Lesson], photo: Sequence[int]
    ) -> tuple[Tensor, float]:
        """Mean cross-entropy of questions (N), each about a row of image features (P, F)."""
        question = self.model.encode_question([lesson.tokens for lesson in lessons])
        shares = torch.stack([lesson.shares for lesson in lessons]).to(feature.device)
        about = torch.tensor(photo, device=feature.device)
        loss = functional.cross_entropy(self.model(feature, question, about), shares)
        return loss, loss.item()


class WithCnn(AnswerPhase):
    """With the CNN: each photo once an epoch, all its questions at a time.

    Args:
        views: of the photos to train on.
        pretrained: whether the CNN's own batch normalisation stays as it is.
    """

    def __init__(
        self,
        model: Model,
        lessons: Sequence[Lesson],
        epochs: int,
        batch: int,
        lr: float,
        *,
        views: Views,
        pretrained: bool,
    ) -> None:
        super().__init__(model, lessons, epochs, batch, lr)
        self.views, self.pretrained = views, pretrained

    def train_mode(self) -> None:
        self.model.train()
        if self.pretrained:
            self.model.encoder.eval()

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[Any]:
        parts = self.views.begin_epoch(epoch, rng)
        # Some photos may have no question that can be answered.
        return [part for part in parts if any(photo in self.of_photo for photo in part)]

    def loss(self, batch: list[int], rng: np.random.Generator) -> tuple[Tensor, float]:
        with self.views.autocast():
            feature = self.model.encoder(self.views(batch, rng)).float()
        asked = [self.of_photo.get(photo, []) for photo in batch]
        rows = [row for row, lessons in enumerate(asked) for _ in lessons]
        return self.answer_loss(feature, [lesson for some in asked for lesson in some], rows)


class FixedCnn(AnswerPhase):
    """Every question once an epoch, those about a photo one after the other, so that most steps
    need few photos; ``see(rows, rng)`` gives features (P, F) of photos."""

    fixed = "encoder."

    def __init__(
        self,
        model: Model,
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
        order = list(self.of_photo)
        lessons = [one for i in rng.permutation(len(order)) for one in self.of_photo[order[i]]]
        return [lessons[i : i + self.batch] for i in range(0, len(lessons), self.batch)]

    def loss(self, batch: list[Lesson], rng: np.random.Generator) -> tuple[Tensor, float]:
        photos = list(dict.fromkeys(lesson.photo for lesson in batch))
        rows = {photo: row for row, photo in enumerate(photos)}
        return self.answer_loss(self.see(photos, rng), batch, [rows[one.photo] for one in batch])


Model = lstm_cnn.LstmCnn | coattention.CoAttention | glimpses.Glimpses


ARCHITECTURES = (lstm_cnn.ARCHITECTURE, coattention.ARCHITECTURE, glimpses.ARCHITECTURE)
