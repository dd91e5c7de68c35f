"""Half precision: gradients that would underflow in it, and values that are taken out of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SCALE = 1024.0  # log-probability gradients underflow float16


def gradient_scale(*tensors: Tensor) -> float:
    """What a score is multiplied by before it is differentiated, and its gradients are divided by:
    1, unless one of these tensors is, or is computed with, in float16."""
    return _SCALE if any(_is_half(tensor) for tensor in tensors) else 1.0


def power_of_two_above(gradients: Sequence[Tensor]) -> Tensor:
    """Just above their greatest absolute value: divided by it (exactly) they do not underflow
    float16."""
    greatest = torch.stack([g.abs().amax() for g in gradients]).amax()
    return torch.ldexp(torch.ones_like(greatest), torch.frexp(greatest)[1])


def at_least_float32(tensor: Tensor) -> Tensor:
    """float32 of anything but float64, which stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _is_half(tensor: Tensor) -> bool:
    """Whether it is, or what is computed with it may be, in float16."""
    kind = tensor.device.type
    return tensor.dtype == torch.float16 or (
        torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    )
