"""``vlcam train captioner``: train a NeuralTalk captioner on captioned photos.

Up to three phases (``captioning/phases.py``), each with a one-cycle learning rate: with the CNN,
with the CNN fixed, and for a reward. Each begins with the running average of the weights of the
one before; what is saved is the running average.

Every epoch's randomness follows from (seed, epoch) alone and the whole state is written after each,
so a killed run continues to the very weights it would have reached.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from captioning.bleu import bleu
from captioning.data import Example, read_data
from captioning.neuraltalk import Config, NeuralTalk, save
from captioning.phases import (
    MAX_WORDS,
    FixedCnn,
    Phase,
    Rewarded,
    WithCnn,
    features_of,
    parameters,
)
from captioning.photo_cache import Photos, cached_features, features
from captioning.vocabulary import Vocabulary
from captioning.word_detector import WordDetector
from vlcam.preprocess import Preprocess
from vlcam.writing import written

STATE = "training.safetensors"
REPORT = "report.json"
LENGTH_POWERS = (0.0, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0)
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
    while trainer.epoch < trainer.last_epoch:
        trainer.run_epoch()
    return trainer.finish()


class _Trainer:
    """The captioner, its running average, the optimizer and the data they meet."""

    def __init__(self, how: Training) -> None:
        self.how = how
        self.out = Path(how.out)
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
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.cache = self.out / "cache"
        self.photos = {
            name: Photos([example.photo for example in examples], preprocess, self.cache)
            for name, examples in self.examples.items()
            if examples
        }
        self.tokens = [
            [vocabulary.tokens(words[:MAX_WORDS]) for words in example.captions]
            for example in splits.train
        ]
        self.average = copy.deepcopy(self.model).eval()
        self.naming = WordDetector(self.model.encoder.layer().shape[0], self.tokens, vocabulary)
        self.naming.to(self.device)
        self.features: dict[tuple[str, int], Tensor] = {}  # of a fixed CNN: by split and view
        self.last_epoch = how.cnn_epochs + how.epochs + how.reward_epochs
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        optimizer_state = self._resume()
        self._enter_phase()
        if optimizer_state:
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": optimizer_state})

    # -- phases -----------------------------------------------------------------------------

    def _enter_phase(self) -> None:
        """Set up the phase of the epoch to come (of the last, where all are done)."""
        how = self.how
        phases = (how.cnn_epochs, how.epochs, how.reward_epochs)
        kind, start = max(
            (i, sum(phases[:i])) for i in range(3) if phases[i] and sum(phases[:i]) <= self.epoch
        )
        self.phase_start = start
        if kind == 0:
            self.phase: Phase = WithCnn(
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
        else:
            self._fix_cnn()
            views = [self.features["train", view] for view in range(how.views)]
            see = features_of(views, self.device)
            if kind == 1:
                self.phase = FixedCnn(
                    self.model,
                    self.tokens,
                    how.epochs,
                    how.batch,
                    how.lr,
                    see=see,
                    smoothing=how.smoothing,
                )
            else:
                self.phase = Rewarded(
                    self.model,
                    self.tokens,
                    how.reward_epochs,
                    how.batch,
                    how.reward_lr,
                    beams=how.beams,
                    see=see,
                )
        self.model.zero_grad()  # of a CNN that is now fixed
        image = self.model.embed_image.weight
        trained = parameters(self.model) + (parameters(self.naming) if kind == 0 else [])
        groups: list[dict[str, Any]] = [{"params": [p for p in trained if p is not image]}]
        if kind == 0 or how.image_decay is None:
            groups = [{"params": trained}]
        else:
            groups.append({"params": [image], "weight_decay": how.image_decay})
        self.optimizer = torch.optim.AdamW(groups, self.phase.lr, weight_decay=how.weight_decay)

    def _begin_language_anew(self) -> None:
        """What was learned beside a CNN that kept changing is given up, and the image embedding
        starts from next to nothing: what random weights make of the background, which is the same
        on every photo, would never be unlearned, and be seen in the maps."""
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

    # -- one epoch --------------------------------------------------------------------------

    def run_epoch(self) -> None:
        phase, own_epoch = self.phase, self.epoch - self.phase_start
        torch.manual_seed(self.how.seed * 1_000_003 + self.epoch + 1)
        rng = np.random.default_rng([self.how.seed, self.epoch])
        batches = phase.begin_epoch(own_epoch, rng)
        steps = phase.epochs * len(batches)
        values = []
        started = time.perf_counter()
        bar = tqdm(batches, f"epoch {self.epoch + 1}", unit="batch", mininterval=1)
        for step, batch in enumerate(bar, start=own_epoch * len(batches) + 1):
            phase.train_mode()
            self._set_rate(step / steps)
            loss, value = phase.loss(batch, rng)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters(self.model), phase.clip)
            self.optimizer.step()
            self._update_average(step)
            values.append(value)
            bar.set_postfix({phase.measure: f"{np.mean(values[-50:]):.3f}"})
        self.epoch += 1
        scores = bleu(*self._write("val", 1))
        self.history.append(
            {
                "epoch": self.epoch,
                phase.measure: float(np.mean(values)),
                "val_bleu_greedy": scores,
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
        tqdm.write(
            f"epoch {self.epoch}: {phase.measure} {np.mean(values):.3f}, "
            f"validation BLEU-1..4 {_line(scores)} (greedy)"
        )
        if own_epoch + 1 == phase.epochs and self.epoch < self.last_epoch:
            self.model.load_state_dict(self.average.state_dict())
            if isinstance(phase, WithCnn):
                self._begin_language_anew()
            self._enter_phase()
        self._save_state()

    def _set_rate(self, progress: float) -> None:
        """One cycle: up over a twentieth of the phase, down to zero along a cosine."""
        cycle = min(1.0, 20 * progress) * (1 + math.cos(math.pi * progress)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.phase.lr * cycle

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        weight = 1 - min(self.phase.keep, step / (step + 20))
        own = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if self.features and name.startswith("encoder."):
                continue  # fixed; and -0.0, averaged with itself, is 0.0: other bytes, other cache
            if value.is_floating_point():
                value.lerp_(own[name], weight)
            else:
                value.copy_(own[name])

    # -- captions and scores ----------------------------------------------------------------

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

    # -- stopping and going on --------------------------------------------------------------

    def _save_state(self) -> None:
        tensors = {
            **{f"model.{k}": v for k, v in self.model.state_dict().items()},
            **{f"average.{k}": v for k, v in self.average.state_dict().items()},
            **{f"naming.{k}": v for k, v in self.naming.state_dict().items()},
        }
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{i}.{k}": v for k, v in state.items()})
        about = {
            "training": json.dumps(asdict(self.how)),
            "epoch": str(self.epoch),
            "history": json.dumps(self.history),
        }
        with written(self.out / STATE) as path:
            save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, path, about)

    def _resume(self) -> dict[int, dict[str, Tensor]]:
        """Load what a killed run left, if anything, and return the optimizer's part."""
        path = self.out / STATE
        if not path.is_file():
            return {}
        with safe_open(path, "pt") as file:
            about = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        before, now = json.loads(about["training"]), asdict(self.how)
        other = [name for name in now if now[name] != before.get(name) and name != "out"]
        if other:
            raise ValueError(
                f"{path}: a training with other options ({', '.join(other)}); "
                "choose another --out, or delete it to start anew"
            )
        self.epoch, self.history = int(about["epoch"]), json.loads(about["history"])
        self.model.load_state_dict(_part(tensors, "model."))
        self.average.load_state_dict(_part(tensors, "average."))
        self.naming.load_state_dict(_part(tensors, "naming."))
        print(f"continuing after epoch {self.epoch}", file=sys.stderr)
        optimizer: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimizer.").items():
            i, name = key.split(".")
            optimizer.setdefault(int(i), {})[name] = value
        return optimizer


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _line(scores: tuple[float, ...]) -> str:
    return " ".join(f"{score:.3f}" for score in scores)
