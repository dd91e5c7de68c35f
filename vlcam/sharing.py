"""What all rows of one image have in common is computed once.

The engine decodes one image's feature maps in many rows, one a target. The CNN between the layer
and the language model gives the same for all of them; only the way back differs. fc6 of VGG on ten
rows costs as much as the whole CNN before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from vlcam.adapter import FeatureMaps


def once_an_image(function: Callable[[FeatureMaps], Tensor], features: FeatureMaps) -> Tensor:
    """``function(features)``, (N, ...), computed once for each image the rows repeat.

    Exact: values are copied to the rows, and the gradients of one image's rows go back through its
    one graph together. For use in ``decode``, around a part that reads nothing but the features it
    is given (N rows, or one); it must be differentiable under ``torch.vmap`` to gain speed
    (convolutions, pooling, linear layers and ReLUs are; recurrent layers are slow).
    """
    if features.image is None or len(features.image) == 1:
        return function(features)  # nothing to share
    result: Tensor = _OnceAnImage.apply(
        function, features.image, list(features.rest), features.maps, *features.rest.values()
    )
    return result


class _OnceAnImage(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[[FeatureMaps], Tensor],
        image: Tensor,
        names: Sequence[str],
        *tensors: Tensor,
    ) -> Tensor:
        followed = ctx.needs_input_grad[3:]
        ctx.save_for_backward(image)  # so that autograd refuses a second way back, unless told
        ctx.graphs = []
        for which in image.unique():
            rows = (image == which).nonzero().squeeze(1)
            leaves = [
                tensor[rows[:1]].detach().requires_grad_(follow)
                for tensor, follow in zip(tensors, followed, strict=True)
            ]
            with torch.set_grad_enabled(any(followed)):
                maps, *rest = (leaf.clone() for leaf in leaves)  # it may write into them
                value = function(FeatureMaps(maps, dict(zip(names, rest, strict=True))))
            ctx.graphs.append((rows, leaves, value))
        result = value.new_empty(len(image), *value.shape[1:])
        for rows, _, value in ctx.graphs:
            result[rows] = value.detach()
        if not value.requires_grad:
            ctx.mark_non_differentiable(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError("once_an_image has no second derivative")
        (gradient,), _ = gradients, ctx.saved_tensors
        found = dict[int, Tensor]()
        for rows, leaves, value in ctx.graphs:
            followed = [i for i, leaf in enumerate(leaves) if leaf.requires_grad]
            of_leaves = torch.autograd.grad(
                value,
                [leaves[i] for i in followed],
                # In this order in memory: of a permuted one, as behind attention over the cells,
                # a frozen batch normalisation of PyTorch takes wrong numbers (2.14).
                gradient[rows][:, None].contiguous(),
                is_grads_batched=True,
                allow_unused=True,
                retain_graph=True,  # as long as the rows' own graph, which holds this one
            )
            for i, part in zip(followed, of_leaves, strict=True):
                if part is not None:
                    if i not in found:
                        found[i] = part.new_zeros(len(gradient), *part.shape[2:])
                    found[i][rows] = part[:, 0]
        return None, None, None, *(found.get(i) for i in range(len(leaves)))
