"""Vision transformers: the tokens of their patches as feature maps, laid out as the patches lie.

Such a model reads a photo as patches, one token each, and a few tokens more that have no place in
it (class, distillation and register tokens). The patches' tokens behind a block are the feature
maps; the others pass the seam beside them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.attention_flow import PHOTO, AttentionStep, Flow
from vlcam.adapters.once_per_image import once_per_image
from vlcam.geometry.grid import Grid

_OTHERS = "other tokens"


def laid_out(tokens: Tensor, size: tuple[int, int], others: int = 1) -> FeatureMaps:
    """Tokens (B, others + u v, K) as feature maps (B, K, u, v).

    Args:
        size: (u, v), the patches' rows and columns; their tokens come row by row.
        others: how many tokens come before the patches'.
    """
    maps = tokens[:, others:].transpose(1, 2).unflatten(2, size)
    return FeatureMaps(maps, {_OTHERS: tokens[:, :others]} if others else {})


def in_line(features: FeatureMaps) -> Tensor:
    """The tokens (B, others + u v, K) again. Inverse of :func:`laid_out`."""
    patches = features.maps.flatten(2).transpose(1, 2)
    others = features.rest.get(_OTHERS)
    return patches if others is None else torch.cat([others, patches], 1)


@dataclass(frozen=True)
class Step:
    """A part of a vision transformer behind which it can be explained: most often a block.

    Attributes:
        name: of the layer.
        run: ``run(tokens, size)``: tokens (B, n, K) of patches in (rows, columns) to tokens.
        stride: how many patches, in each direction, it merges into one.
    """

    name: str
    run: Callable[[Tensor, tuple[int, int]], Tensor]
    stride: int = 1


def blocks(name: str, modules: Iterable[Any]) -> list[Step]:
    """Steps ``name.0``, ``name.1`` ... of blocks that read nothing but tokens."""
    return [Step(f"{name}.{i}", _plain(module)) for i, module in enumerate(modules)]


def with_gradient(owner: str, layers: Sequence[str], layer: str | None) -> str:
    """A layer by its name, among those whose patches the score has a gradient in; None: the last.

    Args:
        owner: the model's name, for errors.

    Raises:
        ValueError: there is no such layer among them, or none at all.
    """
    if not layers or (layer is not None and layer not in layers):
        known = f"{layers[0]} ... {layers[-1]}" if layers else "none: it has only one"
        raise ValueError(
            f"{owner}: no layer {layer!r} with a gradient at its patches; known: {known}"
        )
    return layer or layers[-1]


def _plain(module: Any) -> Callable[[Tensor, tuple[int, int]], Tensor]:
    # Some blocks must be given a mask: None, as all patches attend to each other.
    masks = {"attention_mask": None} if _takes_mask(module) else {}

    def run(tokens: Tensor, _: tuple[int, int]) -> Tensor:
        found = module(tokens, **masks)
        return found[0] if isinstance(found, tuple) else found

    return run


def _takes_mask(module: Any) -> bool:
    return "attention_mask" in inspect.signature(module.forward).parameters


class VisionTransformer:
    """A vision transformer with a seam behind one of its steps.

    Args:
        owner: name of the model, for errors.
        embed: pixels (B, 3, H, W) to tokens (B, others + patches, K).
        steps: what follows, one after the other.
        finish: tokens behind the last step to what the rest of the model reads.
        patch: (height, width) in pixels of a patch, as ``embed`` cuts it; or its side.
        others: how many tokens come before the patches'.
        fills: whether ``embed`` fills up a photo that is no multiple of the patch; else what is
            left over is not seen.
        layer: name of the step that is explained, or of a module that holds several (the last of
            them is); None: the last step.

    Attributes:
        layer: name of the step that is explained.
        layers: names of all steps.

    Raises:
        ValueError: there is no such step.
    """

    def __init__(
        self,
        owner: str,
        embed: Callable[[Tensor], Tensor],
        steps: Sequence[Step],
        finish: Callable[[Tensor], Tensor],
        *,
        patch: int | tuple[int, int],
        others: int = 1,
        fills: bool = False,
        layer: str | None = None,
    ) -> None:
        self.layers = [step.name for step in steps]
        self._owner, self._steps = owner, steps
        self._embed, self._finish = embed, finish
        self._patch = (patch, patch) if isinstance(patch, int) else patch
        self._others, self._fills = others, fills
        self._cut_at(layer)

    def _cut_at(self, layer: str | None) -> None:
        names = self.layers
        self.layer = layer or names[-1]
        within = [name == self.layer or name.startswith(f"{self.layer}.") for name in names]
        if not any(within):
            known = f"{names[0]} ... {names[-1]}"
            raise ValueError(f"{self._owner}: no layer {layer!r}; known: {known}")
        before = len(names) - within[::-1].index(True)
        self._before, self._behind = self._steps[:before], self._steps[before:]

    def at_layer(self, layer: str | None) -> VisionTransformer:
        """The same, with its seam behind another step; ValueError as for the class."""
        other = copy(self)
        other._cut_at(layer)
        return other

    def encode(self, pixels: Tensor) -> FeatureMaps:
        """Feature maps (B, K, u, v) of pixels (B, 3, H, W)."""
        size = self._patches((pixels.shape[2], pixels.shape[3]))
        tokens, size = _walk(self._before, self._embed(pixels), size)
        return laid_out(tokens, size, self._others)

    def flow(self, behind: Sequence[tuple[AttentionStep, ...]], reads: str) -> Flow:
        """How attention flows through all its blocks, one step each, and then through the steps
        ``behind`` them, in a model whose scores are read from the stream ``reads``."""
        blocks = [((PHOTO, PHOTO),)] * len(self.layers)
        summary = 0 if self._others else None
        return Flow((*blocks, *behind), reads, first=self._others, summary=summary)

    def finish(self, features: FeatureMaps) -> Tensor:
        """What the rest of the model reads, (N, tokens, K), of N rows of feature maps; computed
        once per image."""
        return once_per_image(self._behind_the_layer, features)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        """Where the cells lie in an input of (height, width) pixels."""
        stride = prod(step.stride for step in self._before)
        height, width = self._patch
        size = self._patches(input_size)
        for step in self._before:
            size = _merged(size, step.stride)
        side = (height * stride, width * stride)
        return Grid(size, ((side[0] - 1) / 2, (side[1] - 1) / 2), (float(side[0]), float(side[1])))

    def _patches(self, pixels: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the patches of an input."""
        (rows, below), (columns, right) = (
            divmod(side, patch) for side, patch in zip(pixels, self._patch, strict=True)
        )
        return rows + (self._fills and below > 0), columns + (self._fills and right > 0)

    def _behind_the_layer(self, features: FeatureMaps) -> Tensor:
        size = (features.maps.shape[2], features.maps.shape[3])
        return self._finish(_walk(self._behind, in_line(features), size)[0])


def _walk(
    steps: Sequence[Step], tokens: Tensor, size: tuple[int, int]
) -> tuple[Tensor, tuple[int, int]]:
    for step in steps:
        tokens = step.run(tokens, size)
        size = _merged(size, step.stride)
    return tokens, size


def _merged(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Rows and columns where every ``stride`` of them are merged, the last perhaps of fewer."""
    return -(-size[0] // stride), -(-size[1] // stride)
