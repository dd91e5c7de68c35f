"""Refusing a gradient that is not the derivative of its score, by the name of what is to blame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter
from vlcam.attribution.derivative.differences import LOOSE, STEPS, TOLERANCE, WIDE, agrees
from vlcam.attribution.derivative.disturbed import is_used
from vlcam.attribution.derivative.mirror import Found, Mirror
from vlcam.attribution.derivative.suspects import Suspect, scripted
from vlcam.utils.exact_backward import exact_backward
from vlcam.utils.messages.errors import one_line

Score = Callable[[Tensor], Tensor]
"""From maps (1, K, u, v), or pixels, to one number."""


class LostGradientError(ValueError):
    """The gradient of a score is not its derivative.

    Attributes:
        wholly: there is no gradient at all.
    """

    def __init__(self, message: str, wholly: bool) -> None:
        super().__init__(message)
        self.wholly = wholly


@dataclass(frozen=True)
class Passage:
    """The part of a model whose gradient is looked at.

    Attributes:
        where: "between layer conv5 and the score".
        closed: what to say where it has no gradient: "the score does not depend on layer conv5".
    """

    where: str
    closed: str

    @classmethod
    def behind(cls, adapter: Adapter) -> Passage:
        """From the layer to the score."""
        layer = f"layer {adapter.layer}"
        return cls(f"between {layer} and the score", f"the score does not depend on {layer}")

    @classmethod
    def before(cls, adapter: Adapter) -> Passage:
        """From the pixels to the layer."""
        layer = f"layer {adapter.layer}"
        return cls(
            f"between the pixels and {layer}",
            f"{layer} has no gradient with respect to the pixels",
        )


def check_gradient(
    adapter: Adapter, score: Score, maps: Tensor, suspects: set[Suspect], passage: Passage
) -> None:
    """Refuse a gradient that is not the derivative of its score, and name what is to blame.
    Suspects that were found harmless are not tried again.

    Args:
        score: runs the model.
        maps: to run it on; of one image.
        suspects: noted while it ran (:class:`vlcam.attribution.derivative.suspects.Watch`).

    Raises:
        LostGradientError: it is not.
    """
    known = _harmless.setdefault(adapter, {}).setdefault(passage, set())
    if suspects <= known:
        return
    with torch.inference_mode(False), torch.enable_grad():
        trial = _Trial.of(adapter, score, maps.detach())
        blamed = trial.blamed(suspects)
    if blamed is None:
        known |= suspects
        return
    hint = "mend the model, or choose method occlusion, which needs no gradient"
    if trial.closed:
        text = f"{passage.closed} (no gradient passes {blamed}); {hint}"
    else:
        text = f"no true gradient passes {blamed}, {passage.where}; {hint}"
    raise LostGradientError(f"{adapter.name}: {text}", trial.closed)


_harmless: WeakKeyDictionary[Adapter, dict[Passage, set[Suspect]]] = WeakKeyDictionary()
"""Of each model, by passage."""


@dataclass(frozen=True)
class _Trial:
    """One run of the model beside its mirror."""

    adapter: Adapter
    score: Score
    leaf: Tensor
    total: Tensor
    mirrored: Tensor
    mirror: Mirror

    @classmethod
    def of(cls, adapter: Adapter, score: Score, maps: Tensor) -> _Trial:
        leaf = maps.clone().requires_grad_()
        given = leaf.clone()  # it may be written into
        mirror = Mirror()
        mirror.follow(given, leaf.clone())
        with mirror:
            total = score(given)
        return cls(adapter, score, leaf, total, mirror.of(total), mirror)

    def blamed(self, suspects: set[Suspect]) -> str | None:
        """What is to blame, for people; None: the gradient is the derivative."""
        if self._lost:
            return f"{told(self.adapter, self._lost)}: there is no derivative"
        if not _same(self._own, self._gradient(self.mirrored)):
            cuts = self._that_matter(self.mirror.cuts)
            return told(self.adapter, cuts or suspects)
        unseen = self.mirror.unseen + scripted(self.adapter.module)
        if self.mirror.escapes and is_used(self._value, self.leaf.detach()):
            unseen += self.mirror.escapes
        return (
            self._different(unseen, STEPS)
            or self._different(self.mirror.rounded, WIDE)
            or self._different(unseen, WIDE, LOOSE)  # what is rounded in Python or NumPy
        )

    def _different(
        self, suspects: Sequence[Suspect], steps: Sequence[float], tolerance: float = TOLERANCE
    ) -> str | None:
        """Suspects by which the score changes otherwise than its gradient says, for people."""
        if not suspects:
            return None
        maps = self.leaf.detach()
        if not self.closed and agrees(self._value, maps, self._own, steps, tolerance):
            return None
        return f"{told(self.adapter, suspects)}: the score changes otherwise than its gradient says"

    @cached_property
    def closed(self) -> bool:
        """Whether the score has no gradient at all."""
        # Autograd would warn of what has no derivative, and go on.
        own = self._gradient(self.mirrored) if self._lost else self._own
        return not bool(own.any())

    @cached_property
    def _lost(self) -> list[Suspect]:
        return self._that_matter(self.mirror.lost)

    @cached_property
    def _own(self) -> Tensor:
        return self._gradient(self.total)

    def _value(self, maps: Tensor) -> float:
        device = [maps.device] if maps.is_cuda else []
        with torch.no_grad(), torch.random.fork_rng(device):
            found = self.score(maps.clone())
        with exact_backward():  # it is we who read it
            return float(found)

    def _gradient(self, total: Tensor) -> Tensor:
        if not total.requires_grad:
            return torch.zeros_like(self.leaf)
        (found,) = gradients_of(self.adapter, total, [self.leaf], retain_graph=True)
        return torch.zeros_like(self.leaf) if found is None else found

    def _that_matter(self, found: Sequence[Found]) -> list[Suspect]:
        """Those on which the score depends."""
        if not found or not self.mirrored.requires_grad:
            return []
        mirrored = [one.mirrored for one in found]
        inputs = [self.leaf, *mirrored]
        slopes = torch.autograd.grad(self.mirrored, inputs, retain_graph=True, allow_unused=True)
        effects = [_effect(*pair) for pair in zip(inputs, slopes, strict=True)]
        limit = _nothing(self.leaf) * max(*effects, abs(float(self.total.detach())))
        return [one.what for one, own in zip(found, effects[1:], strict=True) if own > limit]


def told(adapter: Adapter, suspects: Iterable[Suspect]) -> str:
    """Suspects, for people; at most three."""
    names = list(dict.fromkeys(one.told(adapter.module) for one in suspects))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def gradients_of(
    adapter: Adapter, total: Tensor | Sequence[Tensor], inputs: Sequence[Tensor], **more: Any
) -> tuple[Tensor | None, ...]:
    """Gradients of a score, None where it does not depend on an input.

    Raises:
        ValueError: autograd cannot give them.
    """
    try:
        return torch.autograd.grad(total, inputs, allow_unused=True, **more)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"{adapter.name}: no gradient of its score ({first_sentence(error)})"
        ) from error


def first_sentence(error: RuntimeError) -> str:
    """Of what PyTorch says of a score that it cannot differentiate."""
    text = one_line(error)
    if "use_reentrant" in text or "Checkpointing is not compatible" in text:
        return (
            "torch.utils.checkpoint with use_reentrant=True lets no gradient through; give it"
            " use_reentrant=False"
        )
    return text.split(". ")[0]


def _nothing(tensor: Tensor) -> float:
    """Up to what part of the largest effect one may be rounding alone."""
    return 1e-4 if torch.finfo(tensor.dtype).eps < 1e-4 else 2e-2


def _effect(values: Tensor, slope: Tensor | None) -> float:
    """How far a score moves where values move by their own size, each its own way."""
    if slope is None:
        return 0.0
    moved = (slope.detach().abs() * values.detach().abs()).double()
    return float(moved.nan_to_num(0, 0, 0).sum())


def _same(own: Tensor, right: Tensor) -> bool:
    """Whether two gradients are equal but for rounding."""
    tolerance = 1e-2 if torch.finfo(own.dtype).eps < 1e-4 else 5e-2
    if not (own.isfinite().all() and right.isfinite().all()):
        return True  # refused later, as not finite
    own, right = own.double(), right.double()
    scale = max(float(own.norm()), float(right.norm()))
    return float((own - right).norm()) <= tolerance * scale
