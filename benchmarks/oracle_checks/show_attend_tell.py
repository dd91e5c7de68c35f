"""sgrvinod's Show, Attend and Tell."""

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
from captioning.models.show_attend_tell import POOL, ShowAttendTell
from vlcam.attribution.encoding import encode
from vlcam.attribution.targets import Target, Term

VARIANT = "state_dicts_variant.pth.tar"


def check(folder: Path, report: Report) -> None:
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    _, *tokens, end = meta["ids"]
    for file in (".", VARIANT):
        name = f"{folder.name} {file[:5]}"
        model = vlcam.load(folder / file)
        assert isinstance(model, ShowAttendTell)
        features = encode(model, torch.from_numpy(inputs["image"]))
        report.number(name, model.layer, relative(features.maps, expected["resnet_out"]), MAP)
        reading = model.read(" ".join(meta["caption"]))
        report.same(name, "tokens of the caption", list(reading.prompt), tokens)  # type: ignore[call-overload]
        ended = (*tokens, end)
        with torch.no_grad():
            states = model.teacher_force(features, torch.tensor([ended]))
            logits = model.module.decoder.fc(states).numpy()
            scores = model.decode(features, [ended])[0].numpy()
            alphas = model.attention(features, ended, (256, 256)).maps.flatten(1).numpy()
        for what, ours, original in (
            ("logits, all words", logits, expected["scores"]),
            ("log-probabilities, with <end>", scores, expected["logp_targets_incl_end"]),
            ("attention", alphas, expected["alphas"][0]),
        ):
            report.number(name, what, np.abs(ours - original).max(), LOG_PROBABILITY)
        for beam in (1, 2, 3, 5):
            own = [word.tokens[0] for word in model.generate(features, beam)]
            _, *original, _ = meta["beams"][str(beam)]
            report.same(name, f"beam {beam}", own, original)
            attention = model.attention(features, (*own, end), (256, 256)).maps.numpy()
            difference = np.abs(attention - expected[f"beam{beam}_alphas"][1:]).max()
            report.number(name, f"its attention, beam {beam}", difference, LOG_PROBABILITY)
        prompt = tuple(tokens)  # with the word it does not know, which we would not explain
        words = [Target(str(k), (Term(1.0, prompt, (k,)),)) for k in range(len(prompt))]
        caption = Target("caption", (Term(1.0, prompt, tuple(range(len(prompt)))),))
        for what, asked in (("gradcam8_words", words), ("gradcam8_caption_noEND", [caption])):
            report.maps(name, what, grad_cam(model, features, asked), expected[what])
        model = vlcam.load(folder / file, POOL)
        features = encode(model, torch.from_numpy(inputs["image"]))
        what = "gradcam14_words"
        report.maps(name, what, grad_cam(model, features, words), expected[what])


CHECKS: dict[str, Check] = {"sgrvinod": check}
