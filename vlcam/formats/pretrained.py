"""Models and tokenizers of transformers, from a local folder: complete, and nothing but data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import transformers
from transformers import GenerationConfig
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationMethod

from vlcam.formats.extent import Extent, check_counts, no_larger_than
from vlcam.formats.folders.files import check_files, read_settings
from vlcam.formats.folders.foreign import ADAPTER
from vlcam.formats.folders.peft_adapter import MERGED, merge_adapter
from vlcam.formats.folders.tokenizer import load_tokenizer
from vlcam.formats.folders.weights import StoredWeights
from vlcam.formats.state_dict import unreadable
from vlcam.utils.files.text_files import objects_within, read_json
from vlcam.utils.messages.expected import described_shape

_CONFIG, _GENERATION = "config.json", "generation_config.json"
_SETTINGS = (
    _CONFIG,
    _GENERATION,
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
)
_PACKED = 32
"""Quantised numbers in one number of the file, at most."""

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
        kind: the class.
        unused: prefixes of the names of weights that are never used and may be missing.

    Raises:
        ValueError: a file is missing or damaged, weights are missing or left over, or the
            tokenizer has more tokens than the model; one line says which.
    """
    module = load_module(kind, folder, unused)
    tokenizer = load_tokenizer(folder)
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
    check_files(folder)
    said = _settings(folder)
    quantised = _quantisation(said, folder / _CONFIG)
    weights = StoredWeights.of(folder, said.get("transformers_weights"))
    extent = Extent.of(weights.shapes, packed=_PACKED if quantised else 1)
    check_counts(said, extent, str(folder / _CONFIG))
    try:
        with quietly(), no_larger_than(extent, _CONFIG):
            module, report = _built(kind, folder, weights)
    except Exception as error:  # whatever a damaged file makes transformers stumble over
        what = f"its weights are quantised ({quantised}), and " if quantised else ""
        raise ValueError(f"{folder}: {what}cannot be loaded ({unreadable(error)})") from error
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
            f"{folder}: not the weights of this model: {key} has shape"
            f" {described_shape(found)}, expected {described_shape(expected)}"
        )
    with quietly():
        merge_adapter(module, folder)
    return module.eval().requires_grad_(False)


def _built(kind: Any, folder: Path, weights: StoredWeights) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers reports of its weights."""
    config = kind.config_class.from_pretrained(folder, local_files_only=True)
    config._attn_implementation = None  # what the author's machine had
    options: dict[str, Any] = {"dtype": weights.dtype} if config.dtype is None else {}
    options |= {
        "config": config,
        "local_files_only": True,
        "trust_remote_code": False,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are reported, and refused by load_module
        **(_options.get() or {}),
    }
    if weights.plain and not (folder / ADAPTER).exists():
        module, report = kind.from_pretrained(folder, **options)
    else:  # transformers does not know these names, or would apply the adapter in its own way
        module, report = kind.from_pretrained(None, state_dict=weights.values, **options)
        if any(parameter.is_meta for parameter in module.parameters()):
            raise ValueError("weights by such names, or with an adapter, are not spread to disk")
    module.name_or_path = module.config.name_or_path = str(folder)
    if module.can_generate():
        module.generation_config = _generation(folder)
    return module, report


def _settings(folder: Path) -> dict[str, Any]:
    """The configuration of the model in a folder.

    Raises:
        ValueError: a file of settings is damaged, or asks for code of its own.
    """
    for path in (folder / name for name in _SETTINGS):
        if path.is_file() and _anywhere(read_settings(path), "auto_map"):
            raise ValueError(
                f"{path}: asks for code of its own (auto_map), which is never run; only models of"
                " transformers' own classes are read"
            )
    return read_settings(folder / _CONFIG)


def _quantisation(said: dict[str, Any], where: Path) -> str:
    """How the weights are quantised; empty where they are not.

    Raises:
        ValueError: in a way that transformers does not know.
    """
    found = _anywhere(said, "quantization_config")
    if not found:
        return ""
    known = [method.value for method in QuantizationMethod]
    method = found.get("quant_method") if isinstance(found, dict) else None
    if isinstance(found, dict) and (found.get("load_in_4bit") or found.get("load_in_8bit")):
        method = QuantizationMethod.BITS_AND_BYTES.value
    if method not in known:
        raise ValueError(
            f"{where}: quantization_config of an unknown kind ({method!r}); transformers knows"
            f" {', '.join(known)}"
        )
    return str(method)


def _anywhere(said: Any, name: str) -> Any:
    """The first setting of that name, however deep; None where there is none but empty ones."""
    return next((found[name] for found in objects_within(said) if found.get(name)), None)


def _generation(folder: Path) -> GenerationConfig:
    """How the model writes: of old models, the configuration says it."""
    own = (folder / _GENERATION).is_file()
    return GenerationConfig.from_pretrained(
        folder,
        config_file_name=_GENERATION if own else _CONFIG,
        local_files_only=True,
        _from_model_config=not own,
    )


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


def about(module: Any) -> dict[str, str]:
    """For results: who read a model of transformers, and what was merged into it."""
    merged = getattr(module, MERGED, None)
    return {"transformers": transformers.__version__} | ({"adapter": merged} if merged else {})


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
