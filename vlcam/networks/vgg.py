"""VGG networks of any depth and width from their weights, in the layout of Caffe or torchvision.

Those of Caffe are fed BGR pixels 0..255 less the mean colour; here the channels of the first
convolution are reversed instead, so that the input is RGB as everywhere else.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from vlcam.formats.state_dict import load_exactly, read_state_dict
from vlcam.networks.cutting import Layer
from vlcam.networks.trunk import Trunk, cut, find_layer, layers_of

SIZE = 224  # pixels of the input's sides

CELLS = 7  # of a side of the last maps of torchvision's, whatever the input's

MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)
"""How photos are normalised for Caffe's networks, as read here (RGB, 0..1)."""

CAFFE = "vgg"
"""The name of Caffe's networks in configurations, whatever their depth."""

_CONVOLUTION = re.compile(r"conv(\d)_(\d)$")
_BLOCKS = {13: (2, 2, 3, 3, 3), 16: (2, 2, 4, 4, 4)}
"""By the number of convolutions, how many each block has: VGG-16 and VGG-19."""


class CaffeVgg(nn.Sequential):
    """Caffe's VGG up to its second fully connected layer: ``conv1_1``, ``relu1_1`` ... ``relu7``.

    Args:
        state: its weights, ``conv1_1.weight`` ... ``fc7.bias`` (any channels, any blocks).

    Attributes:
        layers: those with feature maps, in order, of an input of 224 x 224.
        default_layer: the last ReLU before the last pooling (``relu5_4`` of VGG-19).
        feature_size: F of the image feature (B, F), the output of ``relu7``.

    Raises:
        ValueError: they are not the weights of such a network.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        missing = [n for n in ("conv1_1", "fc6", "fc7") if f"{n}.weight" not in state]
        if missing:
            raise ValueError(f"not the weights of a VGG: no {missing[0]}.weight")
        for name, module in _caffe_layers(state).items():
            self.add_module(name, module)
            if isinstance(module, nn.ReLU):
                self.default_layer = name
        self.layers = layers_of(self, (SIZE, SIZE))
        self.add_module("flatten", nn.Flatten())
        for name in ("6", "7"):
            out, inputs = state[f"fc{name}.weight"].shape
            self.add_module(f"fc{name}", nn.Linear(inputs, out))
            self.add_module(f"relu{name}", nn.ReLU())
        self.feature_size: int = out

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name (default: ``default_layer``); ValueError names near ones."""
        return find_layer(self.layers, name or self.default_layer)

    def split(self, layer: str) -> tuple[nn.Sequential, nn.Sequential]:
        """Cut behind a layer: pixels to its maps, maps to the feature; the weights are shared."""
        return cut(self, layer)


def vgg_trunk(state: Mapping[str, Tensor], size: tuple[int, int]) -> Trunk:
    """Caffe's VGG up to its last pooling (``pool5``), for inputs of (height, width), with those
    weights; layers as of :class:`CaffeVgg`.

    Raises:
        ValueError: they are not the weights of such a network.
    """
    if "conv1_1.weight" not in state:
        raise ValueError("not the weights of a VGG: no conv1_1.weight")
    net = nn.Sequential(_caffe_layers(state))
    load_exactly(net, dict(state), "not the weights of a VGG")
    rectified = [name for name, module in net.named_children() if isinstance(module, nn.ReLU)]
    return Trunk(net, size, rectified[-1])


def read_vgg(path: Path) -> CaffeVgg:
    """Caffe's VGG from a file with a state dict, under Caffe's names (``conv1_1.weight``) or
    torchvision's; for BGR pixels in the file, for RGB ones here.

    Raises:
        ValueError: the file cannot be read, or does not hold a VGG.
    """
    what = f"{path}: not the weights of a VGG"
    state = _read(path, what)
    missing = [f"fc{i}.weight" for i in (6, 7) if f"fc{i}.weight" not in state]
    if missing:
        raise ValueError(f"{what}: missing {', '.join(missing)}")
    net = CaffeVgg(state)
    load_exactly(net, state, what)
    return net.eval()


def read_vgg_trunk(path: Path, size: tuple[int, int]) -> Trunk:
    """As :func:`read_vgg`, but up to the last pooling only, as :func:`vgg_trunk`."""
    state = _read(path, f"{path}: not the weights of a VGG")
    convolutions = {k: v for k, v in state.items() if k.startswith("conv")}
    try:
        return vgg_trunk(convolutions, size).eval()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read(path: Path, what: str) -> dict[str, Tensor]:
    """A file's weights by Caffe's names, without the classifier, for RGB pixels."""
    state = _caffe_names(read_state_dict(path))
    state = {k: v.float() for k, v in state.items() if not k.startswith("fc8.")}
    first = state.get("conv1_1.weight")
    if first is None or first.ndim != 4 or first.shape[1] != 3:
        raise ValueError(f"{what}: no conv1_1.weight of three colours")
    state["conv1_1.weight"] = first.flip(1)
    return state


