"""Options that all of ``vlcam train`` share. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path

from vlcam.cli.early import amount, as_given, count, device, file_or_folder, natural, one_of
from vlcam.training import cnn_needs
from vlcam.utils.files.outputs import check_apart, check_folder

Options = Mapping[str, tuple[Callable[[str], object], str]]
"""What follows the dashes, what its text is read by, and what it is."""

CNN: Options = {
    "cnn": (
        str,
        "encoder: small, efficientnet_lite2 (its ImageNet weights come with vlcam), a torchvision "
        "network such as mobilenet_v2, timm:NAME for any of timm's (pip install 'vlcam[timm]'), or "
        "a folder with a ResNet, RegNet or ConvNeXt of transformers and its weights (default "
        "small)",
    ),
    "cnn-weights": (
        as_given(partial(file_or_folder, names=("published",))),
        "its weights: safetensors or torch state dict in torchvision's (or timm's) layout, the "
        "folder of a model of ours with that CNN, or the word published: those that timm downloads",
    ),
    "size": (count, "height and width photos are stretched to (default 224)"),
    "cnn-epochs": (natural, "first, passes over the photos that train the CNN too (default 0)"),
    "cnn-fixed": (
        str,
        "up to this layer the CNN keeps the weights given (default: all of it is trained)",
    ),
    "cnn-batch": (count, "photos a step in them (default 32)"),
    "cnn-lr": (amount, "their highest learning rate (default 1e-3)"),
    "cnn-decay": (amount, "their weight decay (default 0.05)"),
    "first-size": (count, "--size in the first three quarters of them, to save time"),
}

GENERAL: Options = {
    "weight-decay": (amount, "of AdamW, once the CNN is fixed (default 0.05)"),
    "seed": (natural, "same seed, same machine: same weights (default 0)"),
    "precision": (
        one_of("auto", "float32", "bfloat16"),
        "of the CNN: float32, bfloat16, or auto (default), the faster of the two here: bfloat16 on "
        "most processors that have it (AVX512-BF16, AMX, GPUs)",
    ),
    "device": (device, "cpu (default) or cuda"),
    "world": (
        str,
        "what the photos are, in a few words, for the line told of a photo unlike them "
        "(default: photos of --data's folder)",
    ),
}


_SMALL = "small"
"""The CNN that has no published weights."""


def add(parser: argparse.ArgumentParser, options: Options) -> None:
    """Options named like the fields of a ``Training``, which has their defaults."""
    for name, (kind, text) in options.items():
        parser.add_argument(
            f"--{name}",
            type=kind,
            help=text,
            metavar=name.split("-")[-1].upper(),
            required=name in ("data", "out"),
            default=argparse.SUPPRESS,
        )
    flag(parser, "half", "save the model in float16")


def flag(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """An option that is given or not."""
    parser.add_argument(f"--{name}", action="store_true", help=text, default=argparse.SUPPRESS)


def run(args: argparse.Namespace, kind: str, module: str, check: Callable[[Path], object]) -> int:
    """Train what that module's ``Training`` and ``train`` do; 0 if all went well, else 2 and one
    line on standard error.

    Args:
        check: of the folder of data; raises ValueError where it holds none.
    """
    out = Path(args.out)
    given = [path for name in ("cnn", "cnn_weights") if (path := getattr(args, name, None))]
    for written in (out, out / "model.safetensors"):
        check_apart(written, *given)
    check_folder(out)
    told = vars(args)
    try:
        cnn_needs.check(
            cnn_epochs=told.get("cnn_epochs", 0),
            pretrained="cnn_weights" in told or told.get("cnn", _SMALL) != _SMALL,  # others may be
            cnn_fixed=told.get("cnn_fixed"),
            first_size=told.get("first_size"),
            sees=not told.get("question_only", False),
        )
        check(Path(args.data))
        training = import_module(module)
        fields = training.Training.__dataclass_fields__
        training.train(training.Training(**{k: v for k, v in told.items() if k in fields}))
    except ValueError as error:
        print(f"vlcam train {kind}: {error}", file=sys.stderr)
        return 2
    return 0
