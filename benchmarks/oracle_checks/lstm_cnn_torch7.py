"""VQA_LSTM_CNN of Lua Torch7, with the Grad-CAM of the paper's authors."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

import vlcam
from benchmarks.oracle_checks.report import LOG_PROBABILITY, MAP, Check, Report, relative
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels
from vlcam.attribution.targets import Target, unit
from vqa.answering.cnn_answerer import CnnAnswerer


def check(folder: Path, report: Report) -> None:
    expected = np.load(folder / "expected.npz")
    questions = json.loads((folder / "expected.json").read_text())["questions"]
    with tempfile.TemporaryDirectory() as name:
        model = _model(folder, expected, Path(name))
        model.save(Path(name) / "saved")
        _compare(folder.name, model, questions, expected, report)
        _compare("  saved", vlcam.load(Path(name) / "saved"), questions, expected, report)


def _model(folder: Path, expected: np.lib.npyio.NpzFile, copy: Path) -> CnnAnswerer:
    """The checkpoint with the CNN's weights beside it, as a user would put them there."""
    for name in ("lstm.t7", "data_prepro.json"):
        shutil.copy(folder / name, copy)
    kinds = {"w": "weight", "b": "bias"}
    arrays = {key[4:-2]: None for key in expected if key.startswith("cnn_")}
    state = {
        f"{layer}.{kind}": torch.from_numpy(expected[f"cnn_{layer}_{short}"]).float().contiguous()
        for layer in arrays
        for short, kind in kinds.items()
    }
    save_file(state, copy / "vgg19.safetensors")
    model = vlcam.load(copy)
    assert isinstance(model, CnnAnswerer)
    return model


def _compare(
    name: str,
    model: vlcam.Adapter,
    questions: list[list[str]],
    expected: np.lib.npyio.NpzFile,
    report: Report,
) -> None:
    assert isinstance(model, CnnAnswerer)
    photo = Image.fromarray(expected["raw_image_chw_uint8"].transpose(1, 2, 0))
    pixels = model.prepare(photo)[0].flip(0).numpy()
    report.number(name, "pixels (0..255)", np.abs(pixels - expected["input_bgr"]).max(), 1e-3)
    seen = torch.from_numpy(expected["input_bgr"]).float().flip(0)[None]
    features = encode(model, seen)
    report.number(name, model.layer, relative(features.maps[0], expected["relu5_4"]), MAP)
    asked, scores = [], []
    for words, tokens, length, best in zip(
        questions, expected["ques"], expected["ques_length"], expected["pred_1based"], strict=True
    ):
        question = model.understand(" ".join(words))
        report.same(name, f"tokens: {question.text}", question.prompt, tuple(tokens[: int(length)]))
        with torch.no_grad():
            scores.append(model.decode(features, [question.prompt])[0].numpy())
        asked.append(_target(model, " ".join(words), int(best)))
    report.number(name, "scores", np.abs(scores - expected["scores"]).max(), LOG_PROBABILITY)
    cells = expected["gcam"].shape[1] * expected["gcam"].shape[2]
    _, maps = explain_at_layer(model, features, asked, methods.get("grad-cam"))
    report.number(name, "gcam", relative(maps * cells, expected["gcam"]), MAP)
    forced = {n: _target(model, " ".join(questions[1]), n) for n in (5, 6, 11)}
    _, maps = explain_at_layer(model, features, list(forced.values()), methods.get("grad-cam"))
    for n, found in zip(forced, maps, strict=True):
        original = expected[f"q2_answer{n}_gcam"]
        report.number(name, f"q2_answer{n}_gcam", relative(found * cells, original), MAP)
    # As the original ran: guided ReLUs let all or nothing of a rounding error through.
    model.module.double()
    _, maps = explain_at_pixels(model, seen.double(), [forced[5]], methods.get("guided-backprop"))
    # Ours are the largest of three colours, the original's are one map a colour.
    original = np.abs(expected["q2_answer5_gb_rgb"]).max(0)
    report.number(name, "q2_answer5_gb_rgb", relative(maps[0], original), MAP)
    # The original enlarges with corners on corners, not with the cells where they lie.
    cam = torch.from_numpy(expected["q2_answer5_gcam"]).double()[None, None]
    enlarged = functional.interpolate(cam, maps.shape[1:], mode="bilinear", align_corners=True)[0]
    original = np.abs(expected["q2_answer5_guided"]).max(0)
    report.number(name, "q2_answer5_guided", relative((maps * enlarged)[0], original), MAP)


def _target(model: CnnAnswerer, question: str, answer: int) -> Target:
    """The logit of the answer of that number, from 1."""
    reading = model.read(model.understand(question), [model.answers[answer - 1]])
    return unit(reading, reading.units[0], "logit")


CHECKS: dict[str, Check] = {"vqa_lstm_cnn_torch7": check}
