"""Google's im2txt."""

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
from captioning.models.im2txt.model import Im2txt
from vlcam.attribution.encoding import encode
from vlcam.attribution.targets import Target, Term
from vlcam.photo.loading import load_photo

PIXEL = 1e-6
"""Largest absolute difference of preprocessed pixels, in -1..1."""

SPELLINGS = ("model_tf0.ckpt-12345", "model_tf10.ckpt-12345")
"""Checkpoints of the same model with the names of older versions of TensorFlow."""


def check(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, Im2txt)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    name = folder.name
    photo = load_photo(folder / "image.png")
    report.same(name, "photo", np.array_equal(np.asarray(photo), inputs["raw_hwc_uint8"]), True)
    pixels, _ = model.prepare(photo)
    original = inputs["preprocessed_nhwc"][0].transpose(2, 0, 1)
    report.number(name, "pixels", float(np.abs(pixels.numpy() - original).max()), PIXEL)
    features = encode(model, pixels[None])
    maps = expected["mixed_7c_nhwc"].transpose(0, 3, 1, 2)
    report.number(name, model.layer, relative(features.maps, maps), MAP)
    for layer in ("Conv2d_1a_3x3", "Mixed_5b", "Mixed_6a", "Mixed_6e", "Mixed_7b"):
        early = encode(vlcam.load(folder, layer), pixels[None]).maps
        found = torch.stack([early.mean(), early.std(correction=0)])
        report.number(
            name, f"{layer}, mean and std", relative(found, expected[f"ep_{layer}_mean_std"]), MAP
        )
    reading = model.read(" ".join(meta["caption"]))
    *tokens, end = meta["ids"][1:]
    report.same(name, "tokens of the caption", list(reading.prompt), tokens)  # type: ignore[call-overload]
    ended = (*tokens, end)
    for path in (folder, *(folder / spelling for spelling in SPELLINGS)):
        same = vlcam.load(path)
        assert isinstance(same, Im2txt)
        with torch.no_grad():
            states = same.teacher_force(features, torch.tensor([ended]))
            logits = same.module.logits(states)[0].numpy()
            scores = same.decode(features, [ended])[0].numpy()
        which = f"({same.name.partition('.')[0]})"
        difference = np.abs(logits - expected["logits"]).max()
        report.number(name, f"logits {which}", difference, LOG_PROBABILITY)
        difference = np.abs(scores - expected["target_logp_incl_end"]).max()
        report.number(name, f"log-probabilities {which}", difference, LOG_PROBABILITY)

    def target(*columns: int) -> Target:
        return Target("sum", (Term(1.0, ended, columns),))

    columns = range(len(tokens))  # an unknown word's too
    for what, asked in (
        ("gradcam_words_logp", [target(k) for k in columns]),
        ("gradcam_caption_noEND", [target(*columns)]),
        ("gradcam_caption_withEND", [target(*columns, len(tokens))]),
    ):
        report.maps(name, what, grad_cam(model, features, asked), expected[what])
    for what, captions in meta["beams"].items():
        beam, power = what.removeprefix("beam").split("_ln")
        found_captions = model.beam_search(features, int(beam), float(power))
        ours = [list(caption.tokens) for caption in found_captions]
        report.same(name, what, ours, [caption["ids"] for caption in captions])
        worst = max(
            abs(ours.score - theirs["score"])
            for ours, theirs in zip(found_captions, captions, strict=True)
        )
        report.number(name, f"{what}, scores", worst, LOG_PROBABILITY)
        if float(power) == 0:
            text = " ".join(word.text for word in model.generate(features, int(beam)))
            report.same(name, f"beam {beam}, written", text, captions[0]["text"])


CHECKS: dict[str, Check] = {"im2txt_tf": check}
