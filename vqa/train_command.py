"""The options of ``vlcam train vqa``. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
import sys

_HELP = {
    "data": (str, "folder in VQA's layout: annotations/*questions.json, *annotations.json, photos"),
    "out": (str, "folder for the model, its report, and what resuming needs"),
    "cnn": (str, "encoder: small, or a torchvision network such as mobilenet_v2 (default small)"),
    "cnn-weights": (str, "its weights: safetensors or torch state dict in torchvision's layout"),
    "size": (int, "height and width photos are stretched to (default 224)"),
    "views": (int, "1: photos as they are (default); 2: and mirrored; more: and crops"),
    "threshold": (int, "words rarer than this become UNK (default 1)"),
    "answers": (int, "how many it can give, the most frequent ones (default 1000)"),
    "embedding": (int, "size of word embeddings (default 200)"),
    "hidden": (int, "size of the LSTM (default 512)"),
    "common": (int, "size of the space where question and image meet (default 1024)"),
    "dropout": (float, "in front of every layer (default 0.5)"),
    "cnn-epochs": (int, "first, passes over the photos that train the CNN too (default 0)"),
    "cnn-batch": (int, "photos a step in them (default 32)"),
    "cnn-lr": (float, "their highest learning rate (default 1e-3)"),
    "first-size": (int, "--size in the first three quarters of them, to save time"),
    "epochs": (int, "then passes over the questions, the CNN being fixed (default 10)"),
    "batch": (int, "questions a step (default 256)"),
    "lr": (float, "highest learning rate of the cycle (default 1e-3)"),
    "weight-decay": (float, "of AdamW (default 0.05)"),
    "seed": (int, "same seed, same machine: same weights (default 0)"),
    "precision": (
        str,
        "of the CNN: float32 (default), or bfloat16, which is about twice as fast "
        "on processors that have it (AVX512-BF16, AMX, GPUs)",
    ),
    "device": (str, "cpu (default) or cuda"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options named like the fields of :class:`vqa.training.Training`."""
    for name, (kind, text) in _HELP.items():
        parser.add_argument(
            f"--{name}",
            type=kind,
            help=text,
            metavar=name.split("-")[-1].upper(),
            required=name in ("data", "out"),
            default=argparse.SUPPRESS,
        )
    parser.add_argument(
        "--half",
        action="store_true",
        help="save the model in float16",
        default=argparse.SUPPRESS,
    )


def run(args: argparse.Namespace) -> int:
    """Train; 0 if all went well, else 2 and one line on standard error."""
    from vqa.training import Training, train

    fields = Training.__dataclass_fields__
    try:
        train(Training(**{k: v for k, v in vars(args).items() if k in fields}))
    except ValueError as error:
        print(f"vlcam train vqa: {error}", file=sys.stderr)
        return 2
    return 0
