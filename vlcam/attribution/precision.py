"""Half precision: gradients that would underflow in it, and values that are taken out of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

_SCALES = (1024.0, 32.0, 1.0)  # log-probability gradients underflow float16


class Differentiate(Protocol):
    """``torch.autograd.grad``, or what calls it: None with respect to what plays no part."""

    def __call__(
        self, value: Tensor, inputs: Sequence[Tensor], /, *, retain_graph: bool
    ) -> tuple[Tensor | None, ...]: ...


_PLAIN: Differentiate = partial(torch.autograd.grad, allow_unused=True)


def gradients(
    value: Tensor,
    inputs: Sequence[Tensor],
    *,
    half: bool,
    retain_graph: bool = False,
    by: Differentiate = _PLAIN,
) -> list[Tensor | None]:
    """The derivatives of a scalar, float32 or better; None with respect to what plays no part.

    Args:
        half: whether float16 is among what is computed in: see :func:`computed_in_half`. Then
            a multiple of the value is differentiated, and the derivatives are divided by as much;
            those that overflow float16 are found by a smaller multiple.
    """
    *larger, last = _SCALES if half else (1.0,)
    found: list[Tensor | None] = [None] * len(inputs)
    for scale in larger:
        some = _by(scale, by(value * scale, inputs, retain_graph=True))
        found = [_mended(old, new) for old, new in zip(found, some, strict=True)]
        if all(each is None or bool(each.isfinite().all()) for each in found):
            return found
    some = _by(last, by(value * last, inputs, retain_graph=retain_graph))
    return [_mended(old, new) for old, new in zip(found, some, strict=True)]


def _by(scale: float, some: Sequence[Tensor | None]) -> list[Tensor | None]:
    whole = [None if each is None else at_least_float32(each) for each in some]
    if scale == 1:  # one number stays one number in memory, where it is the same everywhere
        return whole
    return [None if each is None else each / scale for each in whole]


def _mended(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    """The derivatives as they were, where they are finite."""
    return new if old is None or new is None else old.where(old.isfinite(), new)


def computed_in_half(*tensors: Tensor) -> bool:
    """Whether one of them is, or what is computed with it may be, in float16."""
    return any(_is_half(tensor) for tensor in tensors)


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
