"""The VQA models' part of the command line. Light to import."""

from __future__ import annotations

from vlcam.cli.commands import Command

COMMANDS = (
    Command(
        "questions",
        "Make questions of captions with marked phrases.",
        "vqa.commands.questions",
    ),
)

TRAINERS = (Command("vqa", "Train a VQA model.", "vqa.commands.train_vqa"),)

EXPERIMENTS = (
    Command(
        "attention",
        "How a VQA model's maps agree with where people looked.",
        "vqa.commands.evaluate_attention",
    ),
)
