"""What all rows of one image have in common is computed once.

The engine decodes one image's feature maps in many rows, one a target. The CNN between the layer
and the language model gives the same for all of them; only the way back differs. fc6 of VGG on ten
rows costs as much as the whole CNN before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vlcam.adapter import FeatureMaps


def once_an_image(function: Callable[[Tensor], Tensor], features: FeatureMaps) -> Tensor:
    """``function(features.maps)``, (N, ...), computed once for each image the rows repeat.

    Exact: values are copied to the rows, and the gradients of one image's rows go back through its
    one graph together. For use in ``decode``, around a part that reads the feature maps alone; it
    must be differentiable under ``torch.vmap`` to gain speed (convolutions, pooling, linear layers
    and ReLUs are; recurrent layers are slow).
    """
    if features.image is None:
        return function(features.maps)
    result: Tensor = _OnceAnImage.apply(features.maps, features.image, function)
    return result


class _OnceAnImage(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, image: Tensor, function: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.graphs, result = [], None
        for which in image.unique():
            rows = (image == which).nonzero().squeeze(1)
            leaf = maps[rows[:1]].detach()
            with torch.set_grad_enabled(ctx.needs_input_grad[0]):
                leaf.requires_grad_(ctx.needs_input_grad[0])
                value = function(leaf.clone())  # which may write into its input
            if ctx.needs_input_grad[0]:
                ctx.graphs.append((rows, leaf, value))
            if result is None:
                result = value.new_empty(len(maps), *value.shape[1:])
            result[rows] = value.detach()
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        found = None
        for rows, leaf, value in ctx.graphs:
            of_rows = gradients[0][rows][:, None]
            (gradient,) = torch.autograd.grad(value, leaf, of_rows, is_grads_batched=True)
            if found is None:
                found = gradient.new_zeros(len(gradients[0]), *leaf.shape[1:])
            found[rows] = gradient[:, 0]
        ctx.graphs = []
        assert found is not None
        return found, None, None
