"""ViLT question answering of transformers, whose patches are in another order at every call."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

import vlcam
from benchmarks.oracle_checks.report import LOG_PROBABILITY, Check, Report, grad_cam
from vlcam.attribution.encoding import encode
from vlcam.attribution.targets import unit
from vqa.models.vilt import ViltAnswerer


def check(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, ViltAnswerer)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    name = folder.name
    asked = model.understand(json.loads((folder / "meta.json").read_text())["question"])
    tokens = list(asked.prompt)  # type: ignore[call-overload]
    report.same(name, "tokens of the question", tokens, inputs["question_ids"][0].tolist())
    features = encode(model, torch.from_numpy(inputs["pixel_values"]), [asked.prompt])
    with torch.no_grad():
        logits = model.decode(features, [asked.prompt])[0].numpy()
    for seed in (0, 1):
        original = expected[f"logits_seed{seed}"][0]
        difference = np.abs(logits - original).max()
        report.number(name, f"logits, seed {seed}", difference, LOG_PROBABILITY)
        best = model.read(asked).units[int(original.argmax())]
        what = f"gradcam_raster_seed{seed}"
        target = unit(model.read(asked), best, "logit")
        report.maps(name, what, grad_cam(model, features, [target]), expected[what])


CHECKS: dict[str, Check] = {"hf_vilt_vqa": check}
