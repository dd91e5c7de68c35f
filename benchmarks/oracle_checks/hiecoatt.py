"""HieCoAttenVQA of Lua Torch7, from feature maps."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

import vlcam
from benchmarks.oracle_checks.report import LOG_PROBABILITY, MAP, Check, Report, relative
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.gradients import seam_gradients
from vlcam.attribution.targets import unit
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.coattention.model import LEVELS

_WORDS, _REGIONS = "ques", "img"


def check(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    _compare(folder.name, folder, model, report)
    with tempfile.TemporaryDirectory() as saved:
        model.save(Path(saved))
        _compare("  saved", folder, vlcam.load(saved), report)


def _compare(name: str, folder: Path, model: vlcam.Adapter, report: Report) -> None:
    assert isinstance(model, CnnAnswerer)
    expected = np.load(folder / "expected.npz")
    questions = json.loads((folder / "expected.json").read_text())["questions"]
    maps = torch.from_numpy(expected["img_feat_bhwc"]).permute(0, 3, 1, 2).contiguous()
    asked = [model.understand(" ".join(words)) for words in questions]
    for question, tokens, length in zip(asked, expected["ques"], expected["ques_len"], strict=True):
        report.same(name, f"tokens: {question.text}", question.prompt, tuple(tokens[: int(length)]))
    prompts = [question.prompt for question in asked]
    with torch.no_grad():
        scores = model.decode(FeatureMaps(maps), prompts).numpy()
        tokens = model.module.encode_question(prompts)
        attended = model.module.attention_by_level(maps.flatten(1), tokens)
    for what in ("scores_batch", "scores_single"):
        report.number(name, what, np.abs(scores - expected[what]).max(), LOG_PROBABILITY)
    best = scores.argmax(1)
    report.same(name, "answers", (best + 1).tolist(), expected["pred_1based"].tolist())
    for level in LEVELS:
        short = "ques" if level == "question" else level
        # Of the steps that attend to the question, the last is the one that counts.
        own = sorted(key for key in expected if key.startswith(f"att_{short}_"))
        to_words = [key for key in own if key.endswith(_WORDS)][-1]
        to_regions = next(key for key in own if key.endswith(_REGIONS))
        original = expected[to_regions]
        report.number(name, to_regions, relative(attended[level].regions, original), MAP)
        original = expected[to_words][:, : tokens.shape[1]]
        report.number(name, to_words, relative(attended[level].words, original), MAP)
    gradients = []
    for row, question in enumerate(asked):
        reading = model.read(question, [model.answers[best[row]]])
        target = unit(reading, reading.units[0], "logit")
        (chunk,) = seam_gradients(model, FeatureMaps(maps[row : row + 1]), [target])
        gradients.append(chunk.gradients[0])
    original = expected["dimg_bhwc"].transpose(0, 3, 1, 2)
    report.number(name, "dimg_bhwc", relative(torch.stack(gradients), original), MAP)


CHECKS: dict[str, Check] = {
    "hiecoatt_torch7/alternating_vgg": check,
    "hiecoatt_torch7/parallel_residual": check,
}
