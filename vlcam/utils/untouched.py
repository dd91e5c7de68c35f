"""Running a user's model without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vlcam.utils.process_wide import Change, in_effect
from vlcam.utils.torch_calls import TorchCalls


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Eval mode and normal autograd inside; every flag and the RNG as before outside.

    Each submodule's train/eval flag is restored by itself, also after an exception, and when
    several threads use one model or parts of it. Inside, an outer ``inference_mode`` is lifted,
    compiled parts run uncompiled (neither hooks nor backward rules reach into compiled code), and
    RNNs on a GPU run without cuDNN (whose RNN has no backward pass in eval mode).

    Raises:
        ValueError: parameters or buffers were made in inference mode, so nothing can be
            differentiated.
    """
    modules = list(module.modules())
    # A model has hundreds of parts, and a photo may take only milliseconds: one loop over them.
    tensors = [
        t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None
    ]
    if any(t.is_inference() for t in tensors):
        raise ValueError(
            "the model's parameters are inference tensors; make or load it outside inference_mode"
        )
    recurrent = any(isinstance(m, nn.RNNBase) for m in modules) and any(t.is_cuda for t in tensors)
    rnns = RnnsWithoutCudnn() if recurrent else nullcontext()
    with in_effect(_changes(modules, tensors)), torch.inference_mode(False), rnns:
        yield


class RnnsWithoutCudnn(TorchCalls):
    """cuDNN is off while an RNN runs forward, and then only: without it convolutions take far
    longer."""

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        off: dict[Hashable, Change] = {"cudnn": _without_cudnn} if func in _RNNS else {}
        with in_effect(off) if off else nullcontext():
            return func(*args, **kwargs)


_RNNS = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)


def _changes(modules: Sequence[nn.Module], tensors: Sequence[Tensor]) -> dict[Hashable, Change]:
    """What has to change while these modules run, by what is changed."""
    # A compiled module has no flag of its own, but passes on that of the module it wraps.
    changes: dict[Hashable, Change] = {
        id(m): partial(_evaluating, m) for m in modules if "training" in vars(m)
    }
    changes["cpu"] = _with_random_numbers_kept
    devices = {t.device for t in tensors if t.is_cuda}
    for device in devices:
        changes[device] = partial(_with_random_numbers_kept, device)
    if any("_orig_mod" in m._modules or m._compiled_call_impl is not None for m in modules):
        changes["compiler"] = _without_compiler
    return changes


def _evaluating(module: nn.Module) -> Callable[[], object] | None:
    if not module.training:
        return None
    # The attribute, not .eval(): users override train() to keep parts of a model fixed.
    training, module.training = module.training, False
    return partial(setattr, module, "training", training)


def _with_random_numbers_kept(device: torch.device | None = None) -> Callable[[], object]:
    if device is None:
        return partial(torch.set_rng_state, torch.get_rng_state())
    return partial(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)


def _without_cudnn() -> Callable[[], object]:
    # This flag alone: torch.backends.cudnn.flags resets all those it is not given.
    enabled, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
    return partial(setattr, torch.backends.cudnn, "enabled", enabled)


def _without_compiler() -> Callable[[], object]:
    stance = torch.compiler.set_stance("force_eager")
    return partial(stance.__exit__, None, None, None)
