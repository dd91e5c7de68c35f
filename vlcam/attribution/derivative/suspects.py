"""Where a gradient may get lost: noticed while a model runs, at next to no cost.

Noticed is whatever has an input with a gradient and an output without (``detach``, ``.data``,
``no_grad``, operations without a derivative), takes a value out of autograd's sight (``item``,
``numpy``), rounds, or has a backward pass written by hand. Most of it is harmless (the maximum that
a softmax is stabilised with): :mod:`vlcam.attribution.derivative.check` decides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from vlcam.utils.exact_backward import is_exact
from vlcam.utils.torch_calls import TorchCalls


@dataclass(frozen=True)
class Suspect:
    """A call behind which a gradient may be lost.

    Attributes:
        name: what was called, as people write it: "detach", "quantized.linear_dynamic"; of a
            backward pass written by hand, the ``autograd.Function``.
        place: file and line of the model's code.
        module: the part of the model that was running, None where there is none.
    """

    name: str
    place: tuple[str, int]
    module: nn.Module | None

    def told(self, whole: nn.Module) -> str:
        """Name and place, for people: "detach (in head.fc, model.py:12)"."""
        names = [name for name, part in whole.named_modules() if part is self.module and name]
        place = f"{Path(self.place[0]).name}:{self.place[1]}"
        return f"{self.name} (in {names[0]}, {place})" if names else f"{self.name} ({place})"


class Watch(TorchCalls):
    """Notes suspects, while active in this thread.

    Args:
        module: that runs meanwhile.

    Attributes:
        suspects: noted so far.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.suspects = set(scripted(module))  # it cannot see into them
        self._noted: set[tuple[object, str, int]] = set()

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        followed = _followed(func, args, kwargs)
        result = func(*args, **kwargs)
        if followed and _is_suspect(func, kwargs, followed, result) and not is_exact():
            frame = model_frame()
            key = (func, frame.f_code.co_filename, frame.f_lineno)
            if key not in self._noted:
                self._noted.add(key)
                self.suspects.add(suspect(func, followed))
        return result


def suspect(func: Callable[..., Any], inputs: Sequence[Tensor] = ()) -> Suspect:
    """The call of a function that is under way, of those inputs."""
    frame = model_frame()
    by_hand = [fn for fn in map(made_by_hand, inputs) if fn is not None]
    name = _function_around(frame) or (by_hand[0] if by_hand else name_of(func))
    if name == name_of(func) and not torch.is_grad_enabled():
        around = "inference_mode" if torch.is_inference_mode_enabled() else "no_grad"
        name = f"{around} around {name}"
    return Suspect(name, (frame.f_code.co_filename, frame.f_lineno), _module_around(frame))


def scripted(module: nn.Module) -> list[Suspect]:
    """The parts of a model that are scripted: none of their functions are seen."""
    return [
        Suspect("a scripted part", ("TorchScript", 0), part)
        for part in module.modules()
        if isinstance(part, torch.jit.ScriptModule)
    ][:1]


def is_escape(func: Callable[..., Any]) -> bool:
    """Whether it takes values out of autograd's sight: to Python, to NumPy."""
    return func in _ESCAPES


def differentiates(func: Callable[..., Any]) -> bool:
    """Whether it asks autograd for a gradient of its own."""
    return func is torch.autograd.grad


def is_rounding(func: Callable[..., Any], kwargs: Mapping[str, Any], result: Any) -> bool:
    """Whether it rounds values: its derivative is zero, or that without the steps, wherever it has
    one."""
    if func in _DIVISIONS:
        return kwargs.get("rounding_mode") is not None
    whole = isinstance(result, Tensor) and not is_real(result)
    return func in _ROUNDING or func in _INTEGERS or (func in _CASTS and whole)


