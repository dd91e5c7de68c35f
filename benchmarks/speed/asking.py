"""What further answers and further questions cost, once a photo is encoded.

    python -m benchmarks.speed.asking [--cnn vgg16 resnet50] [--runs 15]

The deeper LSTM question + normalised image model with random weights and 1,000 answers; one photo
of noise. "Further answers" is the time of one call that explains eleven answers less that of one
that explains a single one, a tenth of it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

import vlcam
from benchmarks.shared import program
from benchmarks.speed.caption import LAYERS
from vlcam.evaluation.tables import table
from vlcam.formats.vocabulary import Vocabulary
from vlcam.photo.preprocess import Preprocess
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.lstm_cnn.model import Config, LstmCnn

QUESTIONS = ("what color is the dog", "is the dog on the grass")


def build(cnn: str) -> CnnAnswerer:
    torch.manual_seed(0)
    words = sorted({word for question in QUESTIONS for word in question.split()})
    answers = tuple(f"answer {i}" for i in range(1000))
    config = Config(cnn, Vocabulary((*words, "UNK")), answers, Preprocess())
    return CnnAnswerer(LstmCnn(config).eval(), cnn, LAYERS[cnn])


def measure(cnn: str, runs: int) -> list[list[str]]:
    model = build(cnn)
    pixels = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    photo = vlcam.look(model, Image.fromarray(pixels))

    def ask(question: int, first: int, count: int) -> None:
        answers = [f"answer {i}" for i in range(first, first + count)]
        vlcam.explain(model, photo, question=QUESTIONS[question], answers=answers)

    calls: dict[str, Callable[[], object]] = {
        "forward pass": lambda: forward(model, photo),
        "one answer": lambda: ask(0, 0, 1),
        "eleven answers": lambda: ask(0, 0, 11),
        "another question, one answer": lambda: ask(1, 0, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(1 + runs):  # the first is for warming up; contenders take turns
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if run:
                seconds[name].append(time.perf_counter() - start)
    middle = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    middle["further answers, each"] = (middle["eleven answers"] - middle["one answer"]) / 10
    return [
        [cnn, name, f"{ms:.1f}", f"{100 * ms / middle['forward pass']:.1f}"]
        for name, ms in middle.items()
    ]


def forward(model: CnnAnswerer, photo: vlcam.Encoded) -> None:
    """The whole model once, without gradients."""
    with torch.no_grad():
        question = model.understand(QUESTIONS[0]).prompt
        model.decode(model.encode(photo.pixels), [question])


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--cnn", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--runs", type=int, default=15)
    program.run(parser, measured)


def measured(options: argparse.Namespace) -> tuple[str, list[str]]:
    rows = [row for cnn in options.cnn for row in measure(cnn, options.runs)]
    header = ["CNN", "", "ms, median", "% of the forward pass"]
    return "Asking an encoded photo again", [table(header, rows)]


if __name__ == "__main__":
    main()
