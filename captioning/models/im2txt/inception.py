"""Inception v3 (Szegedy et al., 2016) as TensorFlow's slim builds it, of any widths, from weights.

It is not torchvision's network of that name: batch normalisation has no scale, average pooling
within blocks leaves out what lies beyond the edges, and the names differ. Slim's are kept, with
their inconsistencies: ``Mixed_5c``'s second branch is named unlike its neighbours', the layers
``Conv2d_1a_1x1`` of ``Mixed_6a`` are 3 x 3, and ``Mixed_7b`` gives two layers the letter that
``Mixed_7c`` gives one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from vlcam.networks.cutting import Layer
from vlcam.networks.trunk import cut, find_layer, layers_of

SIZE = 299
"""Pixels of the input's sides that slim's networks are trained with."""

_EPSILON = 1e-3

_STEM = (
    "Conv2d_1a_3x3",
    "Conv2d_2a_3x3",
    "Conv2d_2b_3x3",
    "MaxPool_3a_3x3",
    "Conv2d_3b_1x1",
    "Conv2d_4a_3x3",
    "MaxPool_5a_3x3",
)
_PADDED = "Conv2d_2b_3x3"
"""The only layer of the stem that is padded."""

_Step = tuple[str, ...]
_Branch = tuple[_Step, ...]


def _branch(*steps: str) -> _Branch:
    """Names of layers, from input to output; ``a|b`` are two on the same input, concatenated."""
    return tuple(tuple(step.split("|")) for step in steps)


_ONE = _branch("Conv2d_0a_1x1")
_POOLED = _branch("AvgPool_0a_3x3", "Conv2d_0b_1x1")
_35 = (
    _ONE,
    _branch("Conv2d_0a_1x1", "Conv2d_0b_5x5"),
    _branch("Conv2d_0a_1x1", "Conv2d_0b_3x3", "Conv2d_0c_3x3"),
    _POOLED,
)
_17 = (
    _ONE,
    _branch("Conv2d_0a_1x1", "Conv2d_0b_1x7", "Conv2d_0c_7x1"),
    _branch("Conv2d_0a_1x1", "Conv2d_0b_7x1", "Conv2d_0c_1x7", "Conv2d_0d_7x1", "Conv2d_0e_1x7"),
    _POOLED,
)
_TALL_AND_WIDE = _branch("Conv2d_0a_1x1", "Conv2d_0b_3x3", "Conv2d_0c_1x3|Conv2d_0d_3x1")
_BLOCKS = {
    "Mixed_5b": _35,
    "Mixed_5c": (_ONE, _branch("Conv2d_0b_1x1", "Conv_1_0c_5x5"), *_35[2:]),
    "Mixed_5d": _35,
    "Mixed_6a": (
        _branch("Conv2d_1a_1x1"),
        _branch("Conv2d_0a_1x1", "Conv2d_0b_3x3", "Conv2d_1a_1x1"),
        _branch("MaxPool_1a_3x3"),
    ),
    "Mixed_6b": _17,
    "Mixed_6c": _17,
    "Mixed_6d": _17,
    "Mixed_6e": _17,
    "Mixed_7a": (
        _branch("Conv2d_0a_1x1", "Conv2d_1a_3x3"),
        _branch("Conv2d_0a_1x1", "Conv2d_0b_1x7", "Conv2d_0c_7x1", "Conv2d_1a_3x3"),
        _branch("MaxPool_1a_3x3"),
    ),
    "Mixed_7b": (
        _ONE,
        _branch("Conv2d_0a_1x1", "Conv2d_0b_1x3|Conv2d_0b_3x1"),
        _TALL_AND_WIDE,
        _POOLED,
    ),
    "Mixed_7c": (
        _ONE,
        _branch("Conv2d_0a_1x1", "Conv2d_0b_1x3|Conv2d_0c_3x1"),
        _TALL_AND_WIDE,
        _POOLED,
    ),
}
_STRIDED = "_1a_"
"""Part of the names of layers with stride 2; within blocks, all others are padded."""

_REALLY_3X3 = "Conv2d_1a_1x1"

_NORMALISATION = {
    "beta": "bias",
    "gamma": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class Convolution(nn.Module):
    """A convolution without bias, batch normalisation and ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: tuple[int, int],
        stride: int,
        padding: tuple[int, int],
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=_EPSILON)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        rectified: Tensor = self.relu(self.bn(self.conv(x)))
        return rectified


