"""Computing once per image what all of its rows have in common.

One image's feature maps are decoded in many rows, one per target. The part of the CNN between the
layer and the language model gives the same for all of them; only their backward passes differ.
(fc6 of VGG on ten rows costs as much as the whole CNN before it.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vlcam.adapters.adapter import FeatureMaps
from vlcam.networks.channels_last import PlainBatchNorm
from vlcam.utils.exact_backward import exact_backward


def once_per_image(function: Callable[[FeatureMaps], Tensor], features: FeatureMaps) -> Tensor:
    """``function(features)``, (N, ...), computed once for each image that the N rows repeat.

    Exact: values are copied to the rows, and the gradients of an image's rows pass through its one
    graph together (those of all images with the same number of rows in one backward pass). For use
    in ``decode``, around a part that reads nothing but the features it is given (any number of
    rows, none of which influences another). It gains speed where that part is differentiated fast
    under ``torch.vmap`` (convolutions, pooling, linear layers and ReLUs are; recurrent layers are
    slow).

    Raises:
        NotImplementedError: in the backward pass, where a second derivative is asked for.
    """
    if features.image is None or len(features.image) == 1:
        return function(features)  # nothing to share
    if isinstance(features, Repeated) and not features.copied:
        images, place = features.images, features.image
        leaves = (features.leaf, *features.leaves.values())
    else:
        images, place = features, torch.arange(len(features.image), device=features.image.device)
        leaves = (features.maps, *features.rest.values())
    result: Tensor = _OncePerImage.apply(function, features.image, images, place, *leaves)
    return result


class Repeated(FeatureMaps):
    """Rows that repeat some images' feature maps, and whose gradients can be asked for.

    They are copied, once, when ``maps`` or ``rest`` is first read, as whoever reads them may write
    into them. :func:`once_per_image` needs no copy.

    Args:
        images: B rows, one per image.
        image: (N,), which of them each row repeats.
        followed: names of what else passes the seam that is to have gradients; None: nothing has,
            nor have the maps.

    Attributes:
        leaf: its gradient is that with respect to the maps; it has their shape, but no values.
        leaves: the same for the rest, by name.
    """

    images: FeatureMaps
    image: Tensor
    leaf: Tensor
    leaves: Mapping[str, Tensor]

    def __init__(
        self, images: FeatureMaps, image: Tensor, followed: Collection[str] | None = None
    ) -> None:
        own = {
            "images": images,
            "image": image,
            "leaf": _leaf(images.maps, len(image), followed is not None),
            "leaves": {
                name: _leaf(tensor, len(image), name in (followed or ()))
                for name, tensor in images.rest.items()
            },
        }
        vars(self).update(own)  # the class is frozen

    @property
    def device(self) -> torch.device:
        return self.images.device

    @cached_property
    def maps(self) -> Tensor:
        return _copied(self.leaf, self.images.maps, self.image)

    @cached_property
    def rest(self) -> Mapping[str, Tensor]:
        return {
            name: _copied(leaf, self.images.rest[name], self.image)
            for name, leaf in self.leaves.items()
        }

    @property
    def copied(self) -> bool:
        """Whether ``maps`` or ``rest`` was read, and may have been written into."""
        return "maps" in vars(self) or "rest" in vars(self)


class _OncePerImage(torch.autograd.Function):
    """Row n of the result is that of the image in row ``place[n]`` of ``images``; its gradient goes
    to row n of the leaves."""

    exact = True

    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[[FeatureMaps], Tensor],
        image: Tensor,
        images: FeatureMaps,
        place: Tensor,
        *leaves: Tensor,
    ) -> Tensor:
        followed = ctx.needs_input_grad[4:]
        ctx.save_for_backward(image)  # so that autograd refuses a second backward pass, as ever
        ctx.graphs = []
        names = [name for name, wanted in zip(images.rest, followed[1:], strict=True) if wanted]
        for rows in _rows_alike(image):
            own = Repeated(images, place[rows[0]], names if any(followed) else None)
            with torch.set_grad_enabled(any(followed)), PlainBatchNorm():
                value = function(FeatureMaps(own.maps, own.rest))
            ctx.graphs.append((rows, (own.leaf, *own.leaves.values()), value))
        with exact_backward():
            result = value.new_empty(len(image), *value.shape[1:])
            for rows, _, value in ctx.graphs:
                result[rows] = value.detach()
        if not value.requires_grad:
            ctx.mark_non_differentiable(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError("once_per_image has no second derivative")
        (gradient,), _ = gradients, ctx.saved_tensors
        found = defaultdict[int, list[tuple[Tensor, Tensor]]](list)
        for rows, leaves, value in ctx.graphs:
            followed = [i for i, leaf in enumerate(leaves) if leaf.requires_grad]
            # Contiguous: from a permuted gradient, as behind attention over the cells, a frozen
            # batch normalisation of PyTorch 2.14 computes wrong numbers.
            heads = gradient[rows].contiguous()
            once = len(rows) == 1
            of_leaves = torch.autograd.grad(
                value,
                [leaves[i] for i in followed],
                heads[0] if once else heads,
                is_grads_batched=not once,
                allow_unused=True,
                retain_graph=True,  # it lives as long as the rows' graph, which holds this one
            )
            for i, part in zip(followed, of_leaves, strict=True):
                if part is not None:
                    found[i].append((rows, part[None] if once else part))
        each = (_of_rows(len(gradient), found[i]) for i in range(len(leaves)))
        return None, None, None, None, *each


def _leaf(tensor: Tensor, rows: int, wanted: bool) -> Tensor:
    """A leaf (rows, ...) for the rows of a tensor, in the memory of a single number."""
    return tensor.new_empty(()).expand(rows, *tensor.shape[1:]).requires_grad_(wanted)


def _copied(leaf: Tensor, tensor: Tensor, rows: Tensor) -> Tensor:
    """Rows of a tensor, whose gradients go to the leaf."""
    with torch.enable_grad(), exact_backward():  # wherever they are first read
        copy: Tensor = _Copy.apply(leaf, tensor.detach(), rows)
    return copy


class _Copy(torch.autograd.Function):
    exact = True

    @staticmethod
    @exact_backward()
    def forward(ctx: Any, leaf: Tensor, tensor: Tensor, rows: Tensor) -> Tensor:
        return tensor.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *gradients, None, None


def _of_rows(count: int, found: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
    """Gradients (count, ...) of all rows, from parts (c, B, ...) with their rows (c, B).

    Where a gradient is the same along a whole dimension, as behind a mean over cells, it stays one
    number in memory.
    """
    if not found:
        return None
    shape = found[0][1].shape[2:]
    same = [all(part.stride(d) == 0 for _, part in found) for d in range(2, 2 + len(shape))]
    kept = tuple(slice(1) if one else slice(None) for one in same)
    whole = sum(rows.numel() for rows, _ in found) == count  # nothing is left zero
    slim = [1 if one else size for one, size in zip(same, shape, strict=True)]
    first = found[0][1]
    gradients = first.new_empty(count, *slim) if whole else first.new_zeros(count, *slim)
    for rows, part in found:
        gradients[rows] = part[(..., *kept)]
    return gradients.expand(count, *shape)


def _rows_alike(image: Tensor) -> list[Tensor]:
    """For every number c of rows that images have: the rows (c, B) of the B images with c rows."""
    _, counts = image.unique(return_counts=True)
    alike: dict[int, list[Tensor]] = {}
    for rows in image.argsort(stable=True).split(counts.tolist()):
        alike.setdefault(len(rows), []).append(rows)
    return [torch.stack(group, 1) for group in alike.values()]
