"""The scores that a model gives, checked before anybody reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt
from vlcam.utils.exact_backward import exact_backward
from vlcam.utils.messages.expected import kind_of

ABOVE_ZERO = 1e-2
"""What rounding may make of a log-probability of 0, at most."""


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
    expected = f"({rows}, {'S' if width == 1 else f'at least {width}'})"
    if not isinstance(found, Tensor) or found.layout != torch.strided:
        raise ValueError(f"{who} gave {_told(found)}; expected a tensor of scores {expected}")
    shape = tuple(found.shape)
    if len(shape) != 2 or shape[0] != rows or shape[1] < width:
        raise ValueError(f"{who} gave scores of shape {shape} for {rows} rows; expected {expected}")
    if not found.is_floating_point():
        kind = str(found.dtype).removeprefix("torch.")
        raise ValueError(f"{who} gave scores of type {kind}; expected floating point")
    return found


@exact_backward()
def refuse_not_finite(scores: Tensor, who: str, names: Sequence[str]) -> None:
    """Raise ValueError at a score (N,) that is not a number, or infinite; ``names`` says of
    what."""
    wrong = (~scores.detach().isfinite()).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"{who}: the score of {names[wrong[0]]!r} is {float(scores.detach()[wrong[0]])}"
        )


def _told(found: Any) -> str:
    """What it is, and where in it a tensor is."""
    kind = kind_of(found)
    if isinstance(found, Tensor):
        return "a sparse tensor"
    if isinstance(found, dict):
        tensors = [str(key) for key, value in found.items() if isinstance(value, Tensor)]
        return f"{kind} with the tensors {', '.join(tensors)}" if tensors else kind
    if isinstance(found, list | tuple):
        return f"{kind} of {len(found)}"
    return "nothing" if found is None else kind
