"""ResNets in the layout of Caffe, of any depth and width, from their weights.

They differ from torchvision's, under the same names of weights, in two places: the stride of a
bottleneck sits on its first 1 x 1 convolution, and the max pooling is not padded (its last window
may hang over the edge instead).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from vlcam.cnn import load_exactly, read_state_dict

_STAGES = ("4", "5", "6", "7")
_OF_TORCHVISION = {"conv1": "0", "bn1": "1"} | {f"layer{i}": str(i + 3) for i in range(1, 5)}


class Residual(nn.Module):
    """Two or three convolutions around a shortcut; the first has the stride.

    Args:
        kernels: shapes (out, in, height, width) of the convolutions, in order.
        stride: of the block.
        shortcut: whether it has a convolution of its own.
    """

    def __init__(self, kernels: Sequence[Sequence[int]], stride: int, shortcut: bool) -> None:
        super().__init__()
        self.depth = len(kernels)
        for i, (out, inputs, size, _) in enumerate(kernels, 1):
            step = stride if i == 1 else 1
            conv = nn.Conv2d(inputs, out, size, step, size // 2, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(out))
        self.downsample: nn.Sequential | None = None
        if shortcut:
            inputs, out = kernels[0][1], kernels[-1][0]
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for i in range(1, self.depth + 1):
            inner = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(inner))
            if i < self.depth:
                inner = self.relu(inner)
        output: Tensor = self.relu(inner + (x if self.downsample is None else self.downsample(x)))
        return output


def read_resnet(path: Path) -> tuple[nn.Sequential, int]:
    """A ResNet without its pooling and classifier, and the channels of its last feature maps.

    The network is a sequence of eight: convolution, batch normalisation, ReLU, max pooling and the
    stages ``4`` to ``7``. The file is a state dict with these names or torchvision's.

    Raises:
        ValueError: the file cannot be read, or is no such network.
    """
    what = f"{path}: not the weights of a ResNet"
    state = {}
    for key, tensor in read_state_dict(path).items():
        first, _, rest = key.partition(".")
        if first != "fc":
            state[f"{_OF_TORCHVISION.get(first, first)}.{rest}"] = tensor
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    stem = shapes.get("0.weight", ())
    if len(stem) != 4:
        raise ValueError(f"{what}: no first convolution (0.weight or conv1.weight)")
    net = nn.Sequential(
        nn.Conv2d(stem[1], stem[0], stem[2], 2, stem[2] // 2, bias=False),
        nn.BatchNorm2d(stem[0]),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    )
    channels = 0
    for stage in _STAGES:
        blocks = nn.Sequential()
        while kernels := _kernels(shapes, f"{stage}.{len(blocks)}."):
            stride = 2 if stage != _STAGES[0] and not blocks else 1
            shortcut = f"{stage}.{len(blocks)}.downsample.0.weight" in shapes
            blocks.append(Residual(kernels, stride, shortcut))
            channels = kernels[-1][0]
        if not blocks:
            raise ValueError(f"{what}: no block {stage}.0 (layer{int(stage) - 3}.0)")
        net.append(blocks)
    load_exactly(net, state, what)
    return net, channels


def _kernels(shapes: dict[str, tuple[int, ...]], prefix: str) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    while len(shape := shapes.get(f"{prefix}conv{len(found) + 1}.weight", ())) == 4:
        found.append(shape)
    return found
