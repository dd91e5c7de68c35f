"""``vlcam convert``: published checkpoints rewritten as safetensors and JSON. Light to import."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlcam.cli.arguments import yes_argument
from vlcam.models import Family, find
from vlcam.utils.files.atomic import folder_written
from vlcam.utils.files.outputs import check_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="PATH", help="see vlcam models")
    parser.add_argument("out", metavar="OUT", type=Path, help="the new folder")
    yes_argument(parser)


def run(args: argparse.Namespace) -> int:
    family = convert(args.model, args.out)
    print(f"{args.model}: {family.name} -> {args.out}")
    return 0


def convert(model: str | Path, out: Path) -> Family:
    """Write a model's weights as safetensors and all else as JSON, into a new folder.

    What is written is loaded once before the folder appears.

    Args:
        model: what :func:`vlcam.load` takes.
        out: a folder that is not there yet.

    Returns:
        The family that recognised it.

    Raises:
        ValueError: as by :func:`vlcam.load`; models of its kind cannot be written.
        FileExistsError: ``out`` is there.
    """
    if out.exists():
        raise FileExistsError(f"{out}: there is something already; give a new folder")
    check_folder(out)
    family, path = find(model)
    adapter = family.open(path)
    with folder_written(out) as draft:
        adapter.save(draft)
        again, folder = find(draft)
        again.open(folder)
    return family
