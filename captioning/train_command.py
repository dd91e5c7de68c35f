"""The options of ``vlcam train captioner``. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
import sys

_HELP = {
    "data": (str, "folder in COCO's or Flickr8k's layout"),
    "out": (str, "folder for the captioner, its report, and what resuming needs"),
    "cnn": (str, "encoder: small, or a torchvision network such as mobilenet_v2 (default small)"),
    "cnn-weights": (str, "its weights: safetensors or torch state dict in torchvision's layout"),
    "size": (int, "height and width photos are stretched to (default 224)"),
    "views": (int, "1: photos as they are; 2: and mirrored; more: and crops (default 2)"),
    "threshold": (int, "words rarer than this become UNK (default 5)"),
    "embedding": (int, "size of image and word embeddings (default 256)"),
    "hidden": (int, "size of the LSTM (default 512)"),
    "dropout-input": (float, "of image features and word embeddings (default 0.3)"),
    "dropout-output": (float, "of the LSTM's output (default 0.5)"),
    "cnn-epochs": (int, "first, passes over the photos that train the CNN too (default 0)"),
    "cnn-batch": (int, "photos a step in them (default 32)"),
    "cnn-lr": (float, "their highest learning rate (default 1e-3)"),
    "first-size": (int, "--size in the first three quarters of them, to save time"),
    "naming": (float, "weight of a loss that teaches the CNN to detect words in cells (default 0)"),
    "epochs": (int, "then passes over the captions, the CNN being fixed (default 10)"),
    "batch": (int, "captions a step (default 128)"),
    "lr": (float, "highest learning rate of the cycle (default 2e-3)"),
    "smoothing": (float, "share of each target spread over all words (default 0)"),
    "weight-decay": (float, "of AdamW (default 0.05)"),
    "image-decay": (
        float,
        "the same of the image embedding, the CNN being fixed (default: the same)",
    ),
    "reward-epochs": (
        int,
        "then passes over the photos that reward BLEU of beam search (default 0)",
    ),
    "reward-lr": (float, "their highest learning rate (default 3e-4)"),
    "beams": (int, "of beam search, in them and in the final report (default 5)"),
    "seed": (int, "same seed, same machine: same weights (default 0)"),
    "precision": (
        str,
        "of the CNN: float32 (default), or bfloat16, which is about twice as fast "
        "on processors that have it (AVX512-BF16, AMX, GPUs)",
    ),
    "device": (str, "cpu (default) or cuda"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options named like the fields of :class:`captioning.training.Training`."""
    for name, (kind, text) in _HELP.items():
        required = name in ("data", "out")
        parser.add_argument(
            f"--{name}",
            type=kind,
            help=text,
            metavar=name.split("-")[-1].upper(),
            required=required,
            default=argparse.SUPPRESS,
        )
    parser.add_argument(
        "--half",
        action="store_true",
        help="save the captioner in float16",
        default=argparse.SUPPRESS,
    )


def run(args: argparse.Namespace) -> int:
    """Train; 0 if all went well, else 2 and one line on standard error."""
    from captioning.training import Training, train

    fields = Training.__dataclass_fields__
    try:
        train(Training(**{k: v for k, v in vars(args).items() if k in fields}))
    except ValueError as error:
        print(f"vlcam train captioner: {error}", file=sys.stderr)
        return 2
    return 0
