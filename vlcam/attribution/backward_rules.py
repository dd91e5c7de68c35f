"""Backward rules for ReLU: guided and deconvolution (sections 2 and 3.2 of the paper).

With x the input of a ReLU, R the gradient at its output, and [...] 1 where true, else 0, the
gradient at its input is

* plain: ``[x > 0] R``
* deconvolution (Zeiler and Fergus 2014): ``[R > 0] R``
* guided (Springenberg et al. 2015): ``[x > 0] [R > 0] R``

A rule is a :class:`torch.overrides.TorchFunctionMode`: while it is active *in this thread*, every
form of ReLU (module, function, method, in place, ReLU6, ``clamp(min=0)``) keeps its forward values
and gets the rule's backward. The model is not edited and nothing stays behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlcam.utils.exact_backward import exact_backward
from vlcam.utils.torch_calls import TorchCalls

Rule = Literal["guided", "deconv"]
"""A rule by its name; the plain gradient needs none."""

_outside_cnn: ContextVar[bool] = ContextVar("vlcam_outside_cnn", default=False)


@contextmanager
def outside_cnn() -> Iterator[None]:
    """Marks a part of ``decode`` that is not the CNN: ReLUs in it keep their plain gradient.

    As the authors do: they guide the CNN alone, and take the true gradient of the language or
    question model. Only needed around parts that hold ReLUs.
    """
    token = _outside_cnn.set(True)
    try:
        yield
    finally:
        _outside_cnn.reset(token)


class BackwardRule(TorchCalls):
    """Replaces the backward of each ReLU that is called while it is active.

    Attributes:
        rule: its name.
        seen: how many ReLUs it has replaced the backward of.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule: Rule = rule
        self.seen = 0
        self._lifted = False

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Backward passes inside give the plain gradient, also through a graph that was made under
        the rule: one forward pass serves both."""
        self._lifted = True
        try:
            yield
        finally:
            self._lifted = False

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        rectifier = None if _outside_cnn.get() else _as_rectifier(func, args, kwargs)
        if rectifier is None:
            return func(*args, **kwargs)
        self.seen += 1
        x, upper, in_place = rectifier
        return _Rectify.apply(x, upper, self, in_place)

    def backward(self, gradient: Tensor, result: Tensor, upper: float | None) -> Tensor:
        """The gradient at a ReLU's input by the rule (which may be written over the one given).

        Args:
            gradient: R, at its output.
            result: its output, above 0 where x is.
            upper: its upper bound, if any: the plain gradient is 0 above it, too.
        """
        if self.rule == "deconv" and not self._lifted:
            return gradient.clamp(min=0)
        if upper is None:
            gradient = torch.ops.aten.threshold_backward(gradient, result, 0)
        else:
            gradient = torch.ops.aten.hardtanh_backward(gradient, result, 0, upper)
        return gradient if self._lifted else gradient.clamp_(min=0)


class _Rectify(torch.autograd.Function):
    """``min(max(x, 0), upper)`` with the backward of a rule."""

    exact = True  # as far as the plain gradient is looked at

    @staticmethod
    @exact_backward()
    def forward(
        ctx: Any, x: Tensor, upper: float | None, rule: BackwardRule, in_place: bool
    ) -> Tensor:
        if in_place:
            ctx.mark_dirty(x)
        result = x.clamp_(0, upper) if in_place else x.clamp(0, upper)
        ctx.rule, ctx.upper = rule, upper
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (result,) = ctx.saved_tensors
        return ctx.rule.backward(gradients[0], result, ctx.upper), None, None, None


def _as_rectifier(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Tensor, float | None, bool] | None:
    """(input, upper bound, in place) where the call is a form of ReLU, else None."""

    def given(place: int, name: str, default: Any) -> Any:
        return args[place] if len(args) > place else kwargs.get(name, default)

    if func in _RELU:
        name = "input"
        bounds: tuple[float, float | None] = (0.0, None)
        in_place = func in _IN_PLACE or given(1, "inplace", False)
    elif func is F.relu6:
        name, bounds = "input", (0.0, 6.0)
        in_place = given(1, "inplace", False)
    elif func in _HARDTANH:
        low = given(1, "min_val", -1.0)
        name, bounds = "input", (low, given(2, "max_val", 1.0))
        in_place = func in _IN_PLACE or given(3, "inplace", False)
    elif func in _CLAMP:
        low, high = given(1, "min", None), given(2, "max", None)
        if isinstance(low, Tensor) or isinstance(high, Tensor) or low is None:
            return None
        name, bounds, in_place = "input", (low, high), func in _IN_PLACE
    else:
        return None
    x = args[0] if args else kwargs[name]
    if bounds[0] != 0 or (bounds[1] is not None and bounds[1] <= 0):
        return None
    return x, bounds[1], bool(in_place)


_RELU = {F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_HARDTANH = {F.hardtanh, F.hardtanh_}
_CLAMP = {
    torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_,
    torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_,
    torch.clip, torch.clip_, Tensor.clip, Tensor.clip_,
}  # fmt: skip
_IN_PLACE = {
    F.relu_, torch.relu_, Tensor.relu_, F.hardtanh_,
    torch.clamp_, Tensor.clamp_, torch.clamp_min_, Tensor.clamp_min_, torch.clip_, Tensor.clip_,
}  # fmt: skip
