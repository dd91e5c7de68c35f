"""What tests of published checkpoints share: classes of other projects, ResNets written out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@contextmanager
def module_of(name: str, *classes: type) -> Iterator[None]:
    """While objects of those classes are saved, they come from a module of that name, which is not
    there any more when they are read."""
    module = ModuleType(name)
    module.__file__ = __file__
    for kind in classes:
        kind.__module__, kind.__qualname__ = name, kind.__name__
        setattr(module, kind.__name__, kind)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


def small_resnet(seed: int = 0) -> dict[str, Tensor]:
    """Random weights of bottlenecks (2, 1, 1, 1), named as children of torchvision's ResNet; 8
    channels in the last maps."""
    generator = torch.Generator().manual_seed(seed)
    return resnet_state(lambda *shape: torch.randn(*shape, generator=generator))


def slow_resnet(state: Mapping[str, Tensor], x: Tensor, first: int = 0, last: int = 7) -> Tensor:
    """Modules ``first`` ... ``last`` of torchvision's ResNet, written out in functions, float64."""
    weights = {name: value.double() for name, value in state.items()}

    def norm(y: Tensor, name: str) -> Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (weights[f"{name}.{kind}"][:, None, None] for kind in kinds)
        return (y - mean) / (var + 1e-5).sqrt() * scale + shift

    if first == 0:
        x = norm(F.conv2d(x, weights["0.weight"], stride=2, padding=3), "1").clamp(min=0)
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)
    for stage in range(max(first, 4), last + 1):
        for block in range(2 if stage == 4 else 1):
            name, stride = f"{stage}.{block}", 2 if stage > 4 and block == 0 else 1
            y = norm(F.conv2d(x, weights[f"{name}.conv1.weight"]), f"{name}.bn1").clamp(min=0)
            y = F.conv2d(y, weights[f"{name}.conv2.weight"], stride=stride, padding=1)
            y = norm(y, f"{name}.bn2").clamp(min=0)
            y = norm(F.conv2d(y, weights[f"{name}.conv3.weight"]), f"{name}.bn3")
            if block == 0:
                x = F.conv2d(x, weights[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(x, f"{name}.downsample.1")
            x = (x + y).clamp(min=0)
    return x


def resnet_state(random: Any) -> dict[str, Tensor]:
    """Bottlenecks (2, 1, 1, 1), in the fine-tuned checkpoints' names, without batch counters."""
    state = {}

    def convolution(conv: str, norm: str, out: int, inputs: int, size: int) -> None:
        state[f"{conv}.weight"] = random(out, inputs, size, size) / (inputs * size * size) ** 0.5
        state[f"{norm}.weight"] = random(out).abs() + 0.5
        state[f"{norm}.bias"] = random(out) * 0.2
        state[f"{norm}.running_mean"] = random(out) * 0.1
        state[f"{norm}.running_var"] = random(out).abs() + 0.5

    convolution("0", "1", 4, 3, 7)
    inputs = 4
    for stage, width, blocks in ((4, 2, 2), (5, 3, 1), (6, 2, 1), (7, 2, 1)):
        for block in range(blocks):
            name = f"{stage}.{block}"
            convolution(f"{name}.conv1", f"{name}.bn1", width, inputs, 1)
            convolution(f"{name}.conv2", f"{name}.bn2", width, width, 3)
            convolution(f"{name}.conv3", f"{name}.bn3", 4 * width, width, 1)
            if block == 0:
                convolution(f"{name}.downsample.0", f"{name}.downsample.1", 4 * width, inputs, 1)
            inputs = 4 * width
    return state
