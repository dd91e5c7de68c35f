"""LLaVA of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

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
from vlcam.attribution.targets import units, whole
from vqa.answering.writing_answerer import AnswerPrompt
from vqa.models.chat.llava import Llava


def check(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, Llava)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    name, prompt = folder.name, inputs["prompt_ids"][0].tolist()
    features = encode(model, torch.from_numpy(inputs["pixel_values"]))
    patches = expected["A"][:, 1:].swapaxes(1, 2).reshape(features.maps.shape)
    report.number(name, model.layer, relative(features.maps, patches), MAP)
    # The original's question stands between the photo's line and the next speaker.
    text = AutoTokenizer.from_pretrained(folder).decode(prompt)
    asked = model.understand(text.rpartition("\n")[2].removesuffix(" ASSISTANT:"))
    report.same(name, "tokens of the prompt", model.prompt_ids(asked, features), prompt)
    reading = model.read_answer(asked, meta["caption"])
    tokens = inputs["input_ids"][0][len(prompt) :].tolist()
    answer = list(model.tokens(reading.prompt))
    report.same(name, "tokens of the answer", answer, tokens[:-1])
    groups = [list(unit.scores) for unit in reading.units]
    report.same(name, "tokens of each word", groups, meta["word_groups"])
    with torch.no_grad():
        scores = model.decode(features, [AnswerPrompt(asked.prompt, tuple(tokens))])[0].numpy()
    difference = np.abs(scores - expected["token_logp"]).max()
    report.number(name, "log-probabilities, all tokens", difference, LOG_PROBABILITY)
    wanted = expected["gradcam_words"]
    report.maps(name, "gradcam_words", grad_cam(model, features, units(reading)), wanted)
    wanted = expected["gradcam_caption"]
    report.maps(name, "gradcam_caption", grad_cam(model, features, [whole(reading)]), wanted)
    original = expected["greedy_ids"][0][len(prompt) :].tolist()
    model.module.generation_config.max_new_tokens = len(original)
    written = model.write_answer(features, asked)
    report.same(name, "greedy_ids", list(model.tokens(written.prompt)), original)


CHECKS: dict[str, Check] = {"hf_llava": check}
