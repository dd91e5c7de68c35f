"""FC models of ImageCaptioning.pytorch and neuraltalk2.pytorch."""

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
from captioning.models.neuraltalk.neuraltalk2_pytorch import NeuralTalk2PyTorch
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.encoding import encode
from vlcam.attribution.targets import Target, Term


def check(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, NeuralTalk2PyTorch)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    name = folder.name
    if "image" in inputs:
        features = encode(model, torch.from_numpy(inputs["image"]))
        report.number(name, "layer 7", relative(features.maps, expected["layer4"]), MAP)
    else:
        features = FeatureMaps(torch.from_numpy(inputs["fc_feats"])[:, :, None, None])
    differences = []
    for row, labels in enumerate(inputs["labels"]):
        one = features.rows(torch.tensor([row]))
        tokens = [int(token) for token in labels if token]
        wanted = expected["logprobs"][row][: len(tokens) + 1]
        with torch.no_grad():
            states = model.teacher_force(one, torch.tensor([[*tokens, 0]]))
            ours = model.log_probabilities(states)[0].numpy()
        differences.append(np.abs(ours - wanted).max())
        for beam in (1, 2, 3, 5):
            text = " ".join(word.text for word in model.generate(one, beam))
            report.same(
                name, f"caption {row}, beam {beam}", text, meta["texts"][f"beam{beam}"][row]
            )
    report.number(name, "log-probabilities, all words", max(differences), LOG_PROBABILITY)
    if "gradcam_words" in expected:
        prompt = tuple(meta["ids"])
        words = [Target(str(k), (Term(1.0, prompt, (k,)),)) for k in range(len(prompt))]
        caption = Target("caption", (Term(1.0, prompt, tuple(range(len(prompt)))),))
        end = Target("end", (Term(1.0, (*prompt, 0), tuple(range(len(prompt) + 1))),))
        for what, asked in (
            ("gradcam_words", words),
            ("gradcam_caption_sumlogp_noEND", [caption]),
            ("gradcam_caption_sumlogp_withEND", [end]),
        ):
            report.maps(name, what, grad_cam(model, features, asked), expected[what])


CHECKS: dict[str, Check] = {
    "ruotianluo_fc": check,
    "ruotianluo_show_tell": check,
    "ruotianluo_ft_fc": check,
}
