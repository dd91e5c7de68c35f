"""The options of ``vlcam train densecap``. Light to import: ``vlcam --help`` imports it."""

from __future__ import annotations

import argparse

from vlcam.cli import train
from vlcam.cli.early import amount, as_given, count, folder, natural, share

_OPTIONS: train.Options = {
    "data": (
        as_given(folder),
        "folder with region_descriptions.json of Visual Genome and its photos",
    ),
    "out": (str, "folder for the dense captioner, its report, and what resuming needs"),
    **train.CNN,
    "regions": (str, "the CNN's layer that regions are cut from (default: its last feature maps)"),
    "threshold": (count, "words rarer than this become UNK (default 1)"),
    "cells": (count, "of a region's features, a side (default 4)"),
    "code": (count, "size of a region's code (default 256)"),
    "embedding": (count, "size of the embeddings (default 128)"),
    "hidden": (count, "size of the LSTM (default 256)"),
    "dropout-input": (share, "of codes and word embeddings (default 0)"),
    "dropout-output": (share, "of the LSTM's output (default 0.3)"),
    "epochs": (natural, "then passes over the photos, the CNN being fixed (default 10)"),
    "batch": (count, "photos a step in them (default 32)"),
    "lr": (amount, "their highest learning rate (default 1e-3)"),
    **train.GENERAL,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options named like the fields of :class:`captioning.training.densecap.Training`."""
    train.add(parser, _OPTIONS)


def run(args: argparse.Namespace) -> int:
    """Train; 0 if all went well, else 2 and one line on standard error."""
    from captioning.data.region_files import genome_file

    return train.run(args, "densecap", "captioning.training.densecap", genome_file)
