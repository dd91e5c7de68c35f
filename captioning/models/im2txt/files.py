"""im2txt's files: a TensorFlow checkpoint and its vocabulary, or a folder of ours.

A checkpoint is ``PREFIX.index`` and ``PREFIX.data-*`` (or one file of version 1), as
:mod:`vlcam.formats.tensorflow_checkpoint` reads them; beside it lies ``word_counts.txt``.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captioning.models.im2txt.inception import from_slim
from captioning.models.im2txt.model import ARCHITECTURE, END, START, Config, Im2txt, ShowAndTell
from vlcam.formats import checkpoint
from vlcam.formats.state_dict import check_fit, load_exactly
from vlcam.formats.tensorflow_checkpoint import (
    STATE,
    TensorFlowCheckpoint,
    is_version_1,
    prefix_of,
    prefixes,
    read_checkpoint,
)
from vlcam.models import of_architecture
from vlcam.utils.files.input_files import read_bytes

WORDS = "word_counts.txt"
"""The usual name of the vocabulary's file; any other ``.txt`` of such content will do."""

_CNN = "InceptionV3/"
_IMAGE = "image_embedding/weights"
_WORDS = "seq_embedding/map"
_LOGITS = ("logits/weights", "logits/biases")
_LSTMS = (
    ("lstm/basic_lstm_cell/kernel", "lstm/basic_lstm_cell/bias"),
    ("lstm/basic_lstm_cell/weights", "lstm/basic_lstm_cell/biases"),
    ("lstm/BasicLSTMCell/Linear/Matrix", "lstm/BasicLSTMCell/Linear/Bias"),
)
"""Names of the LSTM's weights and biases: of TensorFlow since 1.2, of 1.0 and of 0.x."""

_UNUSED = ("InceptionV3/Logits/", "InceptionV3/AuxLogits/", "OptimizeLoss/")
"""What a checkpoint may hold besides: the CNN's classifiers and the state of the training."""

_FORGET_BIAS = 1.0  # added when the cell runs, not stored
_HEAD = 2**20  # bytes of a file of version 1 that are searched for names


def recognises(path: Path) -> bool:
    """Whether a file belongs to, or a folder holds, such a checkpoint; or it is one of ours."""
    if of_architecture(ARCHITECTURE)(path):
        return True
    if path.is_dir() or path.name == STATE:
        folder = path if path.is_dir() else path.parent
        return any(map(_is_im2txt, prefixes(folder))) or any(map(_is_version_1, folder.iterdir()))
    try:
        prefix = prefix_of(path)
    except ValueError:
        return _is_version_1(path)
    return prefix in prefixes(path.parent) and _is_im2txt(prefix)


def load(path: Path, layer: str | None = None) -> Im2txt:
    """A captioner from a checkpoint (its folder, prefix or any of its files), or from one of ours.

    Args:
        layer: an end point of slim's Inception v3; None: ``Mixed_7c``.

    Raises:
        ValueError: a file is missing, damaged, of another architecture, or does not fit the
            others; one line says which and why.
    """
    if of_architecture(ARCHITECTURE)(path):
        folder = path if path.is_dir() else path.parent
        model = checkpoint.load_folder(path, _build, "im2txt captioner")
        return Im2txt(model.requires_grad_(False), folder.name, layer)
    stored = read_checkpoint(path)
    config = Config(_read_words(stored.prefix))
    what = f"{stored.prefix}: not an im2txt captioner"
    # The shapes alone first: nothing is read, and nothing allocated, of what does not fit.
    with torch.device("meta"):
        _model(config, _state(stored, _shape), what)
    state = _state(stored, _numbers)
    model = _model(config, state, what)
    load_exactly(model, state, what)
    return Im2txt(model.eval().requires_grad_(False), stored.prefix.name, layer)


def _model(config: Config, state: dict[str, Tensor], what: str) -> ShowAndTell:
    """The model of weights of these shapes, which are not loaded."""
    try:
        model = ShowAndTell(config, state)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    check_fit(model, state, what)
    return model


def _shape(stored: TensorFlowCheckpoint, name: str) -> Tensor:
    """A tensor without numbers, where the variable's file may hold them."""
    stored.check(name)
    return torch.empty(stored.variables[name].shape, device="meta")


def _numbers(stored: TensorFlowCheckpoint, name: str) -> Tensor:
    return torch.from_numpy(stored.read(name).astype(np.float32))


def _build(data: Any, weights: dict[str, Tensor]) -> ShowAndTell:
    return ShowAndTell(checkpoint.from_json(Config, data, ARCHITECTURE, "captioner"), weights)


def _is_im2txt(prefix: Path) -> bool:
    """Whether that checkpoint, or what is left of it, is of this family."""
    index = prefix.with_name(f"{prefix.name}.index")
    if not index.is_file():
        return bool(_word_files(prefix.parent))
    try:
        names = read_checkpoint(index).variables
    except ValueError:
        return _CNN.encode() in index.read_bytes()
    return _IMAGE in names and any(name.startswith(_CNN) for name in names)


