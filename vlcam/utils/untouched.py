"""Running a user's model without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from vlcam.utils.process_wide import Change, in_effect


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Eval mode and normal autograd inside; every flag and the RNG as before outside.

    Train/eval flags are kept for each submodule by itself, also after an exception, and when
    several threads use one model or parts of it. Inside, an outer ``inference_mode`` is lifted,
    compiled parts run as they are written (neither hooks nor backward rules reach into compiled
    code), and cuDNN is off where the model holds an RNN on a GPU (cuDNN's RNN has no backward in
    eval mode).

    Raises:
        ValueError: parameters or buffers were made in inference mode, so nothing can be
            differentiated.
    """
    modules = list(module.modules())
    # A model has hundreds of parts, and a photo may take but milliseconds: each is met once.
    tensors = [
        t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None
    ]
    if any(t.is_inference() for t in tensors):
        raise ValueError(
            "the model's parameters are inference tensors; make or load it outside inference_mode"
        )
    with _in_effect(modules, _changes(modules, tensors)), torch.inference_mode(False):
        yield


def _changes(modules: Sequence[nn.Module], tensors: Sequence[Tensor]) -> dict[Hashable, Change]:
    """What has to change while modules run besides their flags, by what is changed."""
    changes: dict[Hashable, Change] = {"cpu": _with_random_numbers_kept}
    devices = {t.device for t in tensors if t.is_cuda}
    for device in devices:
        changes[device] = partial(_with_random_numbers_kept, device)
    if devices and any(isinstance(m, nn.RNNBase) for m in modules):
        changes["cudnn"] = _without_cudnn
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


def _in_effect(
    modules: Sequence[nn.Module], changes: Mapping[Hashable, Change]
) -> AbstractContextManager[None]:
    """Modules in eval mode, and other changes."""
    # A compiled module has no flag of its own, but passes on that of the module it wraps.
    flags: dict[Hashable, Change] = {
        id(m): partial(_evaluating, m) for m in modules if "training" in vars(m)
    }
    return in_effect({**flags, **changes})
