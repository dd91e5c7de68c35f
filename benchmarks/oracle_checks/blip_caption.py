"""BLIP captioning of transformers."""

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
from captioning.models.blip import BlipCaptioner
from vlcam.attribution.encoding import encode
from vlcam.attribution.targets import units, whole


def check(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, BlipCaptioner)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    name = folder.name
    features = encode(model, torch.from_numpy(inputs["pixel_values"]))
    patches = expected["A"][:, 1:].swapaxes(1, 2).reshape(features.maps.shape)
    report.number(name, model.layer, relative(features.maps, patches), MAP)
    reading = model.read(meta["caption"])
    tokens = inputs["input_ids"][0][1:]
    report.same(name, "tokens of the caption", list(reading.prompt), tokens[:-1].tolist())  # type: ignore[call-overload]
    groups = [[column + 1 for column in unit.scores] for unit in reading.units]
    report.same(name, "tokens of each word", groups, meta["word_groups"])
    with torch.no_grad():
        scores = model.decode(features, [tuple(tokens.tolist())])[0].numpy()
    difference = np.abs(scores - expected["token_logp"][0]).max()
    report.number(name, "log-probabilities, all tokens", difference, LOG_PROBABILITY)
    wanted = expected["gradcam_words"]
    report.maps(name, "gradcam_words", grad_cam(model, features, units(reading)), wanted)
    wanted = expected["gradcam_caption"]
    report.maps(name, "gradcam_caption", grad_cam(model, features, [whole(reading)]), wanted)
    settings = model.module.text_decoder.generation_config
    for what, beam, prompt in (
        ("greedy_ids", 1, None),
        ("beam3_ids", 3, None),
        ("greedy_prompt_ids", 1, inputs["prompt_ids"][0][1:-1]),
    ):
        original = expected[what][0][1:].tolist()
        given = 0 if prompt is None else len(prompt)
        model.prompt = "" if prompt is None else model.tokenizer.decode(prompt)
        settings.max_new_tokens = len(original) - given  # as many as the original was let write
        end = model.module.config.text_config.sep_token_id
        original = original[: original.index(end)] if end in original else original
        report.same(name, what, list(model.write(features, beam).prompt), original)  # type: ignore[call-overload]


CHECKS: dict[str, Check] = {"hf_blip_caption": check}