class Branch(nn.ModuleDict):
    """Layers one after the other, in steps; those of one step read the same input."""

    def __init__(self, layers: Mapping[str, nn.Module], steps: _Branch) -> None:
        super().__init__(layers)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            outputs = [self[name](x) for name in step]
            x = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
        return x


class Block(nn.ModuleDict):
    """Branches side by side on the same input, concatenated."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.values()], 1)


class InceptionV3(nn.Sequential):
    """Inception v3 up to the mean over its last feature maps.

    Args:
        weights: by their names here (see :func:`from_slim`); their shapes say the widths.

    Raises:
        ValueError: the weights of a convolution are missing or of another shape.

    Attributes:
        layers: slim's end points, in order, for an input of 299 x 299 pixels.
        default_layer: the last one.
        feature_size: F of the image feature (B, F).
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        channels = 3
        for name in _STEM:
            module, channels = _layer(weights, name, channels, padded=name == _PADDED)
            self.add_module(name, module)
        for name, branches in _BLOCKS.items():
            module, channels = _block(weights, name, branches, inputs=channels)
            self.add_module(name, module)
        self.layers = layers_of(self, (SIZE, SIZE))
        self.default_layer = name
        self.feature_size = channels
        self.add_module("pool", nn.AdaptiveAvgPool2d(1))
        self.add_module("flatten", nn.Flatten())

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name (default: ``default_layer``); ValueError names near ones."""
        return find_layer(self.layers, name or self.default_layer)

    def split(self, layer: str) -> tuple[nn.Sequential, nn.Sequential]:
        """Cut behind a layer: pixels to its maps, maps to the feature; the weights are shared."""
        return cut(self, layer)


def from_slim(variables: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Our names and layout for slim's variables (names without their scope).

    Batch normalisation is given the scale of 1 that slim leaves out.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in variables:
        path, _, kind = name.replace("/BatchNorm", "").rpartition("/")
        path = path.replace("/", ".")
        if kind == "weights" and tensor.ndim == 4:
            state[f"{path}.conv.weight"] = tensor.permute(3, 2, 0, 1).contiguous()
            state.setdefault(f"{path}.bn.weight", torch.ones(tensor.shape[-1]))
        elif kind in _NORMALISATION:
            state[f"{path}.bn.{_NORMALISATION[kind]}"] = tensor
        else:
            state[name] = tensor  # to be refused by this name
    return state


def _block(
    weights: Mapping[str, Tensor], name: str, branches: tuple[_Branch, ...], *, inputs: int
) -> tuple[Block, int]:
    """A block, and the channels of its output."""
    block, outputs = Block(), 0
    for number, steps in enumerate(branches):
        path, channels = f"{name}.Branch_{number}", inputs
        layers: dict[str, nn.Module] = {}
        for step in steps:
            made = [_layer(weights, f"{path}.{each}", channels, padded=True) for each in step]
            layers |= {each: module for each, (module, _) in zip(step, made, strict=True)}
            channels = sum(width for _, width in made)
        block[f"Branch_{number}"] = Branch(layers, steps)
        outputs += channels
    return block, outputs


def _layer(
    weights: Mapping[str, Tensor], path: str, inputs: int, *, padded: bool
) -> tuple[nn.Module, int]:
    """A convolution or a pooling, and the channels of its output."""
    name = path.rpartition(".")[2]
    strided = _STRIDED in name
    if name.startswith("MaxPool"):
        return nn.MaxPool2d(3, 2), inputs
    if name.startswith("AvgPool"):
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False), inputs
    key = f"{path}.conv.weight"
    if key not in weights or weights[key].ndim != 4 or not weights[key].numel():
        raise ValueError(f"no convolution {path.replace('.', '/')}")
    outputs = weights[key].shape[0]
    height, width = (3, 3) if name == _REALLY_3X3 else (int(name[-3]), int(name[-1]))
    around = (height // 2, width // 2) if padded and not strided else (0, 0)
    module = Convolution(
        inputs, outputs, kernel=(height, width), stride=2 if strided else 1, padding=around
    )
    return module, outputs
