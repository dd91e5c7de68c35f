"""Running a CNN on a CPU, forward and backward, in the memory order in which it is fastest.

With channels last (each cell's channels side by side) all of torchvision's CNNs take less time,
some of them half. Only the last bits of their feature maps differ.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vlcam.utils.torch_calls import TorchCalls


def run_channels_last(before: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """``before(pixels)``: feature maps (B, K, u, v), in the usual order, of pixels (B, 3, H, W).

    For networks that never ``view`` their activations: all of vlcam's.
    """
    differentiated = torch.is_grad_enabled() and pixels.requires_grad
    with _ForManyBackwardPasses() if differentiated and pixels.is_cpu else nullcontext():
        return before(fastest(pixels)).contiguous()


def fastest(pixels: Tensor) -> Tensor:
    """The same pixels (B, C, H, W), channels last in memory on a CPU."""
    return pixels.contiguous(memory_format=torch.channels_last) if pixels.is_cpu else pixels


class _ForManyBackwardPasses(TorchCalls):
    """What costs little in the forward pass, and saves much in each of many backward passes: the
    weights of convolutions are brought into the order of their inputs once, and batch normalisation
    by running statistics is computed as the multiplication and addition that it is."""

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if func is torch.conv2d and len(args) > 1:
            x, weight, *rest = args
            args = (x, weight.contiguous(memory_format=torch.channels_last), *rest)
        elif func is functional.batch_norm:
            func = _batch_norm
        return func(*args, **kwargs)


class PlainBatchNorm(TorchCalls):
    """Batch normalisation by running statistics as the multiplication and addition that it is: of
    several gradients at a time in another memory order than the values', PyTorch 2.14's own makes
    wrong ones (tests/vlcam/adapters/test_once_per_image.py)."""

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return (_batch_norm if func is functional.batch_norm else func)(*args, **kwargs)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """torch's, with its signature; faster to differentiate where its statistics are fixed."""
    if (
        training
        or running_mean is None
        or running_var is None
        or input.ndim != 4
        or input.dtype != running_mean.dtype
    ):
        return functional.batch_norm(
            input, running_mean, running_var, weight, bias, training, momentum, eps
        )
    scale = (running_var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - running_mean * scale
    return input * scale[:, None, None] + shift[:, None, None]
