"""Foreign captioners against what their original code says, end to end through our adapters.

    python benchmarks/oracles.py --oracles DIR

DIR holds one folder a model: the checkpoint, ``inputs.npz``, ``expected.npz``, ``meta.json``.
Prints the largest difference of log-probabilities (absolute) and of maps (relative to the largest
value), and whether captions are the same word for word. Exits with 1 if any of them is not.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vlcam
from captioning.blip import BlipCaptioner
from captioning.captioner import Captioner
from captioning.neuraltalk2_pytorch import NeuralTalk2PyTorch
from vlcam import methods
from vlcam.adapter import FeatureMaps
from vlcam.engine import encode, explain_at_layer
from vlcam.targets import Target, Term, units, whole

LOG_PROBABILITY = 1e-5
MAP = 1e-4
RUOTIANLUO = ("ruotianluo_fc", "ruotianluo_show_tell", "ruotianluo_ft_fc")
BLIP = "hf_blip_caption"


@dataclass
class Report:
    """Prints each comparison and remembers whether one failed."""

    failed: bool = False

    def number(self, model: str, what: str, difference: float, limit: float) -> None:
        self._line(model, what, f"{difference:.1e} (at most {limit:.0e})", difference <= limit)

    def same(self, model: str, what: str, ours: Any, original: Any) -> None:
        same = ours == original
        self._line(model, what, "same" if same else f"{ours} instead of {original}", same)

    def _line(self, model: str, what: str, text: str, good: bool) -> None:
        self.failed |= not good
        print(f"{'ok  ' if good else 'FAIL'} {model:22} {what:34} {text}")


def ruotianluo(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, NeuralTalk2PyTorch)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    name = folder.name
    if "image" in inputs:
        features = encode(model, torch.from_numpy(inputs["image"]))
        report.number(name, "layer 7", _relative(features.maps, expected["layer4"]), MAP)
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
            _maps(name, model, features, asked, expected[what], what, report)


def blip(folder: Path, report: Report) -> None:
    model = vlcam.load(folder)
    assert isinstance(model, BlipCaptioner)
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    meta = json.loads((folder / "meta.json").read_text())
    name = folder.name
    features = encode(model, torch.from_numpy(inputs["pixel_values"]))
    patches = expected["A"][:, 1:].swapaxes(1, 2).reshape(features.maps.shape)
    report.number(name, model.layer, _relative(features.maps, patches), MAP)
    reading = model.read(meta["caption"])
    tokens = inputs["input_ids"][0][1:]
    report.same(name, "tokens of the caption", list(reading.prompt), tokens[:-1].tolist())  # type: ignore[call-overload]
    groups = [[column + 1 for column in unit.scores] for unit in reading.units]
    report.same(name, "tokens of each word", groups, meta["word_groups"])
    with torch.no_grad():
        scores = model.decode(features, [tuple(tokens.tolist())])[0].numpy()
    difference = np.abs(scores - expected["token_logp"][0]).max()
    report.number(name, "log-probabilities, all tokens", difference, LOG_PROBABILITY)
    _maps(name, model, features, units(reading), expected["gradcam_words"], "gradcam_words", report)
    wanted = expected["gradcam_caption"]
    _maps(name, model, features, [whole(reading)], wanted, "gradcam_caption", report)
    settings = model.module.text_decoder.generation_config
    for what, beam, prompt in (
        ("greedy_ids", 1, None),
        ("beam3_ids", 3, None),
        ("greedy_prompt_ids", 1, inputs["prompt_ids"][0][1:-1]),
    ):
        original = expected[what][0][1:].tolist()
        given = 0 if prompt is None else len(prompt)
        model.prompt = "" if prompt is None else " ".join(map(model._piece, prompt.tolist()))
        settings.max_new_tokens = len(original) - given  # as many as the original was let write
        end = model.module.config.text_config.sep_token_id
        original = original[: original.index(end)] if end in original else original
        report.same(name, what, list(model.write(features, beam).prompt), original)  # type: ignore[call-overload]


def _maps(
    name: str,
    model: Captioner,
    features: FeatureMaps,
    asked: list[Target],
    expected: np.ndarray,
    what: str,
    report: Report,
) -> None:
    _, maps = explain_at_layer(model, features, asked, methods.get("grad-cam"))
    report.number(name, what, _relative(maps, expected.reshape(maps.shape)), MAP)


def _relative(ours: torch.Tensor, original: np.ndarray) -> float:
    return float(np.abs(ours.numpy() - original).max() / np.abs(original).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--oracles", type=Path, required=True, help="folder with one folder a model"
    )
    folder = parser.parse_args().oracles
    report = Report()
    for name in RUOTIANLUO:
        ruotianluo(folder / name, report)
    blip(folder / BLIP, report)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
