"""Where the cells of a CNN's feature maps lie in its input.

:func:`derive` follows the pixels through the network: each operation says on which place of its
input its output's cells are centred (for a convolution of kernel k, stride s, padding p and
dilation d, cell i lies on ``d (k - 1) / 2 - p + s i``), and these affine maps compose to the offset
and stride of the explained layer. It is exact, reads only the shapes of the weights, and computes
no picture: the network runs on torch's meta device, under a mode that sees every function torch is
asked for in whatever form (module, functional, method, in place). What the mode does not know it
does not guess: a position that went through an unknown operation is lost, and missed if needed.

:func:`measure` knows nothing of layers. It disturbs the pixels and looks which of them a cell
answers to: slow and approximate, to check the derivation by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from vlcam.geometry import Grid

Run = Callable[[Tensor], Tensor]


class NoGridError(ValueError):
    """The cells of a layer have no known place in the input."""


def derive(run: Run, pixels: Tensor) -> Grid:
    """Where the cells of ``run(pixels)`` lie in the pixels, derived from the layers' parameters.

    Neither the model behind ``run`` nor torch's random numbers are touched, in training mode or in
    evaluation: weights and statistics are only ever seen as empty tensors of their shapes.

    Where branches with different places meet (a sum or a concatenation, as of ResNet-D's shortcuts)
    the cells lie at the branches' mean. What is one value for a whole axis (the factors of squeeze
    and excitation) moves nothing. Resizing by a ratio that is not whole (adaptive pooling of 8
    cells to 7, nearest interpolation) leaves cells unevenly spaced: the straight line through them
    is taken, off by less than one cell of what was resized.

    Args:
        run: from input pixels (N, C, H, W) to the explained layer's feature maps (N, K, u, v).
        pixels: an input; only its shape (but for N) and dtype are used.

    Raises:
        NoGridError: the layer's output is not (N, K, u, v), or a position was lost on the way to
            it: flattened, pooled over the whole axis, or changed by an operation that is not known
            here. The message names the operation.
    """
    # Two of them: batch normalisation in training mode may refuse a batch of one.
    blank = torch.empty((2, *pixels.shape[1:]), dtype=pixels.dtype, device="meta")
    follow = _Follow(blank)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), follow:
        maps = run(blank)
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        what = tuple(maps.shape) if isinstance(maps, Tensor) else f"a {type(maps).__name__}"
        raise NoGridError(f"the layer's output must be feature maps (N, K, u, v), not {what}")
    places = follow.places(maps)
    if places is None:
        raise NoGridError("the layer's output does not depend on the pixels")
    y, x = places
    if isinstance(y, _Gone) or isinstance(x, _Gone):
        lost = " and ".join(f"{p.dim}" for p in places if isinstance(p, _Gone))
        raise NoGridError(f"the cells have no place in the input: {lost}")
    if (y.dim, x.dim) != (-2, -1):
        raise NoGridError(
            f"rows and columns are dimensions {y.dim} and {x.dim} of the layer's output "
            f"{tuple(maps.shape)}; they must be the last two, (N, K, u, v)"
        )
    return Grid((y.size, x.size), (y.offset, x.offset), (y.stride, x.stride))
