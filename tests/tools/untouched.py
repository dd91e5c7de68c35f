"""A model before and after a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Every trace a library could leave in a model is looked for."""
    modules = list(module.modules())

    def state() -> dict[str, object]:
        parameters = list(module.parameters())
        return {
            "weights": [t.detach().clone() for t in (*parameters, *module.buffers())],
            "requires_grad": [t.requires_grad for t in parameters],
            "grad": [t.grad if t.grad is None else t.grad.clone() for t in parameters],
            "training": [m.training for m in modules],
            "hooks": [
                [list(v) for k, v in vars(m).items() if "_hooks" in k and v] for m in modules
            ],
            "attributes": [list(vars(m)) for m in modules],
            "random numbers": torch.get_rng_state(),
            "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            "function modes": len(torch.overrides._get_current_function_mode_stack()),
            "saved tensors' hooks": torch._C._autograd._top_saved_tensors_default_hooks(False),
            "cudnn": [
                getattr(torch.backends.cudnn, flag)
                for flag in ("enabled", "benchmark", "deterministic")
            ],
        }

    def same(a: object, b: object) -> bool:
        if isinstance(a, list | tuple):
            assert isinstance(b, list | tuple)
            return len(a) == len(b) and all(map(same, a, b))
        return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)  # type: ignore[arg-type]

    before = state()
    try:
        yield
    finally:
        after = state()
        assert [key for key in before if not same(before[key], after[key])] == []
