"""Training in phases, with a running average of the weights, that continues after a kill.

Every phase has a one-cycle learning rate and begins with the running average of the one before.
Every epoch's randomness follows from (seed, epoch) alone and the whole state is written after each,
so a killed run continues to the very weights it would have reached.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vlcam.formats.tensors import save_tensors
from vlcam.utils.files.atomic import recover, written
from vlcam.utils.messages.errors import one_line
from vlcam.utils.terminal import progress

STATE = "training.safetensors"


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a phase trains.

    Attributes:
        epochs: passes over the data.
        batch: examples a step.
        lr: the highest learning rate of the cycle.
        weight_decay: of AdamW.
    """

    epochs: int
    batch: int
    lr: float
    weight_decay: float


class Phase(ABC):
    """What is drawn for each step, and what it minimises.

    Attributes:
        schedule: how long and how fast it trains.
        measure: what the second value of :meth:`loss` is.
        keep: share of the running average of the weights that a step leaves.
        clip: the greatest norm of a step's gradient.
        fixed: beginning of the names of weights that stay as they are.
        decays: weight decays of parameters that have one of their own.
    """

    schedule: Schedule
    decays: Mapping[nn.Parameter, float] = MappingProxyType({})
    measure: ClassVar[str] = "loss"
    keep: ClassVar[float] = 0.998
    clip: ClassVar[float] = 5.0
    fixed: ClassVar[str | None] = None

    @abstractmethod
    def begin_epoch(self, epoch: int, rng: np.random.Generator) -> list[Any]:
        """Begin an epoch of the phase (0 is its first): its batches, in order."""

    @abstractmethod
    def loss(self, batch: Any, rng: np.random.Generator) -> tuple[Tensor, float]:
        """The value to minimise, and the value to report."""

    @abstractmethod
    def train_mode(self) -> None:
        """Set every module's mode for a step."""

    def helpers(self) -> Sequence[nn.Module]:
        """Modules that are trained besides the model."""
        return ()


