"""Networks as plain data, as ``config.json`` may hold them: lists of layers with their options.

A layer is ``{"kind": "relu"}``, or ``{"kind": "sequence", "layers": [...]}`` with others inside.
Only the kinds listed here can be made from such a description.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vlcam.utils.messages.errors import one_line

Description = Mapping[str, Any]
"""A layer's: its kind and its options."""

DEEPEST = 40  # layers within layers
MOST = 20_000  # layers
LARGEST = 2**16  # of an option's whole numbers


class Branches(nn.ModuleDict):
    """The outputs of all its layers for the same input, as a list."""

    def forward(self, x: Any) -> list[Any]:
        return [layer(x) for layer in self.values()]


class Joined(nn.ModuleDict):
    """The outputs of all its layers for the same input, concatenated along the channels."""

    def forward(self, x: Any) -> Tensor:
        return torch.cat([layer(x) for layer in self.values()], 1)


class Sum(nn.Module):
    """The sum of several maps."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        if not isinstance(maps, list) or not maps:
            raise TypeError("a sum of something that is no list of maps")
        total = maps[0]
        for each in maps[1:]:
            total = total + each
        return total


class Times(nn.Module):
    """Maps times a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Reshape(nn.Module):
    """Each image's values in another shape."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.sizes)


_WINDOW = ("kernel_size", "stride", "padding")
_LAYERS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "identity": (nn.Identity, ()),
    "convolution": (nn.Conv2d, ("in_channels", "out_channels", *_WINDOW, "groups", "bias")),
    "normalisation": (nn.BatchNorm2d, ("num_features", "eps", "affine")),
    "relu": (nn.ReLU, ()),
    "max-pooling": (nn.MaxPool2d, (*_WINDOW, "ceil_mode")),
    "mean-pooling": (nn.AvgPool2d, (*_WINDOW, "ceil_mode", "count_include_pad")),
    "dropout": (nn.Dropout, ("p",)),
    "linear": (nn.Linear, ("in_features", "out_features", "bias")),
    "padding": (nn.ZeroPad2d, ("padding",)),
    "reshape": (Reshape, ("sizes",)),
    "times": (Times, ("factor",)),
    "sum": (Sum, ()),
}
"""How layers of a kind are made, and their options, all of which must be given."""

_CONTAINERS: dict[str, Callable[[OrderedDict[str, nn.Module]], nn.Module]] = {
    "sequence": nn.Sequential,
    "branches": Branches,
    "joined": Joined,
}


def network(layers: Sequence[Description]) -> nn.Sequential:
    """The network of these layers, which are named by their numbers from 1.

    It has no weights yet, and is on the meta device: ``to_empty`` gives it memory.

    Raises:
        ValueError: the description of a layer is wrong; the layer is named.
    """
    with torch.device("meta"):
        return nn.Sequential(_children(layers, "", iter(range(MOST))))


def _children(layers: Any, within: str, count: Any) -> OrderedDict[str, nn.Module]:
    """The layers of a network, or of a layer named ``within``; ``count`` runs out after MOST."""
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        what = f"layer {within[:-1]}" if within else "it"
        raise ValueError(f"network: {what} has no list of layers")
    if within.count(".") > DEEPEST:
        raise ValueError("network: its layers are nested too deep")
    made = OrderedDict[str, nn.Module]()
    for number, layer in enumerate(layers, 1):
        if next(count, None) is None:
            raise ValueError(f"network: it has more than {MOST} layers")
        made[str(number)] = _layer(layer, f"{within}{number}", count)
    return made


def _layer(description: Any, name: str, count: Any) -> nn.Module:
    options = dict(description) if isinstance(description, Mapping) else {}
    kind = options.pop("kind", None)
    if isinstance(kind, str) and kind in _CONTAINERS and set(options) == {"layers"}:
        return _CONTAINERS[kind](_children(options["layers"], f"{name}.", count))
    if not isinstance(kind, str) or kind not in _LAYERS or set(options) != set(_LAYERS[kind][1]):
        known = ", ".join((*_CONTAINERS, *_LAYERS))
        raise ValueError(f"network: layer {name} is none of {known}, with its options")
    for option, value in options.items():
        numbers = value if isinstance(value, list) else [value]
        if not 1 <= len(numbers) <= 4 or not all(_plain(number) for number in numbers):
            raise ValueError(f"network: layer {name}: {option} is {str(value)[:60]!r}")
    try:
        return _LAYERS[kind][0](**options)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"network: layer {name} cannot be made: {one_line(error)}") from error


def _plain(number: Any) -> bool:
    """Whether an option's value is a finite number that is not too large."""
    if isinstance(number, float):
        return math.isfinite(number)
    return isinstance(number, int) and abs(number) <= LARGEST
