"""yunjey's captioner."""

from __future__ import annotations

import json
from itertools import takewhile
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
from captioning.models.tutorial_captioner import TutorialCaptioner
from vlcam.attribution.encoding import encode
from vlcam.attribution.targets import Target, Term


def check(folder: Path, report: Report) -> None:
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    name = folder.name
    _, *tokens, _ = inputs["captions"][0].tolist()
    text = " ".join(meta["caption"])
    for file in (".", "encoder-5-3000.pkl", "decoder-5-3000.ckpt"):
        model = vlcam.load(folder / file)
        assert isinstance(model, TutorialCaptioner)
        read = list(model.read(text).prompt)  # type: ignore[call-overload]
        report.same(name, f"tokens of the caption ({file})", read, tokens)
    assert isinstance(model, TutorialCaptioner)
    features = encode(model, torch.from_numpy(inputs["image"]))
    report.number(name, "resnet.7", relative(features.maps, expected["layer4"]), MAP)
    caption = inputs["captions"][0, 1:]
    with torch.no_grad():
        states = model.teacher_force(features, torch.from_numpy(caption[None]))
        ours = model.log_probabilities(states)[0]
        scores = model.decode(features, [tuple(caption.tolist())])[0]
    theirs = torch.from_numpy(expected["teacher_logits"][1:]).log_softmax(1)
    difference = float((ours - theirs).abs().max())
    report.number(name, "log-probabilities, all words", difference, LOG_PROBABILITY)
    difference = np.abs(scores.numpy() - expected["teacher_logp_of_targets"][1:]).max()
    report.number(name, "log-probabilities of the caption", difference, LOG_PROBABILITY)
    original = [w for w in takewhile(lambda w: w != "<end>", meta["sampled"]) if w != "<start>"]
    report.same(name, "greedy", [word.text for word in model.generate(features)], original)
    prompt = tuple(tokens)
    words = [Target(str(k), (Term(1.0, prompt, (k,)),)) for k in range(len(prompt))]
    whole = Target("caption", (Term(1.0, prompt, tuple(range(len(prompt)))),))
    ended = tuple(caption.tolist())
    end = Target("end", (Term(1.0, ended, tuple(range(len(ended)))),))
    for what, asked in (
        ("gradcam_words", words),
        ("gradcam_caption_noEND", [whole]),
        ("gradcam_caption_withEND", [end]),
    ):
        report.maps(name, what, grad_cam(model, features, asked), expected[what])


CHECKS: dict[str, Check] = {"yunjey": check}
