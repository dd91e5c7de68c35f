"""MLB and MUTAN models of Cadene's vqa.pytorch, from features."""

from __future__ import annotations

import json
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
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.targets import Target, Term
from vqa.models.vqa_pytorch.model import VqaPyTorch


def check(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, VqaPyTorch)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    name = folder.name
    report.same(name, "words", list(model.config.words), meta["words"])
    report.same(name, "answers", list(model.answers), meta["answers"])
    features = FeatureMaps(torch.from_numpy(inputs["features"]))
    questions = [tuple(row) for row in inputs["q"].tolist()]
    with torch.no_grad():
        vectors = model.module.answerer.encode(questions).numpy()
        logits = model.decode(features, questions).numpy()
    difference = np.abs(vectors - expected["q_vec"]).max()
    report.number(name, "questions' vectors", difference, LOG_PROBABILITY)
    report.number(name, "logits", np.abs(logits - expected["logits"]).max(), LOG_PROBABILITY)
    for row, question in enumerate(questions):
        text = " ".join(meta["words"][token - 1] for token in question if token)
        read = model.understand(text).prompt
        report.same(name, f"question {row} as it is read", read, tuple(t for t in question if t))
        one, best = features.one(row), int(logits[row].argmax())
        asked = [Target(meta["answers"][best], (Term(1.0, question, (best,)),))]
        report.maps(name, f"map {row}", grad_cam(model, one, asked), expected["gradcam"][row])
        own = model.attention(one, question, (448, 448))
        if own is not None:
            wanted = expected["attention"][row].reshape(own.maps.shape)
            report.number(name, f"attention {row}", relative(own.maps, wanted), MAP)


CHECKS: dict[str, Check] = {"cadene_noatt_mlb": check, "cadene_att_mutan": check}
