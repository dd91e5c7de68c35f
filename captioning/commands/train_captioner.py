"""The options of ``vlcam train captioner``. Light to import: ``vlcam --help`` imports it."""

from __future__ import annotations

import argparse

from vlcam.cli import train

_OPTIONS: train.Options = {
    "data": (str, "folder in COCO's or Flickr8k's layout"),
    "out": (str, "folder for the captioner, its report, and what resuming needs"),
    **train.CNN,
    "naming": (float, "weight of a loss that teaches the CNN to detect words in cells (default 0)"),
    "detected": (
        int,
        "the LSTM also reads which words --naming detects, of those that the captions of at least "
        "so many photos have (default: none)",
    ),
    "views": (int, "1: photos as they are; 2: and mirrored; more: and crops (default 2)"),
    "threshold": (int, "words rarer than this become UNK (default 5)"),
    "embedding": (int, "size of image and word embeddings (default 256)"),
    "hidden": (int, "size of the LSTM (default 512)"),
    "dropout-input": (float, "of image features and word embeddings (default 0.3)"),
    "dropout-output": (float, "of the LSTM's output (default 0.5)"),
    "epochs": (int, "then passes over the captions, the CNN being fixed (default 10)"),
    "batch": (int, "captions a step (default 128)"),
    "lr": (float, "highest learning rate of the cycle (default 2e-3)"),
    "smoothing": (float, "share of each target spread over all words (default 0)"),
    "image-decay": (
        float,
        "--weight-decay of the image embedding in these passes (default: the same)",
    ),
    "reward-epochs": (
        int,
        "then passes over the photos that reward BLEU of beam search (default 0)",
    ),
    "reward-lr": (float, "their highest learning rate (default 3e-4)"),
    "beams": (int, "of beam search, in them and in the final report (default 5)"),
    **train.GENERAL,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options named like the fields of :class:`captioning.training.captioner.Training`."""
    train.add(parser, _OPTIONS)


def run(args: argparse.Namespace) -> int:
    """Train; 0 if all went well, else 2 and one line on standard error."""
    return train.run(args, "captioner", "captioning.training.captioner")
