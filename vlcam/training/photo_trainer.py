"""Training a model on photos: with its CNN first, then from the features of the fixed CNN."""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from vlcam.formats.world import LONGEST, check_name
from vlcam.geometry.cells import derive
from vlcam.networks import cnns, transformers_cnn
from vlcam.networks.encoder import Encoder
from vlcam.photo.preprocess import Preprocess
from vlcam.training import cnn_needs
from vlcam.training.photo_cache import KeptMaps, Part, Photos, See, Source, features_of
from vlcam.training.precision import (
    AUTO,
    PRECISIONS,
    autocast,
    check_precision,
    fastest_precision,
)
from vlcam.training.trainer import Schedule, Trainer, begun_with
from vlcam.training.world import TooFewError, know_world
from vlcam.utils.files.atomic import written

SPLITS = ("train", "val", "test")
REPORT = "report.json"
PUBLISHED = "published"
_FIRST_SHARE = 0.75  # of the epochs with the CNN, on photos of the first size


@dataclass(frozen=True)
class PhotoTraining:
    """The options of all trainings: what to train, on what, and how; ``vlcam train`` has them.

    Attributes:
        least: the least value of each option, by field.
        cnn: see :class:`vlcam.networks.encoder.Encoder`; or the folder of a CNN of transformers,
            whose weights are taken too unless ``cnn_weights`` names others, as are those of a
            package (:func:`vlcam.networks.cnns.begins_with_published`).
        cnn_weights: a file or folder; :data:`PUBLISHED`: what
            :func:`vlcam.networks.cnns.published` finds.
        precision: of the CNN; ``auto`` until the training begins: see
            :mod:`vlcam.training.precision`.
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
    world: str | None = None
    precision: str = AUTO
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
        check_precision(self.precision)
        if self.world:
            check_name("--world", self.world)
        if not any(schedule.epochs for schedule in self.schedules()):
            raise ValueError("--epochs 0: nothing to train")
        cnn_needs.check(
            cnn_epochs=self.cnn_epochs,
            pretrained=self.pretrained,
            cnn_fixed=self.cnn_fixed,
            first_size=self.first_size,
            sees=self.sees,
        )
        if self.first_size is not None and not 1 <= self.first_size <= self.size:
            raise ValueError(f"--first-size {self.first_size}: must be 1 to --size, {self.size}")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"--device {self.device}: torch sees no GPU here")

    def schedules(self) -> tuple[Schedule, ...]:
        """Of each phase: with the CNN, then with it fixed."""
        return (
            Schedule(self.cnn_epochs, self.cnn_batch, self.cnn_lr, self.cnn_decay),
            Schedule(self.epochs, self.batch, self.lr, self.weight_decay),
        )

    @property
    def sees(self) -> bool:
        """Whether the model is shown the photos."""
        return True

    @property
    def pretrained(self) -> bool:
        """Whether the CNN begins with given weights."""
        return self.cnn_weights is not None or cnns.begins_with_published(self.cnn)

    @property
    def keeps_maps(self) -> bool:
        """Whether a part of the CNN keeps its weights, and sees photos of one size, so that its
        maps are computed once."""
        return self.cnn_fixed is not None and self.first_size is None

    @property
    def preprocess(self) -> Preprocess:
        return cnns.preprocess(self.cnn, (self.size, self.size))


def _named(data: Path) -> str:
    """What the photos of a folder are called where nobody said."""
    name = f"photos of {data.resolve().name}"
    return "".join(char if char.isprintable() else " " for char in name)[:LONGEST]


class Views:
    """Random views of training photos, small ones in the first three quarters of the epochs; or of
    the maps of the layer up to which the CNN keeps its weights."""

    def __init__(self, source: Source, how: PhotoTraining) -> None:
        self._source, self._how = source, how
        self._small = False

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[list[int]]:
        """Batches of the places of all photos, in a random order."""
        self._small = epoch < _FIRST_SHARE * self._how.cnn_epochs
        order, size = rng.permutation(len(self._source)).tolist(), self._how.cnn_batch
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        # A photo left over alone has no batch statistics.
        return parts[:-1] if len(parts[-1]) == 1 < len(parts) else parts

    def __call__(self, rows: Sequence[int], rng: np.random.Generator) -> Tensor:
        """Normalised pixels (N, 3, H, W), or maps (N, K, u, v), all of one random view."""
        first = self._how.first_size if self._small else None
        size = (first, first) if first else None
        view = int(rng.integers(self._how.views))
        return self._source.batch(rows, view, rng, size=size).to(self._how.device)

    def halves(self, encoder: Encoder) -> tuple[nn.Module, nn.Module]:
        """From what these views give to the encoder's last maps, and from these to its feature."""
        before, after = encoder.split()
        if self._how.keeps_maps:
            assert self._how.cnn_fixed is not None
            before = encoder.between(self._how.cnn_fixed, encoder.default_layer)
        return before, after

    def autocast(self) -> torch.autocast:
        """The precision to train the CNN in."""
        return autocast(torch.device(self._how.device), PRECISIONS[self._how.precision])