class Trainer(ABC):
    """A model, the running average of its weights, and the optimizer.

    Args:
        model: to train.
        out: folder for the state.
        options: that a continued training must share, as JSON has them.
        schedules: of each phase; phases of no epoch are left out.
        seed: of everything random.
        helpers: modules that are saved with the model, by name.
    """

    def __init__(
        self,
        model: nn.Module,
        out: Path,
        *,
        options: Mapping[str, Any],
        schedules: Sequence[Schedule],
        seed: int,
        helpers: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self.model, self.out, self.options = model, out, dict(options)
        self.average = copy.deepcopy(model).eval()
        self.schedules, self.seed = list(schedules), seed
        self.epochs = [schedule.epochs for schedule in self.schedules]
        self.saved = {"model": self.model, "average": self.average, **(helpers or {})}
        self.epoch = 0
        self.history: list[dict[str, Any]] = []

    @abstractmethod
    def make_phase(self, index: int) -> Phase:
        """The phase of ``schedules[index]``."""

    @abstractmethod
    def validate(self) -> tuple[dict[str, Any], str]:
        """Scores of the average model after an epoch, for the report and in a line."""

    def leave_phase(self, phase: Phase) -> None:
        """Called when a phase is over and another will follow."""
        return

    def begin(self) -> None:
        """Resume from the state in ``out``, where there is one, and enter the phase."""
        optimizer = self._resume()
        self._enter_phase()
        if optimizer:
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": optimizer})

    def run(self) -> None:
        """All epochs that are left."""
        while self.epoch < sum(self.epochs):
            self.run_epoch()

    def run_epoch(self) -> None:
        phase, own_epoch = self.phase, self.epoch - self._phase_start
        torch.manual_seed(self.seed * 1_000_003 + self.epoch + 1)
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = phase.begin_epoch(own_epoch, rng)
        steps = phase.schedule.epochs * len(batches)
        values = []
        started = time.perf_counter()
        with progress.of(f"epoch {self.epoch + 1}, batches", len(batches), unit="batch") as work:
            for step, batch in enumerate(batches, start=own_epoch * len(batches) + 1):
                self._set_rate(step / steps)
                values.append(self._step(batch, rng))
                self._update_average(step)
                work.note(f"{phase.measure} {np.mean(values[-50:]):.3f}")
                work.advance()
        self.epoch += 1
        scores, line = self.validate()
        mean = float(np.mean(values))
        seconds = round(time.perf_counter() - started, 1)
        self.history.append(
            {"epoch": self.epoch, phase.measure: mean, **scores, "seconds": seconds}
        )
        with progress.aside():
            print(f"epoch {self.epoch}: {phase.measure} {mean:.3f}, {line}", flush=True)
        if own_epoch + 1 == phase.schedule.epochs and self.epoch < sum(self.epochs):
            self.model.load_state_dict(self.average.state_dict())
            self.leave_phase(phase)
            self._enter_phase()
        self._save_state()

    def _step(self, batch: Any, rng: np.random.Generator) -> float:
        """One step of the optimizer; the value to report."""
        phase = self.phase
        phase.train_mode()
        loss, value = phase.loss(batch, rng)
        if not math.isfinite(value):
            raise ValueError(
                f"epoch {self.epoch + 1}: the {phase.measure} is {value}; try a lower learning"
                " rate, or another precision"
            )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters(self.model), phase.clip)
        self.optimizer.step()
        return value

    def _enter_phase(self) -> None:
        """Set up the phase of the epoch to come (of the last, where all are done)."""
        starts = [sum(self.epochs[:i]) for i in range(len(self.epochs))]
        index = max(i for i, start in enumerate(starts) if self.epochs[i] and start <= self.epoch)
        self._phase_start = starts[index]
        self.phase = self.make_phase(index)
        self.model.zero_grad()  # of what is now fixed
        trained = [p for module in (self.model, *self.phase.helpers()) for p in parameters(module)]
        decays = self.phase.decays
        groups: list[dict[str, Any]] = [{"params": [p for p in trained if p not in decays]}]
        groups += [{"params": [p], "weight_decay": own} for p, own in decays.items()]
        schedule = self.phase.schedule
        self.optimizer = torch.optim.AdamW(groups, schedule.lr, weight_decay=schedule.weight_decay)

    def _set_rate(self, progress: float) -> None:
        """One cycle: up over a twentieth of the phase, down to zero along a cosine."""
        cycle = min(1.0, 20 * progress) * (1 + math.cos(math.pi * progress)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.phase.schedule.lr * cycle

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        weight = 1 - min(self.phase.keep, step / (step + 20))
        own = self.model.state_dict()
        for name, value in self.average.state_dict().items():
            if self.phase.fixed is not None and name.startswith(self.phase.fixed):
                continue  # -0.0, averaged with itself, is 0.0: other bytes, so another cache
            if value.is_floating_point():
                value.lerp_(own[name], weight)
            else:
                value.copy_(own[name])

    def _save_state(self) -> None:
        tensors = {
            f"{name}.{key}": value
            for name, module in self.saved.items()
            for key, value in module.state_dict().items()
        }
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{i}.{key}": value for key, value in state.items()})
        about = {
            "training": json.dumps(self.options, allow_nan=False),
            "epoch": str(self.epoch),
            "history": json.dumps(self.history, allow_nan=False),
        }
        with written(self.out / STATE) as path:
            save_tensors({k: v.cpu().contiguous() for k, v in tensors.items()}, path, about)

    def _resume(self) -> dict[int, dict[str, Tensor]]:
        """Load the state of a killed run, if there is one, and return the optimizer's part."""
        recover(self.out)
        path = self.out / STATE
        if not path.is_file():
            return {}
        about = _about(path)
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        before = json.loads(about["training"])
        other = [k for k, v in self.options.items() if v != before.get(k) and k != "out"]
        if other:
            raise ValueError(
                f"{path}: a training with other options ({', '.join(other)}); "
                "choose another --out, or delete it to start anew"
            )
        self.epoch, self.history = int(about["epoch"]), json.loads(about["history"])
        for name, module in self.saved.items():
            module.load_state_dict(_part(tensors, f"{name}."))
        print(f"continuing after epoch {self.epoch}", file=sys.stderr)
        optimizer: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimizer.").items():
            i, name = key.split(".")
            optimizer.setdefault(int(i), {})[name] = value
        return optimizer


def begun_with(out: Path) -> dict[str, Any] | None:
    """The options of the training whose state is in that folder; None where there is none."""
    path = out / STATE
    if not path.is_file():
        return None
    options: dict[str, Any] = json.loads(_about(path)["training"])
    return options


def _about(path: Path) -> Mapping[str, str]:
    """What :meth:`Trainer._save_state` wrote beside the tensors, which are seen to be whole.

    Raises ValueError for any other file, or a damaged one.
    """
    try:
        with safe_open(path, "pt") as file:
            about: dict[str, str] = file.metadata() or {}
        if missing := {"training", "epoch", "history"} - about.keys():
            raise ValueError(f"it lacks {min(missing)!r}")
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path}: not the state of a training, or a damaged one ({one_line(error)}); "
            "choose another --out, or delete it to start anew"
        ) from error
    return about


def parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that are trained."""
    return [p for p in module.parameters() if p.requires_grad]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
