"""One small model in float64 for each kind of adapter, for tests that every adapter must pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.samples.families import own, packages, pretrained
from tests.samples.families.case import Case

ADAPTERS: dict[str, Callable[[Path], Case]] = {
    **packages.ADAPTERS,
    **own.ADAPTERS,
    **pretrained.ADAPTERS,
}
"""By name; the families registered under ``vlcam.models`` by theirs."""

ASKED = {
    "vqa-pytorch",
    "lstm-cnn",
    "lstm-cnn-torch7",
    "coattention",
    "coattention-parallel",
    "glimpses",
    "basic-vqa",
    "hiecoatt-torch7",
    "hiecoatt-torch7-residual",
    "coattention-pytorch",
    "vilt",
    "lxmert",
    "blip-vqa",
    "clip",
    "git",
    "llava",
    "qwen-vl",
    "smolvlm",
}
"""Those whose prompts are questions, or texts that are compared."""

CAPTIONED = sorted(set(ADAPTERS) - ASKED)
"""Those whose prompts are captions."""