def has_surrogate(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether it is one of PyTorch's own functions whose gradient is not their derivative."""
    if func is F.gumbel_softmax:
        return bool(kwargs.get("hard", args[2] if len(args) > 2 else False))
    return func in _SURROGATES


def is_foreign(func: Callable[..., Any]) -> bool:
    """Whether it is an operation that a library registered: derivative unknown."""
    return namespace_of(func) not in (None, "aten", "prim", "torchvision")


def namespace_of(func: Callable[..., Any]) -> str | None:
    """Of a function under ``torch.ops``: the library."""
    return name_of(func).split(".")[0] if isinstance(func, _REGISTERED) else None


def name_of(func: Callable[..., Any]) -> str:
    """A function's name, as people write it."""
    if isinstance(func, _REGISTERED):
        return str(func).removeprefix("torch.ops.").removesuffix(".default")
    name = getattr(func, "__name__", str(func))
    if name in ("__get__", "__set__"):
        return f".{getattr(func.__self__, '__name__', name)}"  # type: ignore[attr-defined]
    return name


def is_real(tensor: Tensor) -> bool:
    """Whether autograd could follow it: real or complex numbers."""
    return tensor.is_floating_point() or tensor.is_complex()


def tensors_in(*values: Any) -> Iterator[Tensor]:
    """All tensors in arguments or results, however nested."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors_in(*value)
        elif isinstance(value, dict):
            yield from tensors_in(*value.values())


def model_frame() -> FrameType:
    """The frame of the model's own code that is calling: the nearest outside torch and what
    differentiates here."""
    frame: FrameType | None = sys._getframe(1)
    nearest = frame
    while frame is not None and (
        frame.f_code.co_filename.startswith(_NOT_THE_MODEL) or frame.f_code.co_name in _OF_A_MODE
    ):
        frame = frame.f_back
    found = frame or nearest
    assert found is not None
    return found


_OF_A_MODE = ("__torch_function__", "on_call")
"""Functions of a mode around the model, ours or another."""

_NOT_THE_MODEL = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


def is_transformed(tensor: Tensor) -> bool:
    """Whether it is seen inside ``torch.func.vmap`` and the like, where nobody sees through."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def lacks_derivative(tensor: Tensor) -> bool:
    """Whether it has a graph, but one without a derivative."""
    return tensor.grad_fn is not None and "NotImplemented" in tensor.grad_fn.name()


def _followed(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[Tensor]:
    """The inputs that autograd follows, or that are transformed. What is a leaf is a parameter, and
    not made of the feature maps."""
    inputs: list[Tensor] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, Tensor):
            if value.requires_grad and not value.is_leaf:
                inputs.append(value)
        elif isinstance(value, list | tuple | dict):
            inputs += [t for t in tensors_in(value) if t.requires_grad and not t.is_leaf]
    if func in CUTS and is_transformed(args[0]):
        return [args[0]]
    if inputs and func in _CASTS:  # of the other, only the type is looked at
        return [t for t in inputs if t is args[0]]
    return inputs


def _is_suspect(
    func: Callable[..., Any], kwargs: Mapping[str, Any], followed: Sequence[Tensor], result: Any
) -> bool:
    """Of a call with such inputs."""
    if func in _NAMED or isinstance(func, _REGISTERED) or not torch.is_grad_enabled():
        return _looks_suspect(func, kwargs, result)
    if isinstance(result, Tensor):
        if not result.requires_grad and (is_real(result) or result.is_quantized):
            return not _is_new(func)
    elif isinstance(result, tuple | list):
        if any(is_real(t) and not t.requires_grad for t in tensors_in(result)):
            return True
    else:
        return False
    return any(
        isinstance(t.grad_fn, BackwardCFunction) and made_by_hand(t) is not None for t in followed
    )


def _looks_suspect(func: Callable[..., Any], kwargs: Mapping[str, Any], result: Any) -> bool:
    """Of a call by its function, or without a graph."""
    if func in _TOLD or func in CUTS or is_foreign(func):
        return True
    outputs = [t for t in tensors_in(result) if is_real(t)]
    if isinstance(func, _REGISTERED) and any(map(lacks_derivative, outputs)):
        return True
    if is_rounding(func, kwargs, result):
        return True
    lost = not torch.is_grad_enabled() or any(not t.requires_grad for t in outputs)
    return lost and bool(outputs) and not _is_new(func)


def _is_new(func: Callable[..., Any]) -> bool:
    """Whether what it gives does not depend on the values it is given."""
    name = getattr(func, "__name__", "")
    return name.startswith("new_") or name.endswith("_like")


def made_by_hand(tensor: Tensor) -> str | None:
    """The name of the ``autograd.Function`` that made it, but for those of ours."""
    made = tensor.grad_fn
    if not isinstance(made, BackwardCFunction):
        return None
    kind = made._forward_cls
    registered = kind.__name__.startswith("GeneratedBackwardFor")  # of an operation of a library
    return None if registered or getattr(kind, "exact", False) else kind.__name__


def _function_around(frame: FrameType) -> str | None:
    """The ``autograd.Function`` whose forward pass is running."""
    inner: FrameType | None = frame
    while inner is not None and inner.f_code.co_name not in _OF_A_MODE:
        ctx = inner.f_locals.get("ctx")
        if isinstance(ctx, BackwardCFunction):
            return ctx._forward_cls.__name__  # type: ignore[attr-defined]
        if isinstance(inner.f_locals.get("self"), nn.Module):
            return None
        inner = inner.f_back
    return None


def _module_around(frame: FrameType) -> nn.Module | None:
    inner: FrameType | None = sys._getframe(1)
    while inner is not None:
        module = inner.f_locals.get("self")
        if isinstance(module, nn.Module):
            return module
        inner = inner.f_back
    return None


def _named(*names: str) -> set[Any]:
    """Those functions, as methods and as functions of torch, in place or not."""
    every = [*names, *(f"{name}_" for name in names)]
    return {getattr(owner, n) for owner in (Tensor, torch) for n in every if hasattr(owner, n)}


_INTEGERS = _named("__int__", "__index__")
_ESCAPES = _INTEGERS | _named(
    *("item", "tolist", "numpy", "__array__", "__float__", "__complex__"),
    *("__format__", "__repr__", "data_ptr", "untyped_storage", "__dlpack__", "new_tensor"),
)
_ROUNDING = _named(
    *("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "floor_divide"),
    *("__floordiv__", "__rfloordiv__", "bernoulli", "bucketize", "searchsorted", "frac"),
    *("remainder", "fmod", "__mod__", "__rmod__"),
)
_DIVISIONS = _named("div", "divide")
_CASTS = _named("to", "type", "type_as", "long", "int", "short", "char", "byte")
_SURROGATES = _named(
    "fake_quantize_per_tensor_affine",
    "fake_quantize_per_channel_affine",
    "fused_moving_avg_obs_fake_quant",
    "_fake_quantize_learnable_per_tensor_affine",
    "_fake_quantize_learnable_per_channel_affine",
)
HOOKS = _named("register_hook", "register_post_accumulate_grad_hook")
_DATA = {Tensor.data.__set__}  # type: ignore[attr-defined]
CUTS = {*_named("detach"), Tensor.data.__get__}  # type: ignore[attr-defined]
_REGISTERED = (torch._ops.OpOverload, torch._ops.OpOverloadPacket)
_TOLD = _ESCAPES | _SURROGATES | HOOKS | _DATA | {F.gumbel_softmax}
_NAMED = _TOLD | CUTS | _ROUNDING | _CASTS | _DIVISIONS
