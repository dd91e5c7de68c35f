"""Whether a score uses the values that its model takes out of autograd's sight: others are given.

A model may look at values, or write them down (``item``, ``numpy``, ``print``), without a use of
them in its score. If it is given others in their place and the score stays the same to the last
bit, no gradient is lost there, however hard the score is to differentiate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from vlcam.attribution.derivative.suspects import is_escape, is_real
from vlcam.utils.exact_backward import is_exact
from vlcam.utils.torch_calls import TorchCalls

_FACTORS = (1.03, 0.97)


def is_used(score: Callable[[Tensor], float], maps: Tensor) -> bool:
    """Whether a score of maps uses values that its model takes out of autograd's sight."""
    plain = score(maps)
    for factor in _FACTORS:
        with _Disturbed(factor):
            if score(maps) != plain:
                return True
    return False


class _Disturbed(TorchCalls):
    """Gives a multiple of every value taken out of autograd's sight, while active in this
    thread."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor
        self._given: list[Tensor] = []  # by their address, perhaps: they have to stay

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        given = (args, kwargs)
        if is_escape(func) and not is_exact():
            given = tree_map(self._moved, given)
        return func(*given[0], **given[1])

    def _moved(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not is_real(value):
            return value
        with torch.no_grad():
            self._given.append(value.detach() * self._factor)
        return self._given[-1]
