"""``vlcam train vqa``: train a VQA model on questions about photos.

Up to two phases (``vqa/phases.py``): with the CNN, and with the CNN fixed. How it goes on after a
kill: ``vlcam/training.py``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlcam.photo_cache import PRECISIONS, Photos, cached_features, features, features_of
from vlcam.preprocess import Preprocess
from vlcam.training import Phase, Trainer
from vlcam.vocabulary import Vocabulary, words_of
from vlcam.writing import written
from vqa.accuracy import accuracy, normalised
from vqa.data import Asked, read_data
from vqa.lstm_cnn import Config, LstmCnn, save
from vqa.phases import FixedCnn, Lesson, WithCnn

REPORT = "report.json"


@dataclass(frozen=True)
class Training:
    """What to train, on what, and how; see ``vqa/train_command.py`` for each."""

    data: str
    out: str
    cnn: str = "small"
    cnn_weights: str | None = None
    cnn_epochs: int = 0
    size: int = 224
    first_size: int | None = None
    views: int = 1
    threshold: int = 1
    answers: int = 1000
    embedding: int = 200
    hidden: int = 512
    common: int = 1024
    dropout: float = 0.5
    cnn_batch: int = 32
    cnn_lr: float = 1e-3
    epochs: int = 10
    batch: int = 256
    lr: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0
    half: bool = False
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        least = {"size": 1, "views": 1, "threshold": 1, "answers": 1, "cnn_batch": 1, "batch": 1}
        least |= {"cnn_epochs": 0, "epochs": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} {getattr(self, name)}: must be at least {value}")
        if self.precision not in PRECISIONS:
            known = " or ".join(PRECISIONS)
            raise ValueError(f"--precision {self.precision}: must be {known}")
        if not self.cnn_epochs + self.epochs:
            raise ValueError("--epochs 0: nothing to train")
        if not self.cnn_epochs and self.cnn_weights is None:
            raise ValueError("give --cnn-weights FILE, or train the CNN with --cnn-epochs N")
        if self.first_size is not None and not 1 <= self.first_size <= self.size:
            raise ValueError(f"--first-size {self.first_size}: must be 1 to --size, {self.size}")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"--device {self.device}: torch sees no GPU here")


def train(how: Training) -> dict[str, Any]:
    """Train (or continue) a VQA model, save it in ``how.out``, and return the report.

    ``report.json`` there holds each epoch's loss and validation accuracy, and the final accuracy
    on validation and, where the data has it, on test: the official one, overall and by answer type.

    Raises ValueError for data, weights or options that do not fit.
    """
    trainer = _Trainer(how)
    trainer.run()
    return trainer.finish()


class _Trainer(Trainer):
    """The VQA model and the data it meets."""

    model: LstmCnn
    average: LstmCnn

    def __init__(self, how: Training) -> None:
        self.how = how
        self.device = torch.device(how.device)
        splits = read_data(Path(how.data), how.seed)
        for line in splits.skipped:
            print(f"skipped: {line}", file=sys.stderr)
        self.asked = {n: getattr(splits, n) for n in ("train", "val", "test")}
        preprocess = Preprocess(size=(how.size, how.size))
        config = Config(
            how.cnn,
            Vocabulary.count((words_of(a.text) for a in splits.train), how.threshold),
            likeliest(splits.train, how.answers),
            preprocess,
            how.embedding,
            how.hidden,
            common=how.common,
            dropout=how.dropout,
        )
        torch.manual_seed(how.seed)
        model = LstmCnn(config)
        if how.cnn_weights:
            model.encoder.load_weights(Path(how.cnn_weights))
        model = model.to(self.device).to(memory_format=torch.channels_last)
        self.cache = Path(how.out) / "cache"
        self.paths = {
            name: list(dict.fromkeys(one.photo for one in asked))
            for name, asked in self.asked.items()
            if asked
        }
        self.photos = {n: Photos(paths, preprocess, self.cache) for n, paths in self.paths.items()}
        self.lessons = self._lessons(config)
        self.features: dict[tuple[str, int], Tensor] = {}  # of a fixed CNN: by split and view
        super().__init__(
            model,
            Path(how.out),
            asdict(how),
            (how.cnn_epochs, how.epochs),
            how.seed,
            how.weight_decay,
        )
        self.begin()

    def _lessons(self, config: Config) -> list[Lesson]:
        """The training questions of which at least one person's answer can be given."""
        columns = {answer: i for i, answer in enumerate(config.answers)}
        rows = {path: i for i, path in enumerate(self.paths["train"])}
        lessons = []
        for asked in self.asked["train"]:
            tokens = config.tokens(asked.text)
            said = Counter(columns[a] for a in map(normalised, asked.answers) if a in columns)
            if tokens and said:
                shares = torch.zeros(len(columns))
                for column, count in said.items():
                    shares[column] = count / said.total()
                lessons.append(Lesson(rows[asked.photo], tuple(tokens), shares))
        return lessons

    def make_phase(self, index: int) -> Phase:
        how = self.how
        if index == 0:
            return WithCnn(
                self.model,
                self.lessons,
                how.cnn_epochs,
                how.cnn_batch,
                how.cnn_lr,
                photos=self.photos["train"],
                views=how.views,
                first_size=how.first_size,
                pretrained=how.cnn_weights is not None,
                precision=PRECISIONS[how.precision],
            )
        self._fix_cnn()
        views = [self.features["train", view] for view in range(how.views)]
        see = features_of(views, self.device)
        return FixedCnn(self.model, self.lessons, how.epochs, how.batch, how.lr, see=see)

    def _fix_cnn(self) -> None:
        """Fix the CNN, look at every photo once, and standardise what a given CNN sees."""
        self.model.encoder.requires_grad_(False).eval()
        for name, photos in self.photos.items():
            precision = PRECISIONS[self.how.precision if name == "train" else "float32"]
            for view in range(self.how.views if name == "train" else 1):
                self.features[name, view] = cached_features(
                    self.model.encoder,
                    photos,
                    view,
                    self.how.seed,
                    self.device,
                    precision,
                    self.cache,
                )
        if not self.how.cnn_epochs:
            for model in (self.model, self.average):
                model.measure_features(self.features["train", 0])

    # -- answers and scores -----------------------------------------------------------------

    def validate(self) -> tuple[dict[str, Any], str]:
        scores = self._score("val")
        return {"val_accuracy": scores}, f"validation accuracy {_line(scores)}"

    @torch.no_grad()
    def _score(self, split: str) -> dict[str, float]:
        """The average model's accuracy, overall and by answer type."""
        seen = self._seen(split)
        rows = {path: i for i, path in enumerate(self.paths[split])}
        found: dict[str, list[float]] = {"all": []}
        asked: Sequence[Asked] = self.asked[split]
        config = self.average.config
        for start in range(0, len(asked), 256):
            some = asked[start : start + 256]
            tokens = [config.tokens(a.text) or [config.vocabulary.unknown] for a in some]
            feature = seen[[rows[a.photo] for a in some]].to(self.device)
            question = self.average.encode_question(tokens)
            best = self.average(feature, question).argmax(1).tolist()
            for one, column in zip(some, best, strict=True):
                value = accuracy(config.answers[column], one.answers)
                found["all"].append(value)
                found.setdefault(one.kind or "other", []).append(value)
        return {kind: sum(values) / len(values) for kind, values in found.items()}

    def _seen(self, split: str) -> Tensor:
        """Features (N, F) of a split's photos as they are."""
        if (split, 0) in self.features:
            return self.features[split, 0]
        return features(self.average.encoder, self.photos[split], 0, 0, self.device)

    def finish(self) -> dict[str, Any]:
        scores = {split: self._score(split) for split in ("val", "test") if self.asked[split]}
        save(self.average, self.out, self.how.half)
        report = {"training": asdict(self.how), "epochs": self.history, "accuracy": scores}
        with written(self.out / REPORT) as path:
            path.write_text(json.dumps(report, indent=1), "utf-8")
        for split, values in scores.items():
            print(f"{split}: accuracy {_line(values)}")
        return report


def likeliest(asked: Sequence[Asked], count: int) -> tuple[str, ...]:
    """The answers most given, the most given first: what the model will be able to answer."""
    said = Counter(normalised(one.answer) for one in asked)
    said.pop("", None)
    return tuple(answer for answer, _ in said.most_common(count))


def _line(scores: dict[str, float]) -> str:
    return ", ".join(f"{kind} {100 * value:.1f} %" for kind, value in scores.items())
