"""How a VQA model learns: with its CNN, then from the CNN's fixed features.

What is learned is the share of people who gave each of the answers that the model can give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vlcam.training import phases
from vlcam.training.photo_cache import See
from vlcam.training.photo_trainer import Views
from vlcam.training.trainer import Schedule
from vqa.models import glimpses
from vqa.models.coattention import model as coattention
from vqa.models.lstm_cnn import model as lstm_cnn

ARCHITECTURES = (lstm_cnn.ARCHITECTURE, coattention.ARCHITECTURE, glimpses.ARCHITECTURE)
Model = lstm_cnn.LstmCnn | coattention.CoAttention | glimpses.Glimpses
"""The models that can be trained."""


@dataclass(frozen=True)
class Lesson:
    """A question as the model reads it: which photo, its tokens, and the share of people (A,) who
    gave each answer."""

    photo: int
    tokens: tuple[int, ...]
    shares: Tensor


class WithCnn(phases.WithCnn):
    """Each photo once an epoch, with all its questions; the CNN is trained as well.

    Args:
        model, schedule, views, pretrained: see :class:`vlcam.training.phases.WithCnn`.
        lessons: at least one.
    """

    model: Model

    def __init__(
        self,
        model: Model,
        schedule: Schedule,
        *,
        views: Views,
        pretrained: bool,
        lessons: Sequence[Lesson],
    ) -> None:
        super().__init__(model, schedule, views=views, pretrained=pretrained)
        self.of_photo = _by_photo(lessons)

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[Any]:
        parts = super().begin_epoch(epoch, rng)
        # Some photos may have no question that can be answered.
        return [part for part in parts if any(photo in self.of_photo for photo in part)]

    def loss(self, batch: list[int], rng: np.random.Generator) -> tuple[Tensor, float]:
        feature = self.encode(batch, rng)
        asked = [self.of_photo.get(photo, []) for photo in batch]
        rows = [row for row, lessons in enumerate(asked) for _ in lessons]
        lessons = [lesson for some in asked for lesson in some]
        return _answer_loss(self.model, feature, lessons, rows)


class FixedCnn(phases.FixedCnn):
    """Every question once an epoch, those about a photo one after the other, so that most steps
    need few photos.

    Args:
        model, schedule, see: see :class:`vlcam.training.phases.FixedCnn`; its batches are of
            questions.
        lessons: at least one.
    """

    model: Model

    def __init__(
        self, model: Model, schedule: Schedule, *, see: See, lessons: Sequence[Lesson]
    ) -> None:
        super().__init__(model, schedule, see=see)
        self.of_photo = _by_photo(lessons)

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[Any]:
        order, size = list(self.of_photo), self.schedule.batch
        lessons = [one for i in rng.permutation(len(order)) for one in self.of_photo[order[i]]]
        return [lessons[i : i + size] for i in range(0, len(lessons), size)]

    def loss(self, batch: list[Lesson], rng: np.random.Generator) -> tuple[Tensor, float]:
        photos = list(dict.fromkeys(lesson.photo for lesson in batch))
        rows = {photo: row for row, photo in enumerate(photos)}
        feature = self.encode(photos, rng)
        return _answer_loss(self.model, feature, batch, [rows[one.photo] for one in batch])


def _by_photo(lessons: Sequence[Lesson]) -> Mapping[int, Sequence[Lesson]]:
    found: dict[int, list[Lesson]] = {}
    for lesson in lessons:
        found.setdefault(lesson.photo, []).append(lesson)
    return found


def _answer_loss(
    model: Model, feature: Tensor, lessons: Sequence[Lesson], rows: Sequence[int]
) -> tuple[Tensor, float]:
    """Mean cross-entropy of N questions, twice: to minimise, and to report.

    Args:
        feature: image features (P, F) of photos.
        rows: of those, the one that each question is about.
    """
    question = model.encode_question([lesson.tokens for lesson in lessons])
    shares = torch.stack([lesson.shares for lesson in lessons]).to(feature.device)
    about = torch.tensor(rows, device=feature.device)
    loss = functional.cross_entropy(model(feature, question, about), shares)
    return loss, loss.item()
