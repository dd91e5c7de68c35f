"""What VQA checkpoints of Lua Torch7 have in common: flat vectors of weights, words and answers.

``getParameters`` of Torch7 lays all weights of a network out in one vector, in the order of its
modules, each weight before its bias. Words and answers lie in a JSON file that the preprocessing
wrote.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlcam.formats.torch7 import load_torch7, mentions
from vlcam.formats.vocabulary import UNKNOWN
from vlcam.networks.torch7_network import is_network
from vlcam.utils.files.text_files import read_json
from vlcam.utils.messages.expected import described, expect

CNN_SUFFIXES = (".safetensors", ".pth", ".pt")
"""Of files with a CNN's weights that may lie beside a checkpoint."""

WORDS = "data_prepro.json"
"""How the names of files with words and answers end."""

_TABLES = ("ix_to_word", "ix_to_ans")


def holds(path: Path, *names: str) -> bool:
    """Whether it is a file of Torch7 that has one of these names in it (a whole file has all of
    them, one that is cut short may not)."""
    return path.is_file() and any(mentions(path, name) for name in names)


def checkpoint_of(path: Path, *names: str) -> Path:
    """The file with these names in it: itself, or the one in its folder.

    Raises:
        ValueError: there is none, or there are several.
    """
    if path.is_file() and holds(path, *names):
        return path
    folder = path if path.is_dir() else path.parent
    found = [file for file in sorted(folder.glob("*.t7")) if holds(file, *names)]
    if len(found) != 1:
        listed = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{folder}: expected one checkpoint (.t7), found {listed}; give the file")
    return found[0]


def read_vectors(path: Path, names: Sequence[str]) -> tuple[dict[str, Tensor], dict[Any, Any]]:
    """The flat vectors of these names, in float32, and the whole table they lie in.

    Raises:
        ValueError: the file is damaged, or lacks one.
    """
    table = expect(load_torch7(path), dict, f"{path}: what it holds", "a table")
    for name in names:
        value = table.get(name)
        if expect(value, np.ndarray, f"{path}: {name}", "a vector").ndim != 1:
            raise ValueError(f"{path}: {name} is {described(value)}, expected a vector")
    return {name: torch.from_numpy(table[name]).float() for name in names}, table


def words_and_answers(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of the folder's ``*data_prepro.json``: tables ``ix_to_word`` and ``ix_to_ans``, from 1.

    ``UNK``, which the preprocessing puts last, is added where it is not.

    Raises:
        ValueError: there is no such file, there are several, or it is damaged.
    """
    named = f"*{WORDS}"
    found = [p for p in sorted(folder.glob("*.json")) if p.match(named) or _has_tables(p)]
    if len(found) != 1:
        listed = ", ".join(path.name for path in found) or "none"
        raise ValueError(
            f"{folder}: expected one file {named} with words and answers, found {listed}"
        )
    try:
        data = read_json(found[0])
        words, answers = (
            tuple(
                expect(data[name][str(i)], str, f"{name} {i}", "a text")
                for i in range(1, len(data[name]) + 1)
            )
            for name in _TABLES
        )
        words = words if words[-1] == UNKNOWN else (*words, UNKNOWN)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{found[0]}: no {' and '.join(_TABLES)}, numbered from 1") from error
    return words, answers


def _has_tables(path: Path) -> bool:
    return path.is_file() and all(f'"{name}"'.encode() in path.read_bytes() for name in _TABLES)


def cnn_beside(checkpoint: Path) -> Path | None:
    """The one file of a CNN's weights in a checkpoint's folder, if there is any.

    Raises:
        ValueError: there are several.
    """
    folder = checkpoint.parent
    found = sorted(p for p in folder.iterdir() if p.suffix in CNN_SUFFIXES)
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise ValueError(f"{folder}: expected one file of the CNN's weights, found {names}")
    return found[0] if found else None


def network_beside(checkpoint: Path) -> Path | None:
    """The one file of Torch7 with a network in a checkpoint's folder, if there is any.

    Raises:
        ValueError: there are several.
    """
    folder = checkpoint.parent
    found = [path for path in sorted(folder.glob("*.t7")) if is_network(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: expected one file (.t7) with the CNN, found {names}")
    return found[0] if found else None


class Flat:
    """A flat vector taken apart from its start."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def take(self, *shape: int) -> Tensor:
        """The next values of the vector, in that shape."""
        size = math.prod(shape)
        taken, self._values = self._values[:size], self._values[size:]
        return taken.view(shape)


def lstm_size(inputs: int, hidden: int, layers: int) -> int:
    """Number of weights of an LSTM."""
    first, more = (4 * hidden * (n + 1 + hidden + 1) for n in (inputs, hidden))
    return first + (layers - 1) * more


def lstm_weights(
    flat: Flat, *, inputs: int, hidden: int, layers: int
) -> Iterator[tuple[str, Tensor]]:
    """An LSTM's weights under the names of ``nn.LSTM``; gates i, f, o, g become i, f, g, o."""
    for layer in range(layers):
        for kind, width in (("ih", hidden if layer else inputs), ("hh", hidden)):
            for what, values in (
                ("weight", flat.take(4 * hidden, width)),
                ("bias", flat.take(4 * hidden)),
            ):
                i, f, o, g = values.chunk(4)
                yield f"{what}_{kind}_l{layer}", torch.cat([i, f, g, o])
