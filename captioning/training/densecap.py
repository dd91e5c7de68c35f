"""``vlcam train densecap``: train a dense captioner on region captions with boxes.

Up to two phases: with the CNN, and with the CNN fixed; in each, all regions of a photo are trained
on once an epoch, with one caption drawn for each. How a killed training is resumed:
``vlcam/training/trainer.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from captioning.data import regions
from captioning.data.captions import hold_out
from captioning.data.region_files import genome_file
from captioning.data.regions import Photo
from captioning.models import densecap
from captioning.models.densecap import Config, DenseCap, Lesson
from captioning.training.bleu import bleu
from vlcam.formats.vocabulary import Vocabulary, words_of
from vlcam.metrics.box_ratio import Box, box_in_input
from vlcam.photo.loading import size_of
from vlcam.photo.preprocess import Preprocess
from vlcam.training import phases
from vlcam.training.photo_cache import See
from vlcam.training.photo_trainer import PhotoTrainer, PhotoTraining, Views
from vlcam.training.trainer import Phase, Schedule
from vlcam.utils.terminal import progress

MAX_WORDS = 15
TOP = 5
"""Regions of a photo that are scored, as many as the evaluation takes (section 8.1)."""

_VAL_SHARE = 0.05
_ALIKE = 0.5  # IoU from which a box is on a region


@dataclass(frozen=True)
class Training(PhotoTraining):
    """What to train, on what, and how; ``captioning/commands/train_densecap.py`` explains each."""

    least = PhotoTraining.least | {"embedding": 1, "hidden": 1, "code": 1, "cells": 1}

    regions: str | None = None
    cells: int = 4
    code: int = 256
    embedding: int = 128
    hidden: int = 256
    dropout_input: float = 0.0
    dropout_output: float = 0.3
    batch: int = 32


@dataclass(frozen=True)
class Example:
    """A photo and its regions: distinct boxes (in photo pixels), and the words of each one's
    captions."""

    photo: Path
    boxes: tuple[Box, ...]
    captions: tuple[tuple[tuple[str, ...], ...], ...]

    @classmethod
    def of(cls, photo: Photo) -> Example | None:
        """Regions with words and a box in the photo; None where there is none."""
        height, width = size_of(photo.path)
        found: dict[Box, list[tuple[str, ...]]] = {}
        for region in photo.regions:
            words = tuple(words_of(region.text)[:MAX_WORDS])
            for left, top, right, bottom in region.boxes:
                box = max(0, left), max(0, top), min(width, right), min(height, bottom)
                if words and box[2] - box[0] >= 1 and box[3] - box[1] >= 1:
                    found.setdefault(box, []).append(words)
        captions = tuple(map(tuple, found.values()))
        return cls(photo.path, tuple(found), captions) if found else None

    def lesson(self, vocabulary: Vocabulary, preprocess: Preprocess) -> Lesson:
        """As the model reads it."""
        placement = preprocess.geometry(size_of(self.photo))[1]
        boxes = torch.tensor([box_in_input(box, placement) for box in self.boxes])
        captions = [[vocabulary.tokens(words) for words in some] for some in self.captions]
        return Lesson(boxes, captions)


def read_data(folder: Path, seed: int) -> dict[str, list[Example]]:
    """Photos with regions to train on and, a twentieth of them, to validate on.

    Args:
        folder: in Visual Genome's layout: ``region_descriptions.json`` in it or in
            ``annotations/``, photos in any folder of it.

    Raises:
        ValueError: a file is missing or not as expected, or has too few photos.
    """
    found = regions.read(genome_file(folder), folder)
    for line in found.problems:
        print(f"skipped: {line}", file=sys.stderr)
    examples = []
    for photo in found.photos:
        try:
            example = Example.of(photo)
        except (ValueError, OSError) as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        if example is None:
            print(f"skipped: {photo.name}: no region with words and a box", file=sys.stderr)
        else:
            examples.append(example)
    train, val = hold_out(examples, _VAL_SHARE, seed)
    return {"train": train, "val": val}


class WithCnn(phases.WithCnn):
    """All regions of each photo once an epoch, with the CNN.

    Args:
        model, schedule, views, pretrained: see :class:`vlcam.training.phases.WithCnn`.
        lessons: of the photos.
    """

    def __init__(
        self,
        model: DenseCap,
        schedule: Schedule,
        *,
        views: Views,
        pretrained: bool,
        lessons: Sequence[Lesson],
    ) -> None:
        super().__init__(model, schedule, views=views, pretrained=pretrained)
        self.lessons = lessons

    def loss(self, batch: list[int], rng: np.random.Generator) -> tuple[Tensor, float]:
        return _loss(self, self.lessons, batch, rng)


class FixedCnn(phases.FixedCnn):
    """All regions of each photo once an epoch, from given feature maps.

    Args:
        model, schedule, see: see :class:`vlcam.training.phases.FixedCnn`; its batches are of
            photos.
        lessons: of the photos.
    """

    kept = ("encoder",)

    def __init__(
        self, model: DenseCap, schedule: Schedule, *, see: See, lessons: Sequence[Lesson]
    ) -> None:
        super().__init__(model, schedule, see=see)
        self.lessons = lessons

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[list[int]]:
        order, size = rng.permutation(len(self.lessons)).tolist(), self.schedule.batch
        return [order[i : i + size] for i in range(0, len(order), size)]

    def loss(self, batch: list[int], rng: np.random.Generator) -> tuple[Tensor, float]:
        return _loss(self, self.lessons, batch, rng)


def _loss(
    phase: phases.PhotoPhase, lessons: Sequence[Lesson], batch: list[int], rng: np.random.Generator
) -> tuple[Tensor, float]:
    """The sum of the dense captioner's losses on those photos."""
    feature = phase.encode(batch, rng)
    losses = phase.model.losses(feature, [lessons[row] for row in batch], rng)
    loss = torch.stack([*losses.values()]).sum()
    return loss, loss.item()


