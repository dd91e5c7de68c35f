"""Tokenizers of transformers: read from a folder, and asked so that each failure names its file."""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from transformers import AutoTokenizer

from vlcam.formats.folders.files import read_settings
from vlcam.formats.state_dict import unreadable
from vlcam.utils.files.text_files import objects_within
from vlcam.utils.messages.errors import one_line
from vlcam.utils.terminal.native_stderr import held_back

_FAST = "tokenizer.json"
_FILES = (
    _FAST,
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)

_PROBE = f"A photo of two dogs, isn't it? {string.printable} {64 * 'a'}! {8 * 'é'} {64 * ' '}."
"""Words, every character of ASCII, and runs of one, on which regular expressions run away."""

_GROWTH = 1000
"""Tokens, or characters, that one character may become."""

Given = TypeVar("Given")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder, a fast one.

    Raises:
        ValueError: it is missing, damaged or no fast one, splits words at random, or makes far more
            of a text than the text; one line says which.
    """
    if not any((folder / name).is_file() for name in _FILES):
        raise ValueError(f"{folder}: no tokenizer; expected {' or '.join(_FILES)}")
    if (folder / _FAST).is_file():
        _check(read_settings(folder / _FAST), folder / _FAST)
    tokenizer = _asked(
        folder,
        "cannot be loaded",
        lambda: AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ),
    )
    if not getattr(tokenizer, "is_fast", False):
        name = type(tokenizer).__name__
        raise ValueError(f"{folder}: {name} is no fast tokenizer; expected {_FAST}")
    if len(tokenize(tokenizer, _PROBE)["input_ids"]) > _GROWTH * len(_PROBE):
        raise ValueError(f"{_file(tokenizer)}: it makes far more of a text than the text")
    return tokenizer


def tokenize(tokenizer: Any, text: str, **options: Any) -> Any:
    """What the tokenizer makes of a text: ``tokenizer(text, **options)``.

    Raises:
        ValueError: it fails at it; one line that names its file.
    """
    return _asked(_file(tokenizer), "cannot split a text", lambda: tokenizer(text, **options))


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of tokens, without special ones.

    Raises:
        ValueError: as by :func:`tokenize`.
    """
    text: str = _asked(
        _file(tokenizer),
        "cannot write a text",
        lambda: tokenizer.decode(ids, skip_special_tokens=True),
    )
    return text


def _file(tokenizer: Any) -> Path:
    return Path(tokenizer.name_or_path, _FAST)


def _asked(where: Path, what: str, ask: Callable[[], Given]) -> Given:
    """Asks a tokenizer, which may give up in Rust: with a panic, no exception like others, which it
    also writes to standard error."""
    try:
        with held_back():
            return ask()
    except Exception as error:  # whatever a damaged file makes it stumble over
        raise ValueError(f"{where}: {what} ({unreadable(error)})") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{where}: {what} ({one_line(error)[:200]})") from error


def _check(said: dict[str, Any], path: Path) -> None:
    """Refuses what takes chances, and what would grow a text beyond all bounds."""
    model = said.get("model")
    if isinstance(model, dict) and model.get("dropout"):
        raise ValueError(f"{path}: splits words at random (dropout {model['dropout']!r})")
    growth = math.prod(map(_growth, _replacements(said)))
    if growth > _GROWTH:
        raise ValueError(f"{path}: its replacements make a text up to {growth:.0e} times as long")


def _replacements(said: dict[str, Any]) -> Iterator[dict[str, Any]]:
    parts = [said.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]
    return (found for found in objects_within(parts) if found.get("type") == "Replace")


def _growth(replacement: dict[str, Any]) -> float:
    """How many times as long a text may be behind it."""
    content, pattern = replacement.get("content"), replacement.get("pattern")
    if not isinstance(content, str) or not isinstance(pattern, dict):
        return 1
    if isinstance(text := pattern.get("String"), str) and text:
        return max(1, len(content) / len(text))
    return 1 + len(content)  # a regular expression may match between any two characters
