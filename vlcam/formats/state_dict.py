"""State dicts: tensors by name, read from files and loaded into modules exactly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vlcam.formats.torch_pickle import module_state, read_torch_modules
from vlcam.formats.wrapped_names import unwrapped
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.expected import described_shape, expect

WEIGHTS = "model.safetensors"
"""The file with a model's weights, in the model's folder."""

CNN_PREFIX = "encoder.net."
"""What the names of the CNN's weights begin with in that file."""


_SAYING = (SafetensorError, ImportError, OSError, RuntimeError, ValueError)
"""Errors whose messages say what is wrong with a file."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file, or one of ``torch.save`` with nothing else in it;
    names as by :func:`vlcam.formats.wrapped_names.unwrapped`.

    Raises:
        ValueError: there is no such file, it cannot be read, or it is no state dict.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return unwrapped(load_file(path), str(path))
        # Checksums are left alone, as by torch.load: they take longer than the reading.
        saved = read_torch_modules(path, checksums=False)
        whole = expect(saved, dict, f"{path}: what it holds", "a state dict (names to tensors)")
        return module_state(whole, f"{path}: expected a state dict (names to tensors)")
    except Exception as error:  # whatever a damaged file makes safetensors stumble over
        why = unreadable(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: not a readable weights file ({why})") from error


def unreadable(error: Exception) -> str:
    """Why torch or safetensors could not read a file, in one line."""
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:  # torch's own words advise to trust the file
        return f"it asks for {refused[1]}; only tensors are read"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    checked = type(error).__module__.startswith("huggingface_hub.")  # a setting of another type
    if isinstance(error, _SAYING) or checked or type(error) is Exception:  # as tokenizers raises
        return one_line(error)[:200]
    return "damaged, or of another kind"


def load_exactly(module: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """``load_state_dict``, strict about names, shapes, kinds of numbers and their being finite.

    Raises:
        ValueError: something does not fit; one line that begins with ``what``.
    """
    check_fit(module, state, what)
    for key, value in state.items():
        if value.layout == torch.strided and not value.isfinite().all():
            raise ValueError(f"{what}: {key} holds numbers that are not finite")
    try:
        module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # sparse tensors, and the like
        raise ValueError(f"{what}: {' '.join(str(error).split())}") from error


def check_fit(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Raises ValueError, one line that begins with ``what``, where names, shapes or kinds of
    numbers are not the module's; the numbers are not looked at."""
    own = module.state_dict()
    # Torch files older than 1.0 lack these counters, which only cumulative averages use.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    for problem, keys in (("missing", missing), ("unexpected", extra)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ValueError(f"{what}: {problem} {', '.join(keys[:3])}{more}")
    for key, value in state.items():
        if value.shape != own[key].shape:
            shapes = f"{described_shape(value.shape)}, expected {described_shape(own[key].shape)}"
            raise ValueError(f"{what}: {key} has shape {shapes}")
        if value.is_floating_point() != own[key].is_floating_point():
            raise ValueError(f"{what}: {key} holds {value.dtype}, expected {own[key].dtype}")


def matrix(state: Mapping[str, Tensor], name: str, what: str = "") -> tuple[int, int]:
    """Rows and columns of a matrix in a state dict.

    Raises:
        ValueError: there is no such matrix; one line that begins with ``what``.
    """
    if name not in state or state[name].ndim != 2:
        raise ValueError(f"{what}: no matrix {name}" if what else f"no matrix {name}")
    rows, columns = state[name].shape
    return rows, columns
