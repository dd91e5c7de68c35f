"""The two phases that all our trainings share: with the CNN, then with the CNN fixed.

A subclass says what is learned: the batches of an epoch, and the loss of a batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from vlcam.training.photo_cache import See
from vlcam.training.photo_trainer import Views
from vlcam.training.trainer import Phase, Schedule


class PhotoPhase(Phase):
    """A phase over photos, which are numbered from 0.

    Args:
        model: with an ``encoder``.
        schedule: how long and how fast it is trained.
        kept: modules of the model that stay in eval mode.
    """

    model: Any

    def __init__(self, model: nn.Module, schedule: Schedule, kept: Sequence[nn.Module]) -> None:
        self.model, self.schedule, self._kept = model, schedule, kept

    def train_mode(self) -> None:
        self.model.train()
        for module in self._kept:
            module.eval()

    @abstractmethod
    def encode(self, rows: Sequence[int], rng: np.random.Generator) -> Tensor:
        """Image features (N, F) in float32 of those photos, each in a random view."""


class WithCnn(PhotoPhase):
    """The CNN is trained as well, on each photo once an epoch.

    Args:
        model, schedule: see :class:`PhotoPhase`; its batches are of photos.
        views: of the training photos.
        pretrained: whether the CNN's own batch normalisation stays as it is: the statistics of a
            few photos would undo that of a pretrained network.

    Attributes:
        before, after: from what the views give to the CNN's last maps, and on to its feature.
    """

    def __init__(self, model: Any, schedule: Schedule, *, views: Views, pretrained: bool) -> None:
        super().__init__(model, schedule, (model.encoder,) if pretrained else ())
        self.views = views
        self.before, self.after = views.halves(model.encoder)

    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[Any]:
        return self.views.begin_epoch(epoch, rng)

    def encode(self, rows: Sequence[int], rng: np.random.Generator) -> Tensor:
        with self.views.autocast():
            feature: Tensor = self.after(self.before(self.views(rows, rng)))
        return feature.float()


class FixedCnn(PhotoPhase):
    """The CNN's features are given; it stays as it is.

    Args:
        model, schedule: see :class:`PhotoPhase`.
        see: the features of photos.

    Attributes:
        kept: names of the model's parts that stay in eval mode.
    """

    fixed = "encoder."
    kept: ClassVar[tuple[str, ...]] = ("encoder", "standardise")

    def __init__(self, model: nn.Module, schedule: Schedule, *, see: See) -> None:
        super().__init__(model, schedule, [model.get_submodule(name) for name in self.kept])
        self.see = see

    def encode(self, rows: Sequence[int], rng: np.random.Generator) -> Tensor:
        return self.see(rows, rng)
