"""Building a model no larger than its weights: a configuration may ask for any size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
_TIMES, _FEW = 4, 2**28
"""A network may be built whole whose last layers are thrown away (of VGG-16 they are most)."""
_MADE, _SOME = 100, 5000  # tensors for each weight, and some


class NoLargerThan(TorchFunctionMode):
    """While it is in effect, tensors are made only of about as many numbers as the weights have.

    Args:
        state: the weights.

    Raises:
        ValueError: where one more would be too large, before it is made.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._numbers = _FEW + _TIMES * sum(value.numel() for value in state.values())
        self._made = _SOME + _MADE * len(state)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func in _MAKERS:
            self._numbers -= math.prod(_sizes([*args[:8], options.get("size", 1)]))
            self._made -= 1
            if self._numbers < 0 or self._made < 0:
                raise ValueError("it asks for a model many times as large as its weights")
        return func(*args, **options)


def _sizes(given: Any) -> list[int]:
    """The whole numbers in a shape, given as one or as several arguments."""
    found = []
    for size in given:
        if isinstance(size, int) and not isinstance(size, bool):
            found.append(size)
        elif isinstance(size, tuple | list):
            found += _sizes(size)
    return found
