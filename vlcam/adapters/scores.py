"""The scores that a model gives, checked before anybody reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt


def decoded(
    adapter: Adapter, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
) -> Tensor:
    """The scores (N, S) of N rows; arguments as of :meth:`Adapter.decode`.

    Raises:
        ValueError: ``decode`` gave anything but real numbers (N, at least as many as are wanted).
    """
    found = adapter.decode(features, prompts, wanted)
    width = 1 if wanted is None else wanted.shape[1]
    return checked(found, f"{adapter.name}: decode", len(prompts), width)


def checked(found: Any, who: str, rows: int, width: int = 1) -> Tensor:
    """What a scoring function gave, if it is a tensor of real numbers (rows, at least ``width``).

    Args:
        who: gave it, for the error.

    Raises:
        ValueError: it is anything else.
    """
    expected = f"({rows}, at least {width})"
    if not isinstance(found, Tensor):
        raise ValueError(f"{who} gave {_told(found)}; expected a tensor of scores {expected}")
    shape = tuple(found.shape)
    if len(shape) != 2 or shape[0] != rows or shape[1] < width:
        raise ValueError(f"{who} gave scores of shape {shape} for {rows} rows; expected {expected}")
    if not found.is_floating_point():
        kind = str(found.dtype).removeprefix("torch.")
        raise ValueError(f"{who} gave scores of type {kind}; expected floating point")
    return found


def _told(found: Any) -> str:
    """What it is, and where in it a tensor is."""
    kind = f"a {type(found).__name__}"
    if isinstance(found, dict):
        tensors = [str(key) for key, value in found.items() if isinstance(value, Tensor)]
        return f"{kind} with the tensors {', '.join(tensors)}" if tensors else kind
    if isinstance(found, list | tuple):
        return f"{kind} of {len(found)}"
    return "nothing" if found is None else kind
