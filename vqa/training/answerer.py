"""``vlcam train vqa``: train a VQA model on questions about photos.

Up to two phases (``vqa/training/phases.py``): with the CNN, and with the CNN fixed. How a killed
training is resumed: ``vlcam/training/trainer.py``.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlcam.formats import checkpoint
from vlcam.formats.vocabulary import Vocabulary, words_of
from vlcam.training.photo_cache import See
from vlcam.training.photo_trainer import PhotoTrainer, PhotoTraining
from vlcam.training.trainer import Phase
from vlcam.utils.messages.nearest import unknown
from vlcam.utils.terminal import progress
from vqa.data.accuracy import accuracy, normalised
from vqa.data.questions import AnsweredQuestion, read_data
from vqa.models import glimpses
from vqa.models.coattention import model as coattention
from vqa.models.lstm_cnn import model as lstm_cnn
from vqa.training.phases import ARCHITECTURES, FixedCnn, Lesson, Model, WithCnn


@dataclass(frozen=True)
class Training(PhotoTraining):
    """What to train, on what, and how; ``vqa/commands/train_vqa.py`` explains each."""

    least = PhotoTraining.least | {"answers": 1, "glimpses": 1}

    architecture: str = lstm_cnn.ARCHITECTURE
    attention: str = "alternating"
    regions: str | None = None
    answers: int = 1000
    embedding: int = 200
    hidden: int = 512
    common: int = 1024
    glimpses: int = 8
    dropout: float = 0.5
    batch: int = 256
    question_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture not in ARCHITECTURES:
            raise ValueError(unknown("--architecture", self.architecture, ARCHITECTURES))
        if self.question_only and self.cnn_epochs:
            raise ValueError("--question-only: there is no CNN to train, so without --cnn-epochs")

    @property
    def sees(self) -> bool:
        return not self.question_only


def train(how: Training) -> dict[str, Any]:
    """Train (or continue) a VQA model, save it in ``how.out``, and return the report.

    ``report.json`` there holds each epoch's loss and validation accuracy, and the final accuracy
    on validation and, where the data has it, on test: the official one, overall and by answer type.

    Raises ValueError for data, weights or options that do not fit.
    """
    return _Trainer(how).train()


class _Trainer(PhotoTrainer):
    """The training of a VQA model."""

    how: Training
    model: Model
    average: Model

    def __init__(self, how: Training) -> None:
        splits = read_data(Path(how.data), how.seed)
        for line in splits.skipped:
            print(f"skipped: {line}", file=sys.stderr)
        super().__init__(how, vars(splits))

    def make_model(self) -> Model:
        return _build(self.how, self.examples["train"])

    def photos_of(self, examples: Sequence[AnsweredQuestion]) -> list[Path]:
        """Each photo once, however many questions are about it."""
        return list(dict.fromkeys(super().photos_of(examples)))

    @cached_property
    def lessons(self) -> list[Lesson]:
        """The training questions of which at least one person's answer can be given."""
        config = self.model.config
        columns = {answer: i for i, answer in enumerate(config.answers)}
        rows = {path: i for i, path in enumerate(self.paths["train"])}
        lessons = []
        for asked in self.examples["train"]:
            tokens = config.tokens(asked.text)
            said = Counter(columns[a] for a in map(normalised, asked.answers) if a in columns)
            if tokens and said:
                shares = torch.zeros(len(columns))
                for column, count in said.items():
                    shares[column] = count / said.total()
                lessons.append(Lesson(rows[asked.photo], tuple(tokens), shares))
        return lessons

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

    def see(self) -> See:
        if self.how.sees:
            return super().see()
        return lambda rows, rng: self._nothing(len(rows))

    def seen(self, split: str) -> Tensor:
        return super().seen(split) if self.how.sees else self._nothing(len(self.paths[split]))

    def _nothing(self, photos: int) -> Tensor:
        """Features (N, F) of so many photos, all zero."""
        one = torch.zeros(1, self.model.encoder.feature_size, device=self.device)
        return one.expand(photos, -1)

    def measure(self, plain: Tensor) -> None:
        for model in (self.model, self.average):
            model.measure_features(plain)

    # -- answers and scores -----------------------------------------------------------------

    def validate(self) -> tuple[dict[str, Any], str]:
        scores = self._score("val")
        return {"val_accuracy": scores}, f"validation accuracy {_line(scores)}"

    @torch.no_grad()
    def _score(self, split: str) -> dict[str, float]:
        """The average model's accuracy, overall and by answer type."""
        seen = self.seen(split)
        rows = {path: i for i, path in enumerate(self.paths[split])}
        found: dict[str, list[float]] = {"all": []}
        asked = self.examples[split]
        config = self.average.config
        starts = range(0, len(asked), 256)
        for start in progress.each(starts, f"questions of {split}, batches", unit="batch"):
            some = asked[start : start + 256]
            tokens = [config.tokens(a.text) or [config.vocabulary.unknown] for a in some]
            photos = {path: row for row, path in enumerate(dict.fromkeys(a.photo for a in some))}
            feature = seen[[rows[path] for path in photos]].to(self.device).float()
            about = torch.tensor([photos[a.photo] for a in some], device=self.device)
            question = self.average.encode_question(tokens)
            best = self.average(feature, question, about).argmax(1).tolist()
            for one, column in zip(some, best, strict=True):
                value = accuracy(config.answers[column], one.answers)
                found["all"].append(value)
                found.setdefault(one.kind or "other", []).append(value)
        return {kind: sum(values) / len(values) for kind, values in found.items()}

    def finish(self) -> dict[str, Any]:
        scores = {split: self._score(split) for split in self.examples if split != "train"}
        checkpoint.save_folder(self.average, self.average.config.to_json(), self.out, self.how.half)
        for split, values in scores.items():
            print(f"{split}: accuracy {_line(values)}")
        return self.write_report(accuracy=scores)


def _build(how: Training, asked: Sequence[AnsweredQuestion]) -> Model:
    """The model, with random weights, for the words and answers of the training questions."""
    common: dict[str, Any] = {
        "cnn": how.cnn,
        "vocabulary": Vocabulary.count((words_of(a.text) for a in asked), how.threshold),
        "answers": likeliest(asked, how.answers),
        "preprocess": how.preprocess,
        "dropout": how.dropout,
        "hidden": how.hidden,
        "common": how.common,
    }
    if how.architecture == lstm_cnn.ARCHITECTURE:
        return lstm_cnn.LstmCnn(lstm_cnn.Config(**common, embedding=how.embedding))
    common["regions"] = how.regions
    if how.architecture == glimpses.ARCHITECTURE:
        read: dict[str, Any] = {"embedding": how.embedding, "glimpses": how.glimpses}
        return glimpses.Glimpses(glimpses.Config(**common, **read))
    attended: dict[str, Any] = {"attention": how.attention}
    return coattention.CoAttention(coattention.Config(**common, **attended))


def likeliest(asked: Sequence[AnsweredQuestion], count: int) -> tuple[str, ...]:
    """The most frequent answers, the most frequent first: those the model can give."""
    said = Counter(normalised(one.answer) for one in asked)
    said.pop("", None)
    return tuple(answer for answer, _ in said.most_common(count))


def _line(scores: dict[str, float]) -> str:
    return ", ".join(f"{kind} {100 * value:.1f} %" for kind, value in scores.items())
