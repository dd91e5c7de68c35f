"""What several commands read from the command line. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse

DEVICE = "cuda, cuda:1, cpu, ...; auto spreads a model of transformers over what there is"
"""What ``--device`` is for."""


def count(text: str) -> int:
    """A whole number of at least 1; what is none is told in one line."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, at least 1")
    return int(text)
