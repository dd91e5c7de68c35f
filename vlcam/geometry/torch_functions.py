"""How each torch function moves the cells: the tables that :mod:`vlcam.geometry.cells` reads.

Each rule takes the output of a torch function, then that function's own arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vlcam.geometry.grid import line_through, pooled_cells

Moves = dict[int, tuple[float, float] | None]
"""By dimension of an output (-1 the last): (start, step), where its index k is centred at index
``start + step * k`` of the input. None: each index depends on the whole dimension. Dimensions that
are not listed stay as they are."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SAME = _names(
    """
    batch_norm instance_norm group_norm layer_norm rms_norm local_response_norm normalize
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout
    relu relu6 leaky_relu prelu elu celu selu gelu silu mish hardswish hardsigmoid hardtanh
    sigmoid tanh logsigmoid softplus softsign softshrink hardshrink tanhshrink
    softmax log_softmax softmin channel_shuffle native_channel_shuffle
    """
)
"""One output per input value, in its place."""

CONVERSIONS = _names("to type type_as float double half bfloat16 cpu cuda")
"""The same values in another type or on another device."""

VIEWS = _names(
    """
    view view_as reshape reshape_as flatten unflatten permute transpose t T mT swapaxes swapdims
    movedim moveaxis squeeze unsqueeze getitem select narrow chunk split tensor_split unbind
    expand expand_as broadcast_to detach data requires_grad
    """
)
"""The same values in another shape, or some of them."""

REDUCTIONS = _names(
    """
    mean sum amax amin max min prod logsumexp norm linalg_vector_norm
    std var std_mean var_mean median argmax argmin
    """
)
"""One value for some whole dimensions, or for all (with one tensor: ``max`` of two is another)."""

LIKE = _names("view_as reshape_as expand_as type_as to")
"""Of the second tensor these take only the shape or the type."""

NEW = _names(
    """
    new_empty new_zeros new_ones new_full new_tensor
    empty_like zeros_like ones_like full_like rand_like randn_like randint_like
    """
)
"""New tensors, which do not depend on the given one's values."""


def name_of(func: Callable[..., Any]) -> str:
    """A torch function's name in any form: ``add`` of add_, Tensor.__add__, aten.add.Tensor."""
    name = getattr(func, "__name__", str(func))
    if name in ("__get__", "__set__"):  # of a property
        owner = getattr(func, "__self__", None)
        name = getattr(getattr(owner, "fget", owner), "__name__", name)
    if name == "__float__":  # reads a value; Tensor.float is another
        return name
    return name.partition(".")[0].strip("_")


