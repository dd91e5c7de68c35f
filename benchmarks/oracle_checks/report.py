"""What checks of oracles share: comparisons, printed and remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlcam import methods
from vlcam.adapter import Adapter, FeatureMaps
from vlcam.engine import explain_at_layer
from vlcam.targets import Target

LOG_PROBABILITY = 1e-5
"""Largest absolute difference of log-probabilities and logits."""

MAP = 1e-4
"""Largest difference of maps, relative to their largest value."""


@dataclass
class Report:
    """Prints each comparison and remembers whether one failed."""

    failed: bool = False

    def number(self, model: str, what: str, difference: float, limit: float) -> None:
        self._line(model, what, f"{difference:.1e} (at most {limit:.0e})", difference <= limit)

    def same(self, model: str, what: str, ours: Any, original: Any) -> None:
        same = ours == original
        self._line(model, what, "same" if same else f"{ours} instead of {original}", same)

    def _line(self, model: str, what: str, text: str, good: bool) -> None:
        self.failed |= not good
        print(f"{'ok  ' if good else 'FAIL'} {model:22} {what:34} {text}")


Check = Callable[[Path, Report], None]


def check_maps(
    name: str,
    model: Adapter,
    features: FeatureMaps,
    asked: list[Target],
    expected: np.ndarray,
    what: str,
    report: Report,
) -> None:
    """Grad-CAM maps of targets against the oracle's (any leading sizes)."""
    _, maps = explain_at_layer(model, features, asked, methods.get("grad-cam"))
    report.number(name, what, relative(maps, expected.reshape(maps.shape)), MAP)


def relative(ours: torch.Tensor, original: np.ndarray) -> float:
    """Largest difference, relative to the original's largest value (unless that is 0)."""
    return float(np.abs(ours.numpy() - original).max() / (np.abs(original).max() or 1.0))