def _caffe_layers(state: Mapping[str, Tensor]) -> OrderedDict[str, nn.Module]:
    """The layers up to the last pooling by their names, with the shapes of those weights."""
    layers = OrderedDict[str, nn.Module]()
    convolutions = sorted(
        match.groups()
        for name in state
        if (match := _CONVOLUTION.match(name.removesuffix(".weight")))
    )
    block = "1"
    for number, place in convolutions:
        if number != block:
            layers[f"pool{block}"] = nn.MaxPool2d(2, 2, ceil_mode=True)
            block = number
        shape = tuple(state[f"conv{number}_{place}.weight"].shape)
        if len(shape) != 4:
            raise ValueError(f"not the weights of a VGG: conv{number}_{place} has shape {shape}")
        out, inputs, height, _ = shape
        layers[f"conv{number}_{place}"] = nn.Conv2d(inputs, out, height, 1, height // 2)
        layers[f"relu{number}_{place}"] = nn.ReLU()
    layers[f"pool{block}"] = nn.MaxPool2d(2, 2, ceil_mode=True)
    return layers


def _caffe_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by Caffe's names, where they have torchvision's numbers."""
    # torchvision numbers all layers in order, ReLUs and poolings included.
    numbers = sorted(
        int(name.split(".")[1]) for name in state if re.match(r"features\.\d+\.weight$", name)
    )
    blocks = _BLOCKS.get(len(numbers))
    if blocks is None:
        return state
    places = [f"conv{b}_{i}" for b, n in enumerate(blocks, 1) for i in range(1, n + 1)]
    names = {f"features.{n}": place for n, place in zip(numbers, places, strict=True)}
    names |= {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
    renamed = {}
    for name, value in state.items():
        stem, _, kind = name.rpartition(".")
        renamed[f"{names.get(stem, stem)}.{kind}"] = value
    return renamed


class TorchvisionVgg(nn.Module):
    """torchvision's VGG without its last layer: ``features.0`` ... , ``classifier.0`` and ``.3``.

    Args:
        state: its weights.

    Attributes:
        layers: those with feature maps, in order, of an input of 224 x 224.
        default_layer: the last ReLU before the last pooling (``features.35`` of VGG-19).
        feature_size: F of the image feature (B, F), the output of the last ReLU.

    Raises:
        ValueError: they are not the weights of such a network.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.features, self.layers = _torchvision_layers(state)
        self.default_layer = self.layers[-2].name
        self.avgpool = nn.AdaptiveAvgPool2d(CELLS)
        (wide, flat), (self.feature_size, inner) = _classifier_sizes(state)
        cells = self.layers[-1].shape[0] * CELLS**2
        if flat != cells:
            raise ValueError(f"no VGG: classifier.0 takes {flat} numbers, expected {cells}")
        self.classifier = nn.Sequential(
            nn.Linear(flat, wide),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(inner, self.feature_size),
            nn.ReLU(),
            nn.Dropout(),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Image features (B, F) of pixels (B, 3, H, W)."""
        feature: Tensor = self.split()[1](self.split()[0](pixels))
        return feature

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name (default: ``default_layer``); ValueError names near ones."""
        return find_layer(self.layers, name or self.default_layer)

    def split(self, layer: str | None = None) -> tuple[nn.Sequential, nn.Sequential]:
        """Cut behind a layer: pixels to its maps, maps to the feature; the weights are shared."""
        at = int(self.layer(layer).name.removeprefix("features.")) + 1
        behind = (self.avgpool, nn.Flatten(), *self.classifier)
        return self.features[:at], nn.Sequential(*self.features[at:], *behind)


def _torchvision_layers(state: Mapping[str, Tensor]) -> tuple[nn.Sequential, list[Layer]]:
    """The layers up to the last pooling, by their numbers, with the shapes of those weights; and
    their feature maps, of an input of 224 x 224."""
    numbers = sorted(_convolutions(state))
    if not numbers or numbers[0] != 0:
        raise ValueError("no VGG: no convolution features.0.weight")
    net, layers, side = nn.Sequential(), list[Layer](), SIZE
    # Between two convolutions lies a ReLU, or a ReLU and a pooling.
    for number, following in zip(numbers, [*numbers[1:], numbers[-1] + 3], strict=True):
        out, inputs, kernel, _ = state[f"features.{number}.weight"].shape
        parts = [nn.Conv2d(inputs, out, kernel, 1, kernel // 2), nn.ReLU(), nn.MaxPool2d(2, 2)]
        if following - number not in (2, 3):
            raise ValueError(
                f"no VGG: features.{number} and features.{following} are not 2 or 3 apart"
            )
        for part in parts[: following - number]:
            side //= 2 if isinstance(part, nn.MaxPool2d) else 1
            layers.append(Layer(f"features.{len(net)}", (out, side, side)))
            net.append(part)
    return net, layers


def _convolutions(state: Mapping[str, Tensor]) -> list[int]:
    """The numbers of torchvision's convolutions."""
    numbers = []
    for key, weight in state.items():
        first, _, rest = key.partition(".")
        number, _, kind = rest.partition(".")
        if first == "features" and kind == "weight" and number.isdecimal() and weight.ndim == 4:
            numbers.append(int(number))
    return numbers


def _classifier_sizes(state: Mapping[str, Tensor]) -> list[tuple[int, int]]:
    """(outputs, inputs) of the two fully connected layers of torchvision's classifier."""
    sizes = []
    for name in ("classifier.0", "classifier.3"):
        weight = state.get(f"{name}.weight")
        if weight is None or weight.ndim != 2:
            raise ValueError(f"no VGG: no matrix {name}.weight")
        sizes.append((weight.shape[0], weight.shape[1]))
    return sizes
