"""The weights in a folder of transformers: in which files they are, and what these hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from vlcam.formats.folders.files import inside, read_settings
from vlcam.formats.folders.foreign import foreign
from vlcam.formats.state_dict import read_state_dict, unreadable
from vlcam.formats.wrapped_names import unwrapped
from vlcam.utils.messages.expected import described

_KINDS = ("model.safetensors", "pytorch_model.bin")
"""The files of weights, the preferred first; each may be several, which an index names."""

_SAFE, _INDEX = ".safetensors", ".index.json"

_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors|.*\.distcp")

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class StoredWeights:
    """Weights by name, by themselves: without the prefixes of what wrapped the model.

    Attributes:
        values: tensors, or parts of a file of safetensors that become one when they are indexed.
        shapes: of each.
        dtype: of the first that holds floating-point numbers, in the files' order; None: none does.
        plain: whether they are in files of safetensors, by these names.
    """

    values: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    dtype: torch.dtype | None
    plain: bool

    @classmethod
    def of(cls, folder: Path, named: str | None = None) -> StoredWeights:
        """Those in a folder.

        Args:
            named: the file, or index of files, that the configuration names; None: one of the usual
                names.

        Raises:
            ValueError: there are none, a file is missing or damaged, or lies outside of the folder;
                a tensor is twice there, or not where the index says.
        """
        values: dict[str, Any] = {}
        placed: dict[str, Path] = {}
        plain = True
        for path, promised in _files(folder, named).items():
            raw = _read(path)
            here = unwrapped(raw, str(path))
            plain = plain and path.suffix == _SAFE and here.keys() == raw.keys()
            for name in promised:
                if name not in here:
                    raise ValueError(f"{path}: lacks {name}, which the index says is there")
            for name in here:
                if name in placed:
                    raise ValueError(f"{path}: {name} is also in {placed[name].name}")
                placed[name] = path
            values |= here
        shapes = {name: _shape(value) for name, value in values.items()}
        floats = (_floating(value) for value in values.values())
        dtype = next((dtype for dtype in floats if dtype is not None), None)
        return cls(values, shapes, dtype, plain)


def _files(folder: Path, named: str | None) -> dict[Path, list[str]]:
    """The files of weights, each with the names that the index promises in it."""
    for path in sorted(folder.iterdir()):
        if _DISTRIBUTED.fullmatch(path.name):
            raise ValueError(f"{path}: part of a distributed checkpoint; expected {_expected()}")
    if named is not None:
        return _listed(folder, inside(folder, named, str(folder / "config.json")))
    for kind in _KINDS:
        for name in (kind, kind + _INDEX):
            if (folder / name).is_file():
                return _listed(folder, folder / name)
    other = foreign(folder)
    found = f"found {', '.join(other[:3])}; " if other else ""
    raise ValueError(f"{folder}: no weights; {found}expected {_expected()}")


def _expected() -> str:
    return " or ".join(f"{kind} (or {kind}{_INDEX})" for kind in _KINDS)


def _listed(folder: Path, path: Path) -> dict[Path, list[str]]:
    if not path.name.endswith(_INDEX):
        return {path: []}
    suffix = Path(path.name.removesuffix(_INDEX)).suffix
    places = read_settings(path).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{path}: no index of weights (weight_map)")
    files: dict[Path, list[str]] = {}
    for name, place in unwrapped(places, str(path)).items():
        if not isinstance(place, str) or Path(place).suffix != suffix:
            raise ValueError(
                f"{path}: {name} is in {described(place)}; expected a file of {suffix}"
            )
        files.setdefault(inside(folder, place, str(path)), []).append(name)
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise ValueError(f"{path}: names {missing.name}, which is not there")
    return dict(sorted(files.items()))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix != _SAFE:
            return dict(read_state_dict(path))
        file = safe_open(path, framework="pt")
        return {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # as in read_state_dict
        raise ValueError(f"{path.parent}: cannot be loaded ({_reason(path, error)})") from error


def _reason(path: Path, error: Exception) -> str:
    reason = unreadable(error)
    return reason if str(path) in reason else f"{path.name}: {reason}"


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape if isinstance(value, torch.Tensor) else value.get_shape())


def _floating(value: Any) -> torch.dtype | None:
    if isinstance(value, torch.Tensor):
        return value.dtype if value.is_floating_point() else None
    return _FLOATS.get(value.get_dtype())
