"""``vlcam train captioner``: train a NeuralTalk captioner on captioned photos.

Up to three phases (``captioning/phases.py``), each with a one-cycle learning rate: with the CNN,
with the CNN fixed, and for a reward. Each begins with the running average of the weights of the
one before; what is saved is the running average.

How it goes on after a kill: ``vlcam/training.py``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captioning.bleu import bleu
from captioning.data import Example, read_data
from captioning.neuraltalk import Config, NeuralTalk, save
from captioning.phases import (
    MAX_WORDS,
    FixedCnn,
    Rewarded,
    WithCnn,
)
from captioning.word_detector import WordDetector
from vlcam.photo_cache import PRECISIONS, Photos, cached_features, features, features_of
from vlcam.preprocess import Preprocess
from vlcam.training import Phase, Trainer
from vlcam.vocabulary import Vocabulary
from vlcam.writing import written

REPORT = "report.json"
LENGTH_POWERS = (0.0, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0)


@dataclass(frozen=True)
class Training:
    """What to train, on what, and how; see ``captioning/train_command.py`` for each."""

    data: str
    out: str
    cnn: str = "small"
    cnn_weights: str | None = None
    cnn_epochs: int = 0
    size: int = 224
    first_size: int | None = None
    views: int = 2
    threshold: int = 5
    embedding: int = 256
    hidden: int = 512
    dropout_input: float = 0.3
    dropout_output: float = 0.5
    cnn_batch: int = 32
    cnn_lr: float = 1e-3
    naming: float = 0.0
    epochs: int = 10
    batch: int = 128
    lr: float = 2e-3
    smoothing: float = 0.0
    weight_decay: float = 0.05
    image_decay: float | None = None
    reward_epochs: int = 0
    reward_lr: float = 3e-4
    beams: int = 5
    seed: int = 0
    half: bool = False
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        least = {"size": 1, "views": 1, "threshold": 1, "cnn_batch": 1, "batch": 1, "beams": 1}
        least |= {"cnn_epochs": 0, "epochs": 0, "reward_epochs": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} {getattr(self, name)}: must be at least {value}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"--smoothing {self.smoothing}: must be at least 0 and less than 1")
        for name in ("weight_decay", "image_decay"):
            if (getattr(self, name) or 0) < 0:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} {getattr(self, name)}: must be at least 0")
        if self.precision not in PRECISIONS:
            known = " or ".join(PRECISIONS)
            raise ValueError(f"--precision {self.precision}: must be {known}")
        if self.reward_epochs and self.beams < 2:
            raise ValueError("--reward-epochs improve beam search: with --beams of at least 2")
        if not self.cnn_epochs + self.epochs + self.reward_epochs:
            raise ValueError("--epochs 0: nothing to train")
        if not self.cnn_epochs and self.cnn_weights is None:
            raise ValueError("give --cnn-weights FILE, or train the CNN with --cnn-epochs N")
        if not self.cnn_epochs and (self.naming or self.first_size):
            raise ValueError(
                "--naming and --first-size are about training the CNN: with --cnn-epochs"
            )
        if self.first_size is not None and not 1 <= self.first_size <= self.size:
            raise ValueError(f"--first-size {self.first_size}: must be 1 to --size, {self.size}")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"--device {self.device}: torch sees no GPU here")


def train(how: Training) -> dict[str, Any]:
    """Train (or continue) a captioner, save it in ``how.out``, and return the report.

    ``report.json`` there holds each epoch's loss and validation BLEU, and the final BLEU-1..4 of
    greedy and beam search on validation and, where the data has it, on test.

    Raises ValueError for data, weights or options that do not fit.
    """
    trainer = _Trainer(how)
    trainer.run()
    return trainer.finish()


class _Trainer(Trainer):
    """The captioner and the data it meets."""

    model: NeuralTalk
    average: NeuralTalk

    def __init__(self, how: Training) -> None:
        self.how = how
        self.device = torch.device(how.device)
        splits = read_data(Path(how.data), how.seed)
        self.examples = {n: getattr(splits, n) for n in ("train", "val", "test")}
        captions = [words for example in splits.train for words in example.captions]
        vocabulary = Vocabulary.count(captions, how.threshold)
        preprocess = Preprocess(size=(how.size, how.size))

        torch.manual_seed(how.seed)
        config = Config(
            how.cnn,
            vocabulary,
            preprocess,
            how.embedding,
            how.hidden,
            how.dropout_input,
            how.dropout_output,
        )
        model = NeuralTalk(config)
        if how.cnn_weights:
            model.encoder.load_weights(Path(how.cnn_weights))
        model = model.to(self.device).to(memory_format=torch.channels_last)
        self.cache = Path(how.out) / "cache"
        self.photos = {
            name: Photos([example.photo for example in examples], preprocess, self.cache)
            for name, examples in self.examples.items()
            if examples
        }
        self.tokens = [
            [vocabulary.tokens(words[:MAX_WORDS]) for words in example.captions]
            for example in splits.train
        ]
        self.naming = WordDetector(model.encoder.layer().shape[0], self.tokens, vocabulary)
        self.naming.to(self.device)
        self.features: dict[tuple[str, int], Tensor] = {}  # of a fixed CNN: by split and view
        super().__init__(
            model,
            Path(how.out),
            asdict(how),
            (how.cnn_epochs, how.epochs, how.reward_epochs),
            how.seed,
            how.weight_decay,
            {"naming": self.naming},
        )
        self.begin()

    # -- phases -----------------------------------------------------------------------------

    def make_phase(self, index: int) -> Phase:
        how = self.how
        if index == 0:
            return WithCnn(
                self.model,
                self.tokens,
                how.cnn_epochs,
                how.cnn_batch,
                how.cnn_lr,
                photos=self.photos["train"],
                views=how.views,
                first_size=how.first_size,
                pretrained=how.cnn_weights is not None,
                naming=self.naming,
                naming_weight=how.naming,
                precision=PRECISIONS[how.precision],
            )
        self._fix_cnn()
        views = [self.features["train", view] for view in range(how.views)]
        see = features_of(views, self.device)
        if index == 1:
            return FixedCnn(
                self.model,
                self.tokens,
                how.epochs,
                how.batch,
                how.lr,
                see=see,
                smoothing=how.smoothing,
                image_decay=how.image_decay,
            )
        return Rewarded(
            self.model,
            self.tokens,
            how.reward_epochs,
            how.batch,
            how.reward_lr,
            beams=how.beams,
            see=see,
            image_decay=how.image_decay,
        )

    def leave_phase(self, phase: Phase) -> None:
        """What was learned beside a CNN that kept changing is given up, and the image embedding
        starts from next to nothing: what random weights make of the background, which is the same
        on every photo, would never be unlearned, and be seen in the maps."""
        if not (isinstance(phase, WithCnn) and self.how.epochs):
            return  # a reward alone teaches nobody to write
        torch.manual_seed(self.how.seed)
        state = NeuralTalk(self.model.config).state_dict()
        nn.init.normal_(state["embed_image.weight"], std=1e-3)
        nn.init.zeros_(state["embed_image.bias"])
        own = self.model.state_dict()
        seen = {k: v for k, v in own.items() if k.startswith(("encoder.", "standardise."))}
        for model in (self.model, self.average):
            model.load_state_dict(state | seen)

    def _fix_cnn(self) -> None:
        """Fix the CNN, look at every photo once, and standardise what the CNN sees."""
        if self.features:
            return
        self.model.encoder.requires_grad_(False).eval()
        for name, photos in self.photos.items():
            # What is reported is of the captioner as it is used, so in float32.
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
        plain = self.features["train", 0]
        # Half the usual scale for a CNN that learned something else, and no unit that hardly ever
        # answers is blown up.
        unit = 1 if self.how.cnn_epochs else 2
        for model in (self.model, self.average):
            scale = model.standardise
            assert scale.running_mean is not None and scale.running_var is not None
            scale.running_mean.copy_(plain.mean(0))
            scale.running_var.copy_((unit * plain.std(0) + 1e-3).square())

    # -- captions and scores ----------------------------------------------------------------

    def validate(self) -> tuple[dict[str, Any], str]:
        scores = bleu(*self._write("val", 1))
        return {"val_bleu_greedy": scores}, f"validation BLEU-1..4 {_line(scores)} (greedy)"

    def _write(self, split: str, beams: int) -> tuple[list[list[str]], list[Any]]:
        """Captions of a split by the average model, and the references."""
        feature = self._seen(split)
        vocabulary = self.model.config.vocabulary
        captions = [
            vocabulary.text(caption.tokens)
            for part in feature.split(256)
            for caption in self.average.write(part.to(self.device), beams)
        ]
        examples: tuple[Example, ...] = self.examples[split]
        return captions, [example.captions for example in examples]

    def _seen(self, split: str) -> Tensor:
        """Features (N, F) of a split's photos as they are."""
        if (split, 0) in self.features:
            return self.features[split, 0]
        return features(self.average.encoder, self.photos[split], 0, 0, self.device)

    def _choose_length_power(self) -> None:
        """That of :data:`LENGTH_POWERS` whose beam search writes best of validation photos."""
        if self.how.beams == 1:
            return
        scores = []
        for power in LENGTH_POWERS:
            self.average.config = replace(self.average.config, length_power=power)
            scores.append(bleu(*self._write("val", self.how.beams))[3])
        best = LENGTH_POWERS[scores.index(max(scores))]
        self.average.config = replace(self.average.config, length_power=best)

    def finish(self) -> dict[str, Any]:
        for split in ("val", "test"):
            if self.examples[split]:
                self.features[split, 0] = self._seen(split)  # the CNN learns no more
        self._choose_length_power()
        scores = {
            split: {
                name: bleu(*self._write(split, beams))
                for name, beams in (("greedy", 1), (f"beam {self.how.beams}", self.how.beams))
            }
            for split in ("val", "test")
            if self.examples[split]
        }
        save(self.average, self.out, self.how.half)
        report = {"training": asdict(self.how), "epochs": self.history, "bleu": scores}
        with written(self.out / REPORT) as path:
            path.write_text(json.dumps(report, indent=1), "utf-8")
        for split, by_search in scores.items():
            for name, values in by_search.items():
                print(f"{split}, {name}: BLEU-1..4 {_line(values)}")
        return report


def _line(scores: tuple[float, ...]) -> str:
    return " ".join(f"{score:.3f}" for score in scores)
