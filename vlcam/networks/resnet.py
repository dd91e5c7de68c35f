"""ResNets of any depth and width from their weights, in the layout of torchvision or of Caffe.

The two have the same names of weights, but differ in two places: Caffe's bottlenecks have their
stride in the first 1 x 1 convolution (torchvision's in the 3 x 3 one), and its max pooling is not
padded (its last window may extend beyond the edge instead).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from vlcam.formats.state_dict import load_exactly, read_state_dict
from vlcam.networks.cutting import Layer
from vlcam.networks.trunk import find_layer, layers_of

Style = Literal["torchvision", "caffe"]

_STAGES = ("4", "5", "6", "7")
_OF_TORCHVISION = {"conv1": "0", "bn1": "1"} | {f"layer{i}": str(i + 3) for i in range(1, 5)}


class Residual(nn.Module):
    """Two or three convolutions and a shortcut.

    Args:
        kernels: shapes (out, in, height, width) of the convolutions, in order.
        stride: of the block.
        strided: number, from 1, of the convolution that has this stride.
        shortcut: whether the shortcut has a convolution.
        bias: whether the convolutions have biases (those ported from Torch7 do).

    Attributes:
        channels: of the block's output.
    """

    def __init__(
        self,
        kernels: Sequence[Sequence[int]],
        *,
        stride: int,
        strided: int,
        shortcut: bool,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.depth, self.channels = len(kernels), kernels[-1][0]
        for i, (out, inputs, size, _) in enumerate(kernels, 1):
            step = stride if i == strided else 1
            conv = nn.Conv2d(inputs, out, size, step, size // 2, bias=bias)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(out))
        self.downsample: nn.Sequential | None = None
        if shortcut:
            convolution = nn.Conv2d(kernels[0][1], self.channels, 1, stride, bias=bias)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(self.channels))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for i in range(1, self.depth + 1):
            inner = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(inner))
            if i < self.depth:
                inner = self.relu(inner)
        output: Tensor = self.relu(inner + (x if self.downsample is None else self.downsample(x)))
        return output


def read_resnet(path: Path, style: Style) -> tuple[nn.Sequential, int]:
    """As :func:`resnet`, from a file with a state dict.

    Raises:
        ValueError: the file cannot be read, or is no such network.
    """
    return resnet(read_state_dict(path), style, f"{path}: not the weights of a ResNet")


def resnet(state: Mapping[str, Tensor], style: Style, what: str) -> tuple[nn.Sequential, int]:
    """A ResNet without its pooling and classifier, and the channels of its last feature maps.

    The network is a sequence of eight: convolution, batch normalisation, ReLU, max pooling and the
    stages ``4`` to ``7``.

    Args:
        state: its weights, with these names or torchvision's; a classifier (``fc``, or
            ``last_linear`` in pretrained-models.pytorch) is left out.
        what: beginning of the error where they do not fit: "... not the weights of a ResNet".

    Raises:
        ValueError: it is no such network.
    """
    named = _by_number(state)
    shapes = {key: tuple(tensor.shape) for key, tensor in named.items()}
    stem = shapes.get("0.weight", ())
    if len(stem) != 4:
        raise ValueError(f"{what}: no first convolution (0.weight or conv1.weight)")
    bias = "0.bias" in shapes
    net = nn.Sequential(
        nn.Conv2d(stem[1], stem[0], stem[2], 2, stem[2] // 2, bias=bias),
        nn.BatchNorm2d(stem[0]),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True) if style == "caffe" else nn.MaxPool2d(3, 2, padding=1),
    )
    channels = 0
    for stage in _STAGES:
        blocks = _stage(stage, shapes, style, bias)
        if not blocks:
            raise ValueError(f"{what}: no block {stage}.0 (layer{int(stage) - 3}.0)")
        net.append(nn.Sequential(*blocks))
        channels = blocks[-1].channels
    load_exactly(net, named, what)
    return net, channels


def _by_number(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the numbers of their layers, without a classifier's."""
    named = {}
    for key, tensor in state.items():
        first, _, rest = key.partition(".")
        if first not in ("fc", "last_linear"):
            named[f"{_OF_TORCHVISION.get(first, first)}.{rest}"] = tensor
    return named


def _stage(
    stage: str, shapes: Mapping[str, tuple[int, ...]], style: Style, bias: bool
) -> list[Residual]:
    """A stage's blocks, as many as there are weights of."""
    blocks: list[Residual] = []
    while kernels := _kernels(shapes, f"{stage}.{len(blocks)}."):
        stride = 2 if stage != _STAGES[0] and not blocks else 1
        strided = 2 if style == "torchvision" and len(kernels) == 3 else 1
        shortcut = f"{stage}.{len(blocks)}.downsample.0.weight" in shapes
        blocks.append(
            Residual(kernels, stride=stride, strided=strided, shortcut=shortcut, bias=bias)
        )
    return blocks


def _kernels(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> list[tuple[int, ...]]:
    """The shapes of a block's convolutions."""
    found: list[tuple[int, ...]] = []
    while len(shape := shapes.get(f"{prefix}conv{len(found) + 1}.weight", ())) == 4:
        found.append(shape)
    return found


class PooledResNet(nn.Module):
    """A ResNet and a pooling of its maps.

    Args:
        resnet: as :func:`resnet` makes it.
        pool: the module behind it.
        pool_name: name of the layer that ``pool`` is, where its output can be explained as well.
        size: (height, width) of the input, from which the shapes of feature maps follow.

    Attributes:
        layers: those with feature maps, in order.
        default_layer: the last stage.
    """

    default_layer = "resnet.7"

    def __init__(
        self,
        resnet: nn.Sequential,
        pool: nn.Module,
        pool_name: str | None = None,
        size: tuple[int, int] = (224, 224),
    ) -> None:
        super().__init__()
        self.resnet, self.pool = resnet, pool
        names = [*(some for some, _ in _steps(resnet)), [pool_name] if pool_name else []]
        self._ends = {name: place for place, some in enumerate(names, 1) for name in some}
        shapes = layers_of(nn.Sequential(*self._modules_in_order()), size)
        self.layers = [replace(shapes[end - 1], name=name) for name, end in self._ends.items()]

    def forward(self, pixels: Tensor) -> Tensor:
        """Pooled maps of pixels (B, 3, H, W)."""
        pooled: Tensor = self.pool(self.resnet(pixels))
        return pooled

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name (default: ``default_layer``); ValueError names near ones."""
        return find_layer(self.layers, name or self.default_layer)

    def split(self, layer: str | None = None) -> tuple[nn.Sequential, nn.Sequential]:
        """Cut behind a layer: pixels to its maps, and those to pooled maps; the weights are
        shared."""
        end, modules = self._ends[self.layer(layer).name], self._modules_in_order()
        return nn.Sequential(*modules[:end]), nn.Sequential(*modules[end:])

    def _modules_in_order(self) -> list[nn.Module]:
        return [*(module for _, module in _steps(self.resnet)), self.pool]


def _steps(resnet: nn.Sequential) -> list[tuple[list[str], nn.Module]]:
    """The network's layers with their names, in order: of a stage its blocks, the last of which has
    the stage's name as well."""
    steps: list[tuple[list[str], nn.Module]] = []
    for number, module in resnet.named_children():
        name = f"resnet.{number}"
        if isinstance(module, nn.Sequential):
            steps += [([f"{name}.{i}"], block) for i, block in enumerate(module)]
            steps[-1][0].append(name)
        else:
            steps.append(([name], module))
    return steps