def train(how: Training) -> dict[str, Any]:
    """Train (or continue) a dense captioner, save it in ``how.out``, and return the report.

    ``report.json`` there holds each epoch's loss and what the average model does on the photos
    held out, see :meth:`_Trainer.score`.

    Raises ValueError for data, weights or options that do not fit.
    """
    return _Trainer(how).train()


class _Trainer(PhotoTrainer):
    """The training of a dense captioner."""

    how: Training
    model: DenseCap
    average: DenseCap

    def __init__(self, how: Training) -> None:
        super().__init__(how, read_data(Path(how.data), how.seed))

    def make_model(self) -> DenseCap:
        how, examples = self.how, self.examples["train"]
        texts = [words for one in examples for some in one.captions for words in some]
        config = Config(
            cnn=how.cnn,
            vocabulary=Vocabulary.count(texts, how.threshold),
            preprocess=how.preprocess,
            embedding=how.embedding,
            hidden=how.hidden,
            dropout_input=how.dropout_input,
            dropout_output=how.dropout_output,
            regions=how.regions,
            cells=how.cells,
            code=how.code,
        )
        return DenseCap(config)

    @cached_property
    def lessons(self) -> list[Lesson]:
        """Of the training photos."""
        config = self.model.config
        found = [one.lesson(config.vocabulary, config.preprocess) for one in self.examples["train"]]
        return [Lesson(one.boxes.to(self.device), one.captions) for one in found]

    def make_phase(self, index: int) -> Phase:
        schedule = self.schedules[index]
        if index == 0:
            return WithCnn(
                self.model,
                schedule,
                views=self.views(),
                pretrained=self.how.pretrained,
                lessons=self.lessons,
            )
        return FixedCnn(self.model, schedule, see=self.see(), lessons=self.lessons)

    def measure(self, plain: Tensor) -> None:
        """Nothing: the model's batch normalisation learns its statistics while it is trained."""

    def validate(self) -> tuple[dict[str, Any], str]:
        scores = self.score()
        return {"val": scores}, f"validation {_line(scores)}"

    @torch.no_grad()
    def score(self) -> dict[str, float]:
        """Of the photos held out: the share of the five surest regions that are on a true one
        (IoU of at least 0.5), the share of true ones that one of the five is on, and BLEU-4 of the
        captions of the true boxes."""
        feature, config = self.seen("val"), self.average.config
        on, true, captions = list[Tensor](), list[Tensor](), list[list[str]]()
        size = self.how.cnn_batch
        starts = range(0, len(feature), size)
        for start in progress.each(starts, "regions of val, batches", unit="batch"):
            some = feature[start : start + size].to(self.device).float()
            examples = self.examples["val"][start : start + size]
            lessons = [one.lesson(config.vocabulary, config.preprocess) for one in examples]
            boxes = [lesson.boxes.to(self.device) for lesson in lessons]
            for found, own in zip(self.average.find(some, TOP), boxes, strict=True):
                alike = box_iou(found.boxes, own) >= _ALIKE
                on.append(alike.any(1).cpu())
                true.append(alike.any(0).cpu())
            captions += [
                config.vocabulary.text(caption.tokens)
                for caption in self.average.captions(some, boxes)
            ]
        references = [texts for one in self.examples["val"] for texts in one.captions]
        return {
            "on a region": torch.cat(on).float().mean().item() if any(map(len, on)) else 0.0,
            "found": torch.cat(true).float().mean().item(),
            "BLEU-4": bleu(captions, references)[3],
        }

    def finish(self) -> dict[str, Any]:
        scores = self.score()
        densecap.save_module(self.average, self.out, self.how.half)
        print(f"val: {_line(scores)}")
        return self.write_report(val=scores)


def _line(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
