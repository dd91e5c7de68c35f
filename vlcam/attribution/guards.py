"""What a model must not do while its scores are differentiated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.derivative.suspects import Watch
from vlcam.attribution.targets import Target


def check_features(adapter: Adapter, features: FeatureMaps, images: int) -> None:
    """Raises ValueError where ``encode`` gave anything but (images, K, u, v)."""
    shape = tuple(features.maps.shape)
    if len(shape) != 4 or shape[0] != images:
        raise ValueError(
            f"{adapter.name}: layer {adapter.layer} gave feature maps of shape {shape};"
            f" expected ({images}, channels, rows, columns)"
        )


def disconnected(adapter: Adapter) -> str:
    """The error of a model whose score has no gradient with respect to the layer."""
    return (
        f"{adapter.name}: the score does not depend on layer {adapter.layer}; choose a layer"
        " between the pixels and the score, and a decode without no_grad, detach or argmax"
    )


def refuse_not_finite_maps(
    adapter: Adapter, targets: Sequence[Target], maps: Sequence[Tensor]
) -> None:
    """Raises ValueError where a target's map, one of the (T, u, v) each, holds what is not a
    number."""
    for own in maps:
        wrong = (~own.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if wrong:
            raise ValueError(
                f"{adapter.name}: the gradient of {targets[wrong[0]].name!r} is not finite"
            )


def refuse_unseen_rule(adapter: Adapter, rule: BackwardRule | None, where: str) -> None:
    """Raises ValueError where a backward rule met no ReLU, or could not meet all of them."""
    if rule is None:
        return
    if any(isinstance(m, torch.jit.ScriptModule) for m in adapter.module.modules()):
        raise ValueError(
            f"{adapter.name}: its scripted parts may hold ReLUs that the {rule.rule} rule cannot"
            " reach; load it unscripted or choose a method without a rule"
        )
    if not rule.seen:
        raise ValueError(
            f"{adapter.name}: no ReLU {where}, so the {rule.rule} rule would only give the plain"
            " gradient; choose a method without it"
        )


class WatchRows(Watch):
    """Notes where the gradient may get lost.

    Raises ValueError at a batch normalisation by the batch's own statistics: it mixes rows.
    """

    def __init__(self, adapter: Adapter) -> None:
        super().__init__(adapter.module)
        self.adapter = adapter

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        training = func in (F.batch_norm, torch.batch_norm) and (
            args[5] if len(args) > 5 else kwargs.get("training", False)
        )
        if training:
            raise ValueError(
                f"{self.adapter.name}: a BatchNorm behind layer {self.adapter.layer} uses the"
                " statistics of the batch, so rows influence each other; give it running statistics"
                " (and eval mode)"
            )
        return super().on_call(func, args, kwargs)


class KeptBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes autograd keeps for the backward pass, parameters left out.

    Raises ValueError, as autograd itself would without these hooks, where a value that the
    gradient needs was written over in the meantime.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.bytes = 0
        known = {p.untyped_storage().data_ptr() for p in adapter.module.parameters()}

        def pack(tensor: Tensor) -> tuple[Tensor, int]:
            if torch._C._has_storage(tensor):  # a sparse one has none
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in known:
                    known.add(storage.data_ptr())
                    self.bytes += storage.nbytes()
            # Detached: else a graph that holds its own output is freed by a backward pass only.
            return tensor.detach(), tensor._version

        def unpack(kept: tuple[Tensor, int]) -> Tensor:
            tensor, version = kept
            if tensor._version != version:
                raise ValueError(
                    f"{adapter.name}: an in-place operation behind layer {adapter.layer} writes"
                    " over a value that the gradient needs"
                )
            return tensor

        super().__init__(pack, unpack)