class PhotoTrainer(Trainer):
    """The training of a model that has an ``encoder``, on photos in splits.

    Args:
        how: the options.
        examples: what is learned from, by split (:data:`SPLITS`; others and empty ones are left
            out); each has a ``photo``, the path of its file.
    """

    how: PhotoTraining
    model: Any
    average: Any

    def __init__(self, how: PhotoTraining, examples: Mapping[str, Sequence[Any]]) -> None:
        self.how, self.device = how, torch.device(how.device)
        self.examples = {split: examples[split] for split in SPLITS if examples.get(split)}
        torch.manual_seed(how.seed)
        model = self.make_model()
        helpers = self.make_helpers(model)
        if how.cnn_weights == PUBLISHED or (how.pretrained and not how.cnn_weights):
            model.encoder.load_published()
        elif how.cnn_weights:
            model.encoder.load_weights(Path(how.cnn_weights))
        if how.sees:  # maps whose cells have no known place could be learned from, not explained
            derive(model.encoder.split()[0], torch.empty(1, 3, how.size, how.size))
        if how.cnn_fixed:
            model.encoder.split(how.cnn_fixed)[0].requires_grad_(False)
        model = model.to(self.device).to(memory_format=torch.channels_last)
        self.how = how = replace(how, precision=self._precision(model.encoder))
        self._cache = Path(how.out) / "cache"
        self.paths = {split: self.photos_of(some) for split, some in self.examples.items()}
        self.photos = {
            split: Photos(some, how.preprocess, self._cache) for split, some in self.paths.items()
        }
        self.features: dict[tuple[str, int], Tensor] = {}  # of a fixed CNN: by split and view
        self._maps: dict[str, KeptMaps] = {}
        super().__init__(
            model,
            Path(how.out),
            options=asdict(how),
            schedules=how.schedules(),
            seed=how.seed,
            helpers=helpers,
        )
        self.begin()

    def _precision(self, encoder: nn.Module) -> str:
        """As asked; ``auto`` is what a killed training had, or else what is fastest here."""
        how = self.how
        if how.precision != AUTO:
            return how.precision
        if (begun := begun_with(Path(how.out))) is not None:
            return str(begun.get("precision", "float32"))
        if not how.sees:
            return "float32"
        size = (how.size, how.size)
        return fastest_precision(encoder, size, trained=how.cnn_epochs > 0)

    @abstractmethod
    def make_model(self) -> Any:
        """The model with random weights; those of the CNN are loaded where ``how`` names a file."""

    def make_helpers(self, model: Any) -> Mapping[str, nn.Module]:
        """Modules that are saved with the model, by name."""
        return {}

    def photos_of(self, examples: Sequence[Any]) -> list[Path]:
        """The photos of a split, in the order of their places."""
        return [example.photo for example in examples]

    @abstractmethod
    def measure(self, plain: Tensor) -> None:
        """Fit the standardisation of the fixed CNN's features to those of the training photos
        (N, F)."""

    @abstractmethod
    def finish(self) -> dict[str, Any]:
        """Save the average model and return the report."""

    def train(self) -> dict[str, Any]:
        """Run all epochs that are left, save the average model and return the report."""
        self.run()
        self.know_world()
        return self.finish()

    def know_world(self) -> None:
        """Let the average model know what its training photos look like, by those of ``test``, or
        else ``val``, as others of their kind; where there are too few of either, it does not."""
        held_out = self.paths.get("test") or self.paths.get("val", [])
        if not self.how.sees:
            return
        try:
            self.average.world = know_world(
                self.average.encoder,
                self.how.preprocess,
                self.paths["train"],
                held_out,
                world=self.how.world or _named(Path(self.how.data)),
                seed=self.how.seed,
            )
        except TooFewError as error:
            print(error, file=sys.stderr)

    def views(self) -> Views:
        """Random views of the training photos, while the CNN is trained."""
        return Views(self._source("train"), self.how)

    def _source(self, split: str) -> Source:
        """What the CNN that is trained is fed with: photos, or the maps of the part that is not."""
        if not self.how.keeps_maps:
            return self.photos[split]
        if split not in self._maps:
            self._maps[split] = KeptMaps(self.photos[split], self._fixed_part(split), self._cache)
        return self._maps[split]

    def _fixed_part(self, split: str) -> Part:
        """The part of the CNN up to the layer that ``cnn_fixed`` names."""
        encoder, layer = self.model.encoder, self.how.cnn_fixed
        before = encoder.split(layer)[0].eval()
        return self._part(before, encoder.layer(layer).shape, split, name=f"up to {layer}")

    def _part(self, run: nn.Module, shape: tuple[int, ...], split: str, name: str = "") -> Part:
        # What is reported is of the model as it is used, so in float32.
        kind = PRECISIONS[self.how.precision if split == "train" else "float32"]
        name = f"{self.how.cnn} {name}"
        return Part(run, shape, name=name, device=self.device, precision=kind, seed=self.how.seed)

    def see(self) -> See:
        """Features of training photos in random views, once the CNN is fixed."""
        if not self.features:
            self._fix_cnn()
        views = [self.features["train", view] for view in range(self.how.views)]
        return features_of(views, self.device)

    def _fix_cnn(self) -> None:
        """Fix the CNN and encode every photo once a view."""
        encoder = self.model.encoder.requires_grad_(False).eval()
        for split, photos in self.photos.items():
            # What is reported is of the model as it is used: from the photos.
            own = self.how.keeps_maps and split == "train"
            source = self._source(split) if own else photos
            halves = self.views().halves(encoder) if own else encoder.split()
            part = self._part(nn.Sequential(*halves), (encoder.feature_size,), split)
            for view in range(self.how.views if split == "train" else 1):
                file = part.kept_outputs(source, view, self._cache)
                self.features[split, view] = torch.from_numpy(np.load(file))
        self.measure(self.features["train", 0])

    def seen(self, split: str) -> Tensor:
        """Features (N, F) of a split's photos, in view 0, by the average model."""
        if (split, 0) in self.features:
            return self.features[split, 0]
        encoder = self.average.encoder
        run = nn.Sequential(*self.views().halves(encoder))
        part = self._part(run, (encoder.feature_size,), split)
        return part.outputs(self._source(split), 0)

    def write_report(self, **scores: Any) -> dict[str, Any]:
        """Write options (the precision that was used), the processor's instruction set, epochs and
        scores to ``report.json``, and return them."""
        processor = torch.backends.cpu.get_cpu_capability()
        report = {
            "training": asdict(self.how),
            "processor": processor,
            "epochs": self.history,
            **scores,
        }
        with written(self.out / REPORT) as path:
            path.write_text(json.dumps(report, indent=1, allow_nan=False), "utf-8")
        return report

    def stop_training(self) -> None:
        """Encode the photos of every split but ``train`` once for all scores to come."""
        for split in self.photos:
            if split != "train":
                self.features[split, 0] = self.seen(split)
