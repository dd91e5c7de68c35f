"""Vision encoders and text decoders of transformers."""

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
from captioning.models.vision_encoder_decoder import VisionEncoderDecoder
from vlcam.attribution.encoding import encode
from vlcam.attribution.targets import units, whole


def check(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, VisionEncoderDecoder)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    name = folder.name
    features = encode(model, torch.from_numpy(inputs["pixel_values"]))
    patches = expected["A"][:, 1:].swapaxes(1, 2).reshape(features.maps.shape)
    report.number(name, model.layer, relative(features.maps, patches), MAP)
    reading = model.read(meta["caption"])
    tokens = inputs["labels"][0].tolist()
    report.same(name, "tokens of the caption", list(reading.prompt), tokens[:-1])  # type: ignore[call-overload]
    groups = [list(unit.scores) for unit in reading.units]
    report.same(name, "tokens of each word", groups, meta["word_groups"])
    with torch.no_grad():
        scores = model.decode(features, [tuple(tokens)])[0].numpy()
    difference = np.abs(scores - expected["token_logp"][0]).max()
    report.number(name, "log-probabilities, all tokens", difference, LOG_PROBABILITY)
    wanted = expected["gradcam_words"]
    report.maps(name, "gradcam_words", grad_cam(model, features, units(reading)), wanted)
    wanted = expected["gradcam_caption"]
    report.maps(name, "gradcam_caption", grad_cam(model, features, [whole(reading)]), wanted)
    for what, beam in (("greedy_ids", 1), ("beam3_ids", 3)):
        original = expected[what][0][1:].tolist()
        settings = model.module.generation_config
        settings.max_new_tokens = len(original)  # as many as the original was let write
        if (end := settings.eos_token_id) in original:
            original = original[: original.index(end)]
        report.same(name, what, list(model.write(features, beam).prompt), original)  # type: ignore[call-overload]


CHECKS: dict[str, Check] = {"hf_vision_encoder_decoder_vit_gpt2": check}
