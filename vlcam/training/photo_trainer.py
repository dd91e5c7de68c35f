"""Training a model of photos: with its CNN first, then from the features of the CNN as it is."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from vlcam.networks import transformers_cnn
from vlcam.photo.preprocess import Preprocess
from vlcam.training.photo_cache import Photos, autocast, cached_features, features, features_of
from vlcam.training.trainer import Trainer
from vlcam.utils.atomic import written

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What a CNN may be trained in, by the name of the option."""

REPORT = "report.json"
_FIRST_SHARE = 0.75  # of the epochs with the CNN, on photos of the first size


@dataclass(frozen=True)
class PhotoTraining:
    """What all trainings share: what to train, on what, and how; see ``vlcam/train_options.py``.

    Attributes:
        least: the least value of each option, by field.
        cnn: see :class:`vlcam.networks.encoder.Encoder`; or the folder of a CNN of transformers,
            whose weights are taken too unless ``cnn_weights`` names others.
    """

    least: ClassVar[dict[str, float]] = {
        **dict.fromkeys(("size", "views", "threshold", "cnn_batch", "batch"), 1),
        **dict.fromkeys(("cnn_epochs", "epochs", "cnn_decay", "weight_decay"), 0),
    }

    data: str
    out: str
    cnn: str = "small"
    cnn_weights: str | None = None
    cnn_epochs: int = 0
    cnn_fixed: str | None = None
    cnn_batch: int = 32
    cnn_lr: float = 1e-3
    cnn_decay: float = 0.05
    size: int = 224
    first_size: int | None = None
    views: int = 1
    threshold: int = 1
    epochs: int = 10
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    seed: int = 0
    half: bool = False
    precision: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if transformers_cnn.is_one(Path(self.cnn)):
            folder = self.cnn
            object.__setattr__(self, "cnn", transformers_cnn.name_of(Path(folder)))
            object.__setattr__(self, "cnn_weights", self.cnn_weights or folder)
        for name, least in self.least.items():
            value = getattr(self, name)
            if value is not None and value < least:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} {value}: must be at least {least}")
        if self.precision not in PRECISIONS:
            known = " or ".join(PRECISIONS)
            raise ValueError(f"--precision {self.precision}: must be {known}")
        if not sum(self.phases()):
            raise ValueError("--epochs 0: nothing to train")
        if not self.cnn_epochs and self.cnn_weights is None and self.sees:
            raise ValueError("give --cnn-weights FILE, or train the CNN with --cnn-epochs N")
        if not self.cnn_epochs and self.first_size:
            raise ValueError("--first-size is about training the CNN: with --cnn-epochs")
        if self.cnn_fixed and not (self.cnn_epochs and self.cnn_weights):
            raise ValueError("--cnn-fixed is about training a CNN given with --cnn-weights")
        if self.first_size is not None and not 1 <= self.first_size <= self.size:
            raise ValueError(f"--first-size {self.first_size}: must be 1 to --size, {self.size}")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"--device {self.device}: torch sees no GPU here")

    def phases(self) -> tuple[int, ...]:
        """Epochs of each phase."""
        return self.cnn_epochs, self.epochs

    def weight_decays(self) -> tuple[float, ...]:
        """Weight decay in each phase."""
        return self.cnn_decay, *(self.weight_decay for _ in self.phases()[1:])

    @property
    def sees(self) -> bool:
        """Whether the model looks at the photos."""
        return True

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(size=(self.size, self.size))


class Views:
    """Random views of training photos, small ones in the first three quarters of the epochs."""

    def __init__(self, photos: Photos, how: PhotoTraining) -> None:
        self._photos, self._how = photos, how
        self._small = False

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[list[int]]:
        """Batches of the places of all photos, in a random order."""
        self._small = epoch < _FIRST_SHARE * self._how.cnn_epochs
        order, size = rng.permutation(len(self._photos)).tolist(), self._how.cnn_batch
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        # A photo left over alone has no batch statistics.
        return parts[:-1] if len(parts[-1]) == 1 < len(parts) else parts

    def __call__(self, rows: Sequence[int], rng: np.random.Generator) -> Tensor:
        """Normalised pixels (N, 3, H, W), all of one random view."""
        first = self._how.first_size if self._small else None
        size = (first, first) if first else None
        view = int(rng.integers(self._how.views))
        return self._photos.pixels(rows, view, rng, size).to(self._how.device)

    def autocast(self) -> torch.autocast:
        """The precision to train the CNN in."""
        return autocast(torch.device(self._how.device), PRECISIONS[self._how.precision])


class PhotoTrainer(Trainer):
    """A model with an ``encoder``, and the photos of each split.

    Args:
        how: the options.
        model: with the weights to begin from, but for the CNN's where ``how`` names a file.
        paths: of the photos, by split; ``train`` is one.
        helpers: see :class:`vlcam.training.trainer.Trainer`.
    """

    how: PhotoTraining
    model: Any
    average: Any

    def __init__(
        self,
        how: PhotoTraining,
        model: nn.Module,
        paths: Mapping[str, Sequence[Path]],
        helpers: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self.device = torch.device(how.device)
        encoder: Any = model.encoder
        if how.cnn_weights:
            encoder.load_weights(Path(how.cnn_weights))
        if how.cnn_fixed:
            encoder.split(how.cnn_fixed)[0].requires_grad_(False)
        model = model.to(self.device).to(memory_format=torch.channels_last)
        self.how, self._cache = how, Path(how.out) / "cache"
        self.photos = {n: Photos(some, how.preprocess, self._cache) for n, some in paths.items()}
        self.features: dict[tuple[str, int], Tensor] = {}  # of a fixed CNN: by split and view
        super().__init__(
            model, Path(how.out), asdict(how), how.phases(), how.seed, how.weight_decays(), helpers
        )
        self.begin()

    @abstractmethod
    def measure(self, plain: Tensor) -> None:
        """Standardise what the fixed CNN sees, from features (N, F) of the training photos."""

    def see(self) -> Callable[[Sequence[int], np.random.Generator], Tensor]:
        """Features of training photos in random views, once the CNN is fixed."""
        if not self.features:
            self._fix_cnn()
        views = [self.features["train", view] for view in range(self.how.views)]
        return features_of(views, self.device)

    def _fix_cnn(self) -> None:
        """Fix the CNN and look at every photo once."""
        how, encoder = self.how, self.model.encoder
        encoder.requires_grad_(False).eval()
        for name, photos in self.photos.items():
            # What is reported is of the model as it is used, so in float32.
            kind = PRECISIONS[how.precision if name == "train" else "float32"]
            for view in range(how.views if name == "train" else 1):
                self.features[name, view] = cached_features(
                    encoder, photos, view, how.seed, self.device, kind, self._cache
                )
        self.measure(self.features["train", 0])

    def seen(self, split: str) -> Tensor:
        """Features (N, F) of a split's photos as they are, by the average model."""
        if (split, 0) in self.features:
            return self.features[split, 0]
        return features(self.average.encoder, self.photos[split], 0, 0, self.device)

    def write_report(self, **scores: Any) -> dict[str, Any]:
        """What was done and what came of it, in ``report.json``."""
        report = {"training": asdict(self.how), "epochs": self.history, **scores}
        with written(self.out / REPORT) as path:
            path.write_text(json.dumps(report, indent=1), "utf-8")
        return report

    def stop_training(self) -> None:
        """From here on each photo is looked at once."""
        for split in self.photos:
            if split != "train":
                self.features[split, 0] = self.seen(split)
