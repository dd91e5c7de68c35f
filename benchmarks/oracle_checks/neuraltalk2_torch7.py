"""NeuralTalk2's checkpoints of Torch7, read its own way and as in the paper's script."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.oracle_checks.report import (
    LOG_PROBABILITY,
    MAP,
    Check,
    Report,
    grad_cam,
    relative,
)
from captioning.models.neuraltalk.neuraltalk2 import NeuralTalk2Captioner
from captioning.models.neuraltalk.neuraltalk2_torch7 import load
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_pixels
from vlcam.attribution.targets import Target, Term

_CAPTION = "a dog and a zebra posing for a picture"
_PIXELS = 1e-4
"""Of pixels in 0..255: a step of float32 at their size is 2e-5."""


def check(folder: Path, report: Report) -> None:
    for file in ("model_idtiny.t7", "model_idtiny_gpu.t7"):
        for prefix, paper_script in (("nt2", False), ("bgr", True)):
            model = load(folder / file, paper_script=paper_script)
            _check(f"{file.removesuffix('.t7')} {prefix}", prefix, model, folder, report)


def _check(
    name: str, prefix: str, model: NeuralTalk2Captioner, folder: Path, report: Report
) -> None:
    arrays = np.load(folder / "expected.npz")
    texts = json.loads((folder / "expected.json").read_text())
    expected = {k.removeprefix(f"{prefix}_"): arrays[k] for k in arrays if k.startswith(prefix)}
    photo = Image.fromarray(arrays["raw_image_chw_uint8"].transpose(1, 2, 0))
    prepared = arrays["gradcam_input_bgr"][::-1] if prefix == "bgr" else arrays["nt2_input"][0]
    ours, _ = model.prepare(photo)
    report.number(name, "pixels", np.abs(ours.numpy() - prepared).max(), _PIXELS)
    features = encode(model, torch.from_numpy(prepared.copy())[None])
    if "relu5_3" in expected:
        report.number(name, model.layer, relative(features.maps[0], expected["relu5_3"]), MAP)

    asked = model.read(_CAPTION)
    tokens = [int(token) for token in expected["labels"] if token]
    report.same(name, "tokens of the caption", list(asked.prompt), tokens)  # type: ignore[call-overload]
    with torch.no_grad():
        states = model.teacher_force(features, torch.tensor([[*tokens, 0]]))
        found = model.log_probabilities(states)[0].roll(-1, 1)  # the end is the last word there
        scores = model.decode(features, [asked.prompt])[0].numpy()
    wanted = expected["logprobs"][1 : len(tokens) + 2]
    difference = np.abs(found.numpy() - wanted).max()
    report.number(name, "log-probabilities, all words", difference, LOG_PROBABILITY)
    difference = np.abs(scores - expected["word_logp"]).max()
    report.number(name, "log-probabilities, the caption's", difference, LOG_PROBABILITY)
    for beam in (1, 2, 3, 5):
        written = model.write(features, beam)
        text = " ".join(unit.text for unit in written.units)
        report.same(name, f"caption, beam {beam}", text, texts[f"{prefix}_beam{beam}_text"])

    # The script sums gradients over the cells where the paper's formula takes their mean.
    cells = features.maps.shape[2] * features.maps.shape[3]
    prompt, every = (*tokens, 0), range(len(tokens))
    words = [Target(str(k), (Term(1.0, prompt, (k,)),)) for k in every]  # the unknown one too
    caption = Target("caption", (Term(1.0, prompt, tuple(every)),))
    end = Target("end", (Term(1.0, prompt, (len(tokens),)),))
    for what, targets in (("gcam", [caption]), ("word_gcam", words), ("end_gcam", [end])):
        if what in expected:
            report.maps(name, what, grad_cam(model, features, targets), expected[what] / cells)
    pixels = torch.from_numpy(prepared.copy())[None]
    _, maps = explain_at_pixels(model, pixels, [caption], methods.get("guided-backprop"))
    wanted = np.abs(expected["gb_swapped"]).max(0, keepdims=True)
    report.number(name, "guided backpropagation", relative(maps, wanted), MAP)


CHECKS: dict[str, Check] = {"nt2_torch7": check}
