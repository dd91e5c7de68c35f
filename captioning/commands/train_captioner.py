"""The options of ``vlcam train captioner``. Light to import: ``vlcam --help`` imports it."""

from __future__ import annotations

import argparse

from vlcam.cli import train
from vlcam.cli.early import amount, as_given, count, folder, natural, share

_OPTIONS: train.Options = {
    "data": (as_given(folder), "folder in COCO's or Flickr8k's layout"),
    "out": (str, "folder for the captioner, its report, and what resuming needs"),
    **train.CNN,
    "naming": (
        amount,
        "weight of a loss that teaches the CNN to detect words in cells (default 0)",
    ),
    "detected": (
        natural,
        "words that --naming detects speak for themselves when the next one is chosen: those that "
        "the captions of at least so many photos have (default: none)",
    ),
    "recalled": (
        amount,
        "more words are detected: those of captioning/training/recalled.py, by the classes of "
        "ImageNet that they name; a loss that counts so much keeps the CNN to it (default 0: none)",
    ),
    "views": (count, "1: photos as they are; 2: and mirrored; more: and crops (default 2)"),
    "threshold": (count, "words rarer than this become UNK (default 5)"),
    "embedding": (count, "size of image and word embeddings (default 256)"),
    "hidden": (count, "size of the LSTM (default 512)"),
    "dropout-input": (share, "of image features and word embeddings (default 0.3)"),
    "dropout-output": (share, "of the LSTM's output (default 0.5)"),
    "epochs": (natural, "then passes over the captions, the CNN being fixed (default 10)"),
    "batch": (count, "captions a step (default 128)"),
    "lr": (amount, "highest learning rate of the cycle (default 2e-3)"),
    "smoothing": (share, "share of each target spread over all words (default 0)"),
    "image-decay": (
        amount,
        "--weight-decay of the image embedding in these passes (default: the same)",
    ),
    "reward-epochs": (
        natural,
        "then passes over the photos that reward BLEU of beam search (default 0)",
    ),
    "reward-lr": (amount, "their highest learning rate (default 3e-4)"),
    "reward-truth": (
        amount,
        "what the share of a caption's words that people say of the photo, too, counts beside BLEU "
        "(default 0)",
    ),
    "beams": (count, "of beam search, in them and in the final report (default 5)"),
    **train.GENERAL,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options named like the fields of :class:`captioning.training.captioner.Training`."""
    train.add(parser, _OPTIONS)


def run(args: argparse.Namespace) -> int:
    """Train; 0 if all went well, else 2 and one line on standard error."""
    from captioning.data.captions import layout

    return train.run(args, "captioner", "captioning.training.captioner", layout)
