"""The options of ``vlcam train vqa``. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse

from vlcam.cli import train
from vlcam.cli.early import amount, as_given, count, folder, natural, one_of, share

_OPTIONS: train.Options = {
    "data": (
        as_given(folder),
        "folder in VQA's layout: annotations/*questions.json, *annotations.json, photos",
    ),
    "out": (str, "folder for the model, its report, and what resuming needs"),
    **train.CNN,
    "views": (count, "1: photos as they are (default); 2: and mirrored; more: and crops"),
    "threshold": (count, "words rarer than this become UNK (default 1)"),
    "architecture": (
        one_of("lstm-cnn", "coattention", "glimpses"),
        "lstm-cnn (default), coattention, or glimpses",
    ),
    "attention": (
        one_of("alternating", "parallel"),
        "of coattention: alternating (default) or parallel",
    ),
    "regions": (
        str,
        "of coattention and glimpses: the CNN's layer to attend to (default: its last maps)",
    ),
    "glimpses": (count, "of glimpses: how many (default 8)"),
    "answers": (count, "how many it can give, the most frequent ones (default 1000)"),
    "embedding": (count, "size of the word embeddings of lstm-cnn and glimpses (default 200)"),
    "hidden": (count, "size of the LSTM, and of most of the rest (default 512)"),
    "common": (count, "size of the space where question and image meet (default 1024)"),
    "dropout": (share, "in front of every layer (default 0.5)"),
    "epochs": (natural, "then passes over the questions, the CNN being fixed (default 10)"),
    "batch": (count, "questions a step (default 256)"),
    "lr": (amount, "highest learning rate of the cycle (default 1e-3)"),
    **train.GENERAL,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options named like the fields of :class:`vqa.training.answerer.Training`."""
    train.add(parser, _OPTIONS)
    train.flag(
        parser, "question-only", "for comparison: a model that never sees a photo (all are empty)"
    )


def run(args: argparse.Namespace) -> int:
    """Train; 0 if all went well, else 2 and one line on standard error."""
    from vqa.data.questions import question_files

    return train.run(args, "vqa", "vqa.training.answerer", question_files)
