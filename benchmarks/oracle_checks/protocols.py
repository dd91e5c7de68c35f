"""Protocols, not models: TorchRay's pointing game, and the official accuracy of VQA."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.oracle_checks.report import Check, Report
from vlcam.metrics.estimates import mean_by_class
from vlcam.metrics.pointing import points_at
from vqa.data.accuracy import accuracy, normalised


def pointing_game(folder: Path, report: Report) -> None:
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    cases = list(zip(inputs["masks_padded"], inputs["h_w_u_v_class"].tolist(), strict=True))
    hits = {
        # TorchRay says 1 for a hit and -1 for a miss; its tolerance of 0 never hits, ours is the
        # pixel itself, which is its tolerance of 1.
        tolerance: [points_at(mask[:h, :w], (u, v), tolerance) for mask, (h, w, u, v, _) in cases]
        for tolerance in (0, 1, 15)
    }
    for ours, theirs in ((15, "hit15"), (1, "hit_tol1"), (0, "hit_tol1")):
        original = (expected[theirs] > 0).tolist()
        report.same(folder.name, f"hits, tolerance {ours}", hits[ours], original)
    # Its mean is over all classes, one without a case counting 0; ours over those that occur.
    classes = [case[4] for _, case in cases]
    values = [float(hit) for hit in hits[15]]
    seen = len(set(classes)) / len(expected["class_accuracies"])
    difference = abs(mean_by_class(values, classes) * seen - float(expected["accuracy"]))
    report.number(folder.name, "mean over classes", difference, 1e-12)


def vqa_eval(folder: Path, report: Report) -> None:
    name = folder.name
    strings = json.loads((folder / "normalise.json").read_text())["strings"]
    ours = [normalised(case["in"]) for case in strings]
    report.same(name, f"{len(strings)} answers normalised", ours, [c["both"] for c in strings])
    given = {
        str(note["question_id"]): [answer["answer"] for answer in note["answers"]]
        for note in json.loads((folder / "mscoco_val2014_annotations.json").read_text())[
            "annotations"
        ]
    }
    results = json.loads((folder / "results.json").read_text())
    scores = {
        str(result["question_id"]): accuracy(result["answer"], given[str(result["question_id"])])
        for result in results
    }
    expected = json.loads((folder / "expected.json").read_text())
    rounded = {key: round(100 * value, 2) for key, value in scores.items()}
    report.same(name, "accuracy of each question", rounded, expected["evalQA"])
    overall = round(100 * sum(scores.values()) / len(scores), 2)
    report.same(name, "accuracy over all", overall, expected["accuracy"]["overall"])


CHECKS: dict[str, Check] = {"pointing_game": pointing_game, "vqa_eval": vqa_eval}