def writes_in_place(func: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    """Whether a function may change its argument (by torch's names for such functions)."""
    name = getattr(func, "__name__", "")
    if name.startswith("__"):
        writes = name.startswith("__i") and name not in ("__int__", "__index__", "__invert__")
        return writes or name in ("__setitem__", "__set__")
    return name.endswith("_") or kwargs.get("out") is not None


@cache
def is_pointwise(name: str) -> bool:
    """Whether torch says that the operation of that name is pointwise (or the one that it reverses,
    as ``rsub`` does ``sub``)."""
    packets = [getattr(torch.ops.aten, each, None) for each in (name, name.removeprefix("r"))]
    return any(
        torch.Tag.pointwise in getattr(packet, overload).tags
        for packet in packets
        if packet is not None
        for overload in packet.overloads()
    )


def _windows(kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Moves:
    """Cell i lies at ``d (k - 1) / 2 - p + s i``."""
    moves: Moves = {}
    for dim in (-2, -1):
        reach = _of(dilation, dim) * (_of(kernel, dim) - 1)  # from a window's first to its last
        if isinstance(padding, str):
            before = reach // 2 if padding == "same" else 0
        else:
            before = _of(padding, dim)
        moves[dim] = (reach / 2 - before, _of(stride, dim))
    return moves


def _of(value: Any, dim: int) -> int:
    """A parameter given for both dimensions at once, or as (y, x)."""
    if not isinstance(value, Sequence):
        return int(value)
    return int(value[dim] if len(value) > 1 else value[0])


def _conv2d(
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Moves:
    return _windows(weight.shape[-2:], stride, padding, dilation) | {-3: None}


def _conv_transpose2d(
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Moves:
    """As of the convolution, inverted."""
    moves: Moves = {-3: None}
    for dim, move in _windows(weight.shape[-2:], stride, padding, dilation).items():
        assert move is not None
        moves[dim] = (-move[0] / move[1], 1 / move[1])
    return moves


def _same(input: Tensor, *_: Any, **__: Any) -> tuple[int, ...]:
    return tuple(input.shape)


def _convolved(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[int, ...] | None:
    if isinstance(padding, str) or input.ndim != 4 or input.shape[1] != weight.shape[1] * groups:
        return None
    sides = []
    for dim in (-2, -1):
        reach = _of(dilation, dim) * (weight.shape[dim] - 1) + 1
        sides.append((input.shape[dim] + 2 * _of(padding, dim) - reach) // _of(stride, dim) + 1)
    return (len(input), len(weight), *sides) if min(sides) > 0 else None


def _padded(input: Tensor, pad: Sequence[int], *_: Any, **__: Any) -> tuple[int, ...] | None:
    shape = list(input.shape)
    for i in range(len(pad) // 2):
        shape[-1 - i] += pad[2 * i] + pad[2 * i + 1]
    return tuple(shape) if min(shape) > 0 else None


def _sum(input: Any, other: Any, **options: Any) -> tuple[int, ...] | None:
    if not isinstance(input, Tensor) or not isinstance(other, Tensor) or options:
        return None
    same = (input.shape, input.dtype) == (other.shape, other.dtype)
    return tuple(input.shape) if same else None


SHAPES: dict[str, Callable[..., tuple[int, ...] | None]] = {
    **dict.fromkeys(SAME, _same),
    "conv2d": _convolved,
    "pad": _padded,
    "add": _sum,
}
"""The shape of what a function makes, of its first argument's type; None: ask it. (On the meta
device functions are slow, and import PyTorch's compiler, which takes seconds.)"""


def _max_pool2d(
    output: Tensor,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Moves:
    return _windows(kernel_size, stride or kernel_size, padding, dilation)


def _avg_pool2d(
    output: Tensor,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Moves:
    return _windows(kernel_size, stride or kernel_size, padding)


def _adaptive_pool2d(output: Tensor, input: Tensor, *_: Any, **__: Any) -> Moves:
    moves: Moves = {}
    for dim in (-2, -1):
        cells, out = input.size(dim), output.size(dim)
        line = line_through(pooled_cells(cells, out), cells / out)
        moves[dim] = line if out > 1 or cells == 1 else None
    return moves


def _interpolate(
    output: Tensor,
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Moves:
    moves: Moves = {}
    for dim in (-2, -1):
        cells, out = input.size(dim), output.size(dim)
        step = cells / out
        if scale_factor is not None and not recompute_scale_factor:
            factor = scale_factor[dim] if isinstance(scale_factor, Sequence) else scale_factor
            step = 1 / factor
        if mode.startswith("nearest"):
            shift = 0.5 if mode == "nearest-exact" else 0.0
            taken = [min(int((k + shift) * step), cells - 1) for k in range(out)]
            moves[dim] = line_through(taken, step)
        elif align_corners:
            moves[dim] = (0.0, (cells - 1) / max(out - 1, 1))
        else:
            moves[dim] = _rescaled(step)
    return moves


def _shuffled(output: Tensor, input: Tensor, *_: Any, **__: Any) -> Moves:
    ratios = {dim: input.size(dim) / output.size(dim) for dim in (-2, -1)}
    return {-3: None} | {dim: _rescaled(ratio) for dim, ratio in ratios.items()}


def _rescaled(step: float) -> tuple[float, float]:
    """Resized between the edges: k + 1/2 of the output lies at step * (k + 1/2)."""
    return step / 2 - 0.5, step


def _pad(output: Tensor, input: Tensor, pad: Sequence[int], *_: Any, **__: Any) -> Moves:
    return {-1 - i: (-before, 1.0) for i, before in enumerate(pad[::2])}


def _flip(output: Tensor, input: Tensor, *dims: Any) -> Moves:
    flat = [dim for each in dims for dim in (each if isinstance(each, Sequence) else [each])]
    flipped = [dim - input.ndim if dim >= 0 else dim for dim in flat]
    return {dim: (input.size(dim) - 1.0, -1.0) for dim in flipped}


def _stay(output: Tensor, *_: Any, **__: Any) -> Moves:
    return {}


def _linear(output: Tensor, input: Tensor, *_: Any, **__: Any) -> Moves:
    return {-1: None}


MOVES: dict[str, Callable[..., Moves]] = {
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "max_pool2d": _max_pool2d,
    "max_pool2d_with_indices": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_pool2d,
    "adaptive_max_pool2d": _adaptive_pool2d,
    "adaptive_max_pool2d_with_indices": _adaptive_pool2d,
    "interpolate": _interpolate,
    "pixel_shuffle": _shuffled,
    "pixel_unshuffle": _shuffled,
    "pad": _pad,
    "flip": _flip,
    "linear": _linear,
    "contiguous": _stay,
}
"""The rule of each function that moves the cells, by its name."""
