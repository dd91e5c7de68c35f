"""CNNs made nearly linear, so that where a cell looks can be measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Run = Callable[[Tensor], Tensor]


def fill(model: nn.Module) -> nn.Module:
    """Positive weights, most of each in the middle of its kernel: nearly linear, sees narrowly.

    So the measurement needs few cells and little of the picture. The classifier stays unfilled.
    """
    random = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.numel() > 2**22:
            continue
        for name, old in module.named_parameters(recurse=False):
            value = torch.full(old.shape, 0.0 if name == "bias" else 1.0)
            if name == "weight" and isinstance(module, nn.Conv2d | nn.Linear):
                value = (torch.rand(old.shape[:2], generator=random) + 0.5) / old.shape[1]
                if isinstance(module, nn.Conv2d):
                    bump = torch.outer(*map(narrow, module.kernel_size))
                    value = value[..., None, None] * bump / 2  # halved: sums do not grow
            setattr(module, name, nn.Parameter(value, requires_grad=False))
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.zeros(module.num_features)
            module.running_var = torch.ones(module.num_features)
    return model.eval()


def narrow(size: int) -> Tensor:
    taps = torch.full((size,), 0.03)
    taps[(size - 1) // 2] = taps[size // 2] = 1
    return taps / taps.sum()


class AveragePooling(TorchFunctionMode):
    """Averages where the model takes maxima: of the same windows, and without luck."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ == "max_pool2d":
            return average(*args, **kwargs)
        return func(*args, **kwargs)


def average(
    x: Tensor,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    assert dilation == 1
    return F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode)


def linear(run: Run) -> Run:
    """Of all but one sign, which no ReLU stops, and with average pooling."""

    def averaged(x: Tensor) -> Tensor:
        with AveragePooling():
            return run(1 + x / 10)

    return averaged


class Reached(Exception):
    pass


def before(model: nn.Module, layer: str) -> Run:
    """The model up to a layer."""

    def run(pixels: Tensor) -> Tensor:
        def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
            raise Reached(output)

        handle = model.get_submodule(layer).register_forward_hook(stop)
        try:
            model(pixels)
        except Reached as reached:
            return reached.args[0]
        finally:
            handle.remove()
        raise AssertionError(f"{layer} was not reached")

    return run


def image(height: int, width: int | None = None) -> Tensor:
    return torch.empty(1, 3, height, width or height)
