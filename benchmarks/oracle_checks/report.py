"""What checks of oracles share: comparisons, printed and remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlcam.adapters.adapter import Adapter, FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.targets import Target

LOG_PROBABILITY = 1e-5
"""Largest absolute difference of log-probabilities and logits."""

MAP = 1e-4
"""Largest difference of maps, relative to their largest value."""


@dataclass(frozen=True)
class Compared:
    """One comparison: of numbers (their difference, and the most it may be) or of anything else
    (whether it is the same)."""

    good: bool
    difference: float | None = None
    limit: float | None = None


@dataclass
class Report:
    """Prints each comparison and remembers them."""

    compared: list[Compared] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return not all(one.good for one in self.compared)

    def number(self, model: str, what: str, difference: float, limit: float) -> None:
        """A difference that may be at most ``limit``."""
        good = bool(difference <= limit)
        self.compared.append(Compared(good, float(difference), limit))
        self._print(model, what, f"{difference:.1e} (at most {limit:.0e})", good)

    def maps(self, model: str, what: str, ours: torch.Tensor, original: np.ndarray) -> None:
        """Maps against the original's, which may have other leading sizes."""
        self.number(model, what, relative(ours, original.reshape(ours.shape)), MAP)

    def same(self, model: str, what: str, ours: Any, original: Any) -> None:
        """Two things that must be equal."""
        same = bool(ours == original)
        self.compared.append(Compared(same))
        self._print(model, what, "same" if same else f"{ours} instead of {original}", same)

    def row(self) -> list[str]:
        """How many comparisons, the largest differences (of log-probabilities, logits and the like;
        of maps, relative), how many texts or tokens were the same, and whether all are good."""
        worst = []
        for relative_ones in (False, True):
            found = [
                one.difference
                for one in self.compared
                if one.difference is not None and (one.limit == MAP) == relative_ones
            ]
            worst.append(f"{max(found):.0e}" if found else "-")
        texts = [one.good for one in self.compared if one.difference is None]
        said = f"{sum(texts)} of {len(texts)}" if texts else "-"
        return [str(len(self.compared)), *worst, said, "no" if self.failed else "yes"]

    def _print(self, model: str, what: str, text: str, good: bool) -> None:
        print(f"{'ok  ' if good else 'FAIL'} {model:22} {what:34} {text}")


Check = Callable[[Path, Report], None]


def grad_cam(model: Adapter, features: FeatureMaps, targets: list[Target]) -> torch.Tensor:
    """Grad-CAM maps (T, u, v) of T targets."""
    return explain_at_layer(model, features, targets, methods.get("grad-cam"))[1]


def relative(ours: torch.Tensor, original: np.ndarray) -> float:
    """Largest difference, relative to the original's largest value (unless that is 0)."""
    return float(np.abs(ours.numpy() - original).max() / (np.abs(original).max() or 1.0))
