"""What is wrong with a command line and shows before anything heavy is imported: types for
argparse, and photos that cannot be read. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vlcam.utils.files.input_files import check_file
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.nearest import hint, unknown

_DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "hpu", "npu", "xla", "mtia")
"""The devices of torch that compute, and our ``auto``."""


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number of at least so much, and at most so much."""
    range_ = f"at least {least}" if most is None else f"{least} to {most}"

    def read(text: str) -> int:
        digits = text.isascii() and text.isdigit()
        if not digits or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {range_}")
        return int(text)

    return read


natural, count = whole(0), whole(1)


def number(text: str) -> float:
    """A finite number."""
    value = _finite(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def amount(text: str) -> float:
    """A finite number of at least 0."""
    value = _finite(text)
    if value is None or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = _finite(text)
    if value is None or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def one_of(*names: str) -> Callable[[str], str]:
    """One of some names."""

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(unknown("choice", text, names))
        return text

    return read


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def folder(text: str) -> Path:
    """A folder that is read."""
    path = _there(text, "folder")
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: not a folder")
    return path


def file(text: str) -> Path:
    """A file that is read."""
    path = _there(text, "file")
    try:
        check_file(path)
    except OSError as error:
        raise argparse.ArgumentTypeError(one_line(error)) from error
    return path


def file_or_folder(text: str, names: Sequence[str] = ()) -> Path:
    """Either, to be read; or one of some names, of what comes with the package."""
    return Path(text) if text in names else _there(text, "file or folder", names)


def _there(text: str, wanted: str, names: Sequence[str] = ()) -> Path:
    path = Path(text)
    try:
        found, may = path.exists(), os.access(path, os.R_OK)
    except (OSError, ValueError) as error:  # a name that is too long, or has a null byte
        raise argparse.ArgumentTypeError(f"{text}: {one_line(error)}") from error
    if not text or not found:
        near = f"; {hint(text, names)}" if names else ""
        raise argparse.ArgumentTypeError(f"{text or repr(text)}: no such {wanted}{near}")
    if not may:
        raise argparse.ArgumentTypeError(f"{text}: may not be read")
    return path


def as_given(kind: Callable[[str], object]) -> Callable[[str], str]:
    """The text itself, once it is of that kind."""

    def checked(text: str) -> str:
        kind(text)
        return text

    return checked


def device(text: str) -> str:
    """A device as torch names it: whether there is one shows later."""
    name = re.sub(r":[0-9]+$", "", text)
    if name not in _DEVICES:
        raise argparse.ArgumentTypeError(unknown("device", name, _DEVICES))
    return text


def complaints(photos: Sequence[str]) -> list[str]:
    """What is wrong with each of the photos, where none of their files can be opened as a picture;
    of some that can, nothing: the others are told of when it is their turn."""
    from vlcam.photo.loading import size_of

    found = []
    for photo in photos:
        try:
            size_of(photo)
        except (ValueError, OSError) as error:
            found.append(one_line(error))
        else:
            return []
    return found
