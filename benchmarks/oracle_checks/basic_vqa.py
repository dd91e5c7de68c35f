"""tbmoon's basic_vqa."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

import vlcam
from benchmarks.oracle_checks.report import (
    LOG_PROBABILITY,
    MAP,
    Check,
    Report,
    grad_cam,
    relative,
)
from vlcam.attribution.encoding import encode
from vlcam.attribution.targets import unit
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.basic_vqa import BasicVqa


def check(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    _compare(folder.name, folder, model, report)
    with tempfile.TemporaryDirectory() as saved:
        model.save(Path(saved))
        _compare("  saved", folder, vlcam.load(saved), report)


def _compare(name: str, folder: Path, model: vlcam.Adapter, report: Report) -> None:
    assert isinstance(model, CnnAnswerer) and isinstance(model.module, BasicVqa)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    features = encode(model, torch.from_numpy(inputs["image"]))
    report.number(name, model.layer, relative(features.maps, expected["relu5_4"]), MAP)
    logits, asked, answers = [], [], []
    for text, tokens in zip(meta["questions"], inputs["question_ids"], strict=True):
        question = model.understand(text)
        report.same(name, f"tokens: {text}", question.prompt, tuple(tokens.tolist()))
        with torch.no_grad():
            logits.append(model.decode(features, [question.prompt])[0].numpy())
        answers.append(model.answers[int(logits[-1].argmax())])
        reading = model.read(question, answers[-1:])
        asked.append(unit(reading, reading.units[0], "logit"))
    report.number(name, "logits", np.abs(logits - expected["logits"]).max(), LOG_PROBABILITY)
    report.same(name, "answers", answers, meta["answers"])
    for constant, what in ((False, "true_gradient"), (True, "detached_norm")):
        model.module.constant_norm = constant
        wanted = expected[f"gradcam_relu5_4_{what}"]
        report.maps(name, f"gradcam_relu5_4_{what}", grad_cam(model, features, asked), wanted)
    model.module.constant_norm = False


CHECKS: dict[str, Check] = {"basic_vqa": check}