def _is_version_1(path: Path) -> bool:
    """Whether it is one file that seems to hold this family's variables."""
    if not is_version_1(path):
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    # Compressed: names are whole as far as nothing like them came before.
    return all(part in head for part in (b"InceptionV3/Conv2d_1a", b"image_embed"))


def _state(
    stored: TensorFlowCheckpoint, read: Callable[[TensorFlowCheckpoint, str], Tensor]
) -> dict[str, Tensor]:
    """Our names and layout for a checkpoint's variables, each as ``read`` gives it.

    Raises:
        ValueError: some are missing, or those of the LSTM do not have its shapes.
    """
    what = f"{stored.prefix}: not an im2txt captioner"
    names = [name for name in stored.variables if _is_weight(name, stored)]
    lstm = next((pair for pair in _LSTMS if pair[0] in names), _LSTMS[0])
    single = (_IMAGE, _WORDS, *_LOGITS, *lstm)
    missing = [name for name in single if name not in names]
    if missing:
        raise ValueError(f"{what}: missing {', '.join(missing)}")
    values = {name: read(stored, name) for name in single}
    state = {
        "image.weight": values[_IMAGE].T,
        "embed_word.weight": values[_WORDS],
        "logits.weight": values[_LOGITS[0]].T,
        "logits.bias": values[_LOGITS[1]],
    }
    kernel, bias = (values[name] for name in lstm)
    if kernel.ndim != 2 or bias.ndim != 1 or kernel.shape[1] != len(bias) or len(bias) % 4:
        shapes = f"{tuple(kernel.shape)} and {tuple(bias.shape)}"
        raise ValueError(f"{what}: {lstm[0]} and {lstm[1]} have shapes {shapes}")
    state |= _lstm(kernel, bias)
    seen = [name for name in names if name.startswith(_CNN)]
    cnn = from_slim((name.removeprefix(_CNN), read(stored, name)) for name in seen)
    state |= {f"encoder.{name}": value for name, value in cnn.items()}
    others = [name for name in names if name not in single and name not in seen]
    return state | {name: torch.zeros(0) for name in others}  # to be refused by name


def _is_weight(name: str, stored: TensorFlowCheckpoint) -> bool:
    """Whether a variable is part of the model: no counter, no classifier of the CNN, and no state
    that the training keeps for another variable (such names begin with that one's)."""
    counts = stored.variables[name].shape == ()
    remembered = name.rpartition("/")[0] in stored.variables
    return not counts and not remembered and not name.startswith(_UNUSED)


def _lstm(kernel: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """PyTorch's weights of an LSTM. TensorFlow's kernel is (input and h, 4 H), with gates in the
    order i, j (the candidate), f, o; ours is i, f, j, o."""

    def ordered(values: Tensor) -> Tensor:
        i, j, f, o = values.chunk(4)
        return torch.cat([i, f, j, o])

    hidden = len(bias) // 4
    weights = ordered(kernel.T)
    forget = torch.zeros(4, hidden)
    forget[1] = _FORGET_BIAS
    return {
        "lstm.weight_ih_l0": weights[:, :-hidden],
        "lstm.weight_hh_l0": weights[:, -hidden:],
        "lstm.bias_ih_l0": ordered(bias),
        "lstm.bias_hh_l0": forget.flatten(),
    }


def _read_words(prefix: Path) -> tuple[str, ...]:
    """The vocabulary beside a checkpoint."""
    found = _word_files(prefix.parent)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(
            f"{prefix.parent}: expected one vocabulary beside {prefix.name}, {WORDS} with lines of"
            f" a word and its count, {START} and {END} among them; found {names}"
        )
    return _words_in(found[0])


def _word_files(folder: Path) -> list[Path]:
    """The file of the usual name; or else those with such content."""
    if (folder / WORDS).is_file():
        return [folder / WORDS]
    found = []
    for file in sorted(folder.glob("*.txt")):
        try:
            _words_in(file)
        except ValueError:
            continue
        found.append(file)
    return found


def _words_in(path: Path) -> tuple[str, ...]:
    """The first of the two columns of a file.

    Raises:
        ValueError: there are not two, or it is none of this kind.
    """
    try:
        lines = read_bytes(path).rstrip().split(b"\n")
        pairs = [line.split() for line in lines]
        words = [word.decode() for word, count in pairs if int(count) >= 0]
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: not lines of a word and its count ({error})") from error
    if all(word[:2] in ("b'", 'b"') for word in words):  # Python 3's way to write Python 2's
        words = [_unquoted(word, path) for word in words]
    if START not in words or END not in words:
        raise ValueError(f"{path}: {START} and {END} are not among its words")
    return tuple(words)


def _unquoted(word: str, path: Path) -> str:
    try:
        if not re.fullmatch(r"""b(['"]).*\1""", word):
            raise ValueError("not bytes")
        return str(literal_eval(word).decode())
    except (SyntaxError, ValueError, AttributeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path}: {word[:50]} is no word") from error
