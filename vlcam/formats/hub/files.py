"""Which files of a repository of the hub are a model's: its texts, and one set of its weights."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TEXTS = (".json", ".txt", ".model", ".jinja")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files of weights, the preferred first; each may be in several parts."""

_PART = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<parts>\d{5})(?P<suffix>\.\w+)")


def texts(names: Iterable[str]) -> list[str]:
    """The files of settings, words and templates."""
    return sorted(name for name in _top(names) if name.endswith(_TEXTS))


def weights(names: Iterable[str]) -> list[str]:
    """The files of the preferred set of weights that is whole; empty where none is."""
    there = _top(names)
    for whole in _WEIGHTS:
        if whole in there:
            return [whole]
        parts = _parts(there, whole)
        if parts:
            return parts
    others = sorted(name for name in there if name.endswith(".safetensors"))
    return [] if any(map(_part, others)) else others


def _parts(there: set[str], whole: str) -> list[str]:
    """The parts that a file of weights is in, if all of them are there."""
    stem, _, suffix = whole.rpartition(".")
    found = [
        (name, int(part["parts"]))
        for name in sorted(there)
        if (part := _part(name)) and (part["name"], part["suffix"]) == (stem, f".{suffix}")
    ]
    return [name for name, _ in found] if found and len(found) == found[0][1] else []


def _part(name: str) -> re.Match[str] | None:
    return _PART.fullmatch(name)


def _top(names: Iterable[str]) -> set[str]:
    """Those in no folder of the repository: variants for other programs are in folders."""
    return {name for name in names if "/" not in name}
