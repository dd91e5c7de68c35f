"""The small residual network that is trained from scratch."""

from __future__ import annotations

from torch import Tensor, nn


class SmallCNN(nn.Module):
    """A small residual network to train from scratch: 1.4 M weights, 0.37 GMAC at 224 x 224.

    Its activations are all ReLUs, as Guided Backpropagation needs. The last feature maps,
    ``stage4``, have stride 16 (14 x 14 cells at 224 x 224) and a receptive field of 153 pixels; the
    image feature is their mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2, bias=False), nn.BatchNorm2d(24), nn.ReLU()
        )
        self.stage1 = ResidualBlock(24, 32, 2)
        self.stage2 = ResidualBlock(32, 64, 2)
        self.stage3 = ResidualBlock(64, 128, 2)
        # The last block has kernels of 1 x 1, to keep the receptive field small: cells that see
        # twice the width of an object respond beside it as well as on it.
        self.stage4 = nn.Sequential(ResidualBlock(128, 256, 1), ResidualBlock(256, 256, 1, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(pixels)))))
        return self.pool(maps).flatten(1)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut (ResNet's basic block)."""

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int = 3) -> None:
        super().__init__()
        around = kernel // 2
        self.conv1 = nn.Conv2d(inputs, outputs, kernel, stride, around, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, kernel, 1, around, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(inner)) + self.shortcut(x))
