"""Models and tokenizers of transformers, from a local folder: complete, and nothing but data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from transformers.utils import logging

from vlcam.formats.state_dict import unreadable
from vlcam.utils.text_files import read_json

_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)

_RECOMPUTED = re.compile(
    r"(position_ids|att(n|ention)\.(bias|masked_bias)|relative_position_index|_float_tensor"
    r"|inv_freq)$"
)
"""Buffers that older versions of transformers saved with the weights, and newer ones compute."""

_options: ContextVar[dict[str, Any] | None] = ContextVar("from_pretrained", default=None)


@contextmanager
def from_pretrained_with(**options: Any) -> Iterator[None]:
    """Within, models are loaded with these options of transformers' ``from_pretrained`` (``dtype``,
    ``device_map``, ``offload_folder``, ``attn_implementation``, ...)."""
    token = _options.set(options)
    try:
        yield
    finally:
        _options.reset(token)


def load_pretrained(kind: Any, folder: Path, unused: Sequence[str] = ()) -> tuple[Any, Any]:
    """A model of a class of transformers, in eval mode and frozen, and its tokenizer.

    In the precision in which it was saved. Reads nothing outside the folder, runs no code from it.

    Args:
        kind: the class, or an ``AutoModel...``.
        unused: prefixes of the names of weights that are never used and may be missing.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the
            tokenizer has more tokens than the model; one line says which.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ValueError(f"{folder}: no tokenizer; expected {' or '.join(_TOKENIZER_FILES)}")
    module = load_module(kind, folder, unused)
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # as in load_module
        raise ValueError(f"{folder}: cannot be loaded ({unreadable(error)})") from error
    if not getattr(tokenizer, "is_fast", False):
        name = type(tokenizer).__name__
        raise ValueError(f"{folder}: {name} is no fast tokenizer; expected tokenizer.json")
    rows = module.config.get_text_config().vocab_size
    added = tokenizer.get_added_vocab()  # often more than the model has rows for
    highest = max(i for token, i in tokenizer.get_vocab().items() if token not in added)
    if highest >= rows:
        raise ValueError(
            f"{folder}: the tokenizer has token {highest}, the model only {rows} tokens"
        )
    return module, tokenizer


def load_module(
    kind: Any, folder: Path, unused: Sequence[str] = (), left_out: Sequence[str] = ()
) -> Any:
    """The model alone; otherwise as :func:`load_pretrained`.

    Args:
        left_out: prefixes of the names of weights that the folder may hold and the model lacks.
    """
    try:
        with quietly():
            module, report = kind.from_pretrained(
                folder,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are reported, and refused below
                **(_options.get() or {}),
            )
    except Exception as error:  # whatever a damaged file makes transformers stumble over
        raise ValueError(f"{folder}: cannot be loaded ({unreadable(error)})") from error
    left_over = (key for key in report["unexpected_keys"] if not _RECOMPUTED.search(key))
    extra = {key for key in left_over if not key.startswith(tuple(left_out))}
    missing = {key for key in report["missing_keys"] if not key.startswith(tuple(unused))}
    for problem, keys in (("missing", missing), ("unexpected", extra)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            names = ", ".join(sorted(keys)[:3])
            raise ValueError(f"{folder}: not the weights of this model: {problem} {names}{more}")
    for key, found, expected in sorted(report["mismatched_keys"]):
        raise ValueError(
            f"{folder}: not the weights of this model: {key} has shape {tuple(found)},"
            f" expected {tuple(expected)}"
        )
    return module.eval().requires_grad_(False)


def image_settings(folder: Path) -> dict[str, Any]:
    """The settings of a folder's image processor; empty where it has none.

    Raises:
        ValueError: the file that holds them, which is named, is no JSON object.
    """
    settings: dict[str, Any] = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (folder / name).is_file():
            try:
                found = read_json(folder / name)
                if name == "processor_config.json" and "image_processor" not in found:
                    continue  # it is about other processors only
                settings = found.get("image_processor", found)
                break
            except (ValueError, AttributeError) as error:
                raise ValueError(
                    f"{folder / name}: not a processor's settings ({error})"
                ) from error
    return settings


def save_pretrained(folder: Path, module: Any, *parts: Any) -> None:
    """Write a model of transformers, its tokenizer and processors, by their own methods."""
    with quietly():
        for part in (module, *parts):
            part.save_pretrained(folder)


@contextmanager
def quietly() -> Iterator[None]:
    """Silences transformers' reports, warnings and progress bars; what matters, we raise."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
