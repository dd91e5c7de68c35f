"""CNNs that are a chain of layers from pixels to feature maps, for models that attend to regions.

The chain comes from elsewhere (:mod:`vlcam.networks.vgg`, :mod:`vlcam.networks.resnet`,
:mod:`vlcam.networks.described_network`); a :class:`Trunk` gives it what an encoder has (see
:class:`vlcam.networks.encoder.RegionEncoder`). :class:`GivenMaps` stands in for a CNN that a
checkpoint lacks: feature maps that were computed elsewhere can be explained, photos cannot.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vlcam.geometry.grid import Grid
from vlcam.networks.cutting import Layer
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.nearest import hint


class Trunk(nn.Module):
    """A chain of layers whose last feature maps (B, K, u, v) are an image's regions.

    Args:
        net: the chain; its children's names are the layers'.
        size: (height, width) of the input, from which the shapes of feature maps follow.
        default_layer: to explain; None: the last.
        nested: whether the layers of a chain within the chain can be explained as well: ``8.3``,
            the third of layer ``8``.

    Attributes:
        layers: those with feature maps, in order.
        regions: the last of them.
        feature_size: F = K u v of the image feature (B, F), the flattened regions.

    Raises:
        ValueError: the layers do not fit each other, or the last one gives no feature maps.
    """

    def __init__(
        self,
        net: nn.Sequential,
        size: tuple[int, int],
        default_layer: str | None = None,
        nested: bool = False,
    ) -> None:
        super().__init__()
        self.net = net
        self.layers = layers_of(net, size, nested)
        names = [name for name, _ in net.named_children()]
        if not self.layers or self.layers[-1].name != names[-1]:
            raise ValueError("the last layer gives no feature maps (K, u, v)")
        self.regions = self.layers[-1]
        self.default_layer = default_layer or self.regions.name
        self.feature_size = math.prod(self.regions.shape)

    def forward(self, pixels: Tensor) -> Tensor:
        """Image features (B, K u v) of pixels (B, 3, H, W)."""
        maps: Tensor = self.net(pixels)
        return maps.flatten(1)

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name (default: ``default_layer``); ValueError names near ones."""
        return find_layer(self.layers, name or self.default_layer)

    def split(self, layer: str | None = None) -> tuple[nn.Sequential, nn.Sequential]:
        """Cut behind a layer: pixels to its maps, maps to the feature; the weights are shared."""
        before, after = cut(self.net, self.layer(layer).name)
        return before, nn.Sequential(after, nn.Flatten())


def cut(chain: nn.Sequential, layer: str) -> tuple[nn.Sequential, nn.Sequential]:
    """A chain up to a layer, and the rest of it; the weights are shared.

    Args:
        layer: its name; with dots, of a layer in a chain within the chain.
    """
    children = list(chain.named_children())
    first, _, rest = layer.partition(".")
    at = [name for name, _ in children].index(first)
    if not rest:
        # No slices: those of a subclass would be of its kind.
        halves = children[: at + 1], children[at + 1 :]
        before, after = (nn.Sequential(OrderedDict(half)) for half in halves)
        return before, after
    inner = children[at][1]
    assert isinstance(inner, nn.Sequential)
    upper, lower = cut(inner, rest)
    above = OrderedDict([*children[:at], (first, upper)])
    return nn.Sequential(above), nn.Sequential(OrderedDict([(first, lower), *children[at + 1 :]]))


class GivenMaps(nn.Module):
    """In the place of a CNN that is missing: its feature maps must be given.

    Attributes:
        grid: where their cells lie in the missing CNN's input.

    Args:
        regions: name and shape of the maps.
        first: the centre of their first cell in the missing CNN's input, in pixels, on both axes.
        stride: pixels from one cell to the next.
        missing: why it takes no photos, for errors: "the weights of VGG-19 are missing".
    """

    def __init__(
        self, regions: Layer, missing: str, *, first: float = 0.0, stride: int = 32
    ) -> None:
        super().__init__()
        size = (regions.shape[1], regions.shape[2])
        self.grid = Grid(size, (first, first), (float(stride), float(stride)))
        self.regions, self.layers = regions, [regions]
        self.default_layer = regions.name
        self.feature_size = math.prod(regions.shape)
        self._missing = missing

    def layer(self, name: str | None = None) -> Layer:
        """The given maps; ValueError for any other layer."""
        if name not in (None, self.regions.name):
            raise ValueError(f"layer {name!r}: {self._missing}; without, only {self.regions.name}")
        return self.regions

    def split(self, layer: str | None = None) -> tuple[nn.Module, nn.Module]:
        """A module that refuses pixels, and maps to the feature."""
        return _Blind(self._missing), nn.Flatten()


class _Blind(nn.Module):
    def __init__(self, missing: str) -> None:
        super().__init__()
        self._missing = missing

    def forward(self, pixels: Tensor) -> Tensor:
        raise ValueError(f"no CNN to see photos with: {self._missing}")


def find_layer(layers: Sequence[Layer], name: str) -> Layer:
    """The layer of that name; ValueError names near ones."""
    for layer in layers:
        if layer.name == name:
            return layer
    names = [layer.name for layer in layers]
    raise ValueError(f"layer {name!r} of this CNN: unknown; {hint(name, names, names[-3:])}")


def layers_of(net: nn.Sequential, size: tuple[int, int], nested: bool = False) -> list[Layer]:
    """Names and shapes of a chain's feature maps, for an input of (height, width).

    Found on the meta device, without computing anything.

    Args:
        nested: whether layers of chains within the chain are listed, too.

    Raises:
        ValueError: the layers do not fit each other.
    """
    was_training = net.training
    net.eval()
    layers = _follow(net, torch.empty(1, 3, *size, device="meta"), nested)[1]
    net.train(was_training)
    return layers


def _follow(
    chain: nn.Sequential, value: Any, nested: bool, within: str = ""
) -> tuple[Any, list[Layer]]:
    """A chain's output for a value, and its layers with feature maps (1, K, u, v)."""
    layers: list[Layer] = []
    for child, module in chain.named_children():
        name = within + child
        if nested and type(module) is nn.Sequential:
            value, inner = _follow(module, value, nested, f"{name}.")
            layers += inner
        else:
            state = {key: value.to("meta") for key, value in module.state_dict().items()}
            try:
                value = functional_call(module, state, (value,))
            except (RuntimeError, ValueError, TypeError, AttributeError) as error:
                # The last two: the layer was given several maps, and takes one.
                raise ValueError(f"layer {name} does not fit: {one_line(error)}") from error
        if isinstance(value, Tensor) and value.ndim == 4:
            layers.append(Layer(name, (value.shape[1], value.shape[2], value.shape[3])))
    return value, layers
