"""The captioners' part of the command line. Light to import."""

from __future__ import annotations

from vlcam.cli.commands import Command

COMMANDS = (
    Command(
        "regions",
        "Find regions of photos and describe each.",
        "captioning.commands.regions",
    ),
)

TRAINERS = (
    Command(
        "captioner",
        "Train a captioner.",
        "captioning.commands.train_captioner",
    ),
    Command(
        "densecap",
        "Train a dense captioner, which finds regions and describes them.",
        "captioning.commands.train_densecap",
    ),
)

EXPERIMENTS = (
    Command(
        "words",
        "Do words' maps point at what the words name? On COCO.",
        "captioning.commands.evaluate_words",
    ),
    Command(
        "regions",
        "The box ratio of region captions.",
        "captioning.commands.evaluate_regions",
    ),
)
