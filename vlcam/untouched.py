"""Running a user's model without leaving a trace in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class _Held:
    """A module that calls in flight keep in eval mode, and the flags to put back after the last."""

    flags: list[tuple[nn.Module, bool]]
    calls: int = field(default=1)


_lock = threading.Lock()
_held: dict[int, _Held] = {}


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Eval mode and normal autograd inside; every flag and the RNG as before outside.

    Train/eval flags are kept for each submodule by itself, also after an exception, and when
    several threads use one model. Inside, an outer ``inference_mode`` is lifted, and cuDNN is off
    where the model holds an RNN on a GPU (cuDNN's RNN has no backward in eval mode).

    Raises:
        ValueError: parameters were made in inference mode, so nothing can be differentiated.
    """
    if any(p.is_inference() for p in module.parameters()):
        raise ValueError(
            "the model's parameters are inference tensors; make or load it outside inference_mode"
        )
    devices = sorted({p.device.index or 0 for p in module.parameters() if p.is_cuda})
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(_evaluating(module))
        if devices and any(isinstance(m, nn.RNNBase) for m in module.modules()):
            stack.enter_context(_without_cudnn())
        yield


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    key = id(module)
    with _lock:
        if key in _held:
            _held[key].calls += 1
        else:
            # The attribute, not .eval(): users override train() to keep parts of a model fixed.
            _held[key] = _Held([(m, m.training) for m in module.modules()])
            for submodule, _ in _held[key].flags:
                submodule.training = False
    try:
        yield
    finally:
        with _lock:
            _held[key].calls -= 1
            if not _held[key].calls:
                for submodule, training in _held.pop(key).flags:
                    submodule.training = training


@contextmanager
def _without_cudnn() -> Iterator[None]:
    """cuDNN off, its other settings as they are (``cudnn.flags`` resets what it is not given)."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(
        enabled=False,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=cudnn.allow_tf32,
    ):
        yield
