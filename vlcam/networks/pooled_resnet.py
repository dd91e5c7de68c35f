"""A ResNet and the pooling behind it, that can be cut behind any of its blocks.

Layers bear the names they have in checkpoints that keep the network as ``resnet``, a sequence of
torchvision's children: ``resnet.7`` is the last stage, ``resnet.6.2`` the third block of the one
before.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from vlcam.networks.encoder import Layer
from vlcam.networks.trunk import find_layer, layers_of


class PooledResNet(nn.Module):
    """Pixels to pooled maps.

    Args:
        resnet: of :func:`vlcam.networks.resnet.resnet`.
        pool: what comes behind it.
        pool_name: where its maps can be explained, too: the name of that layer.
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
        pooled: Tensor = self.pool(self.resnet(pixels))
        return pooled

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name (default: ``default_layer``); ValueError names near ones."""
        return find_layer(self.layers, name or self.default_layer)

    def split(self, layer: str | None = None) -> tuple[nn.Sequential, nn.Sequential]:
        """Cut behind a layer: pixels to its maps, and those to pooled maps; shared weights."""
        end, modules = self._ends[self.layer(layer).name], self._modules_in_order()
        return nn.Sequential(*modules[:end]), nn.Sequential(*modules[end:])

    def _modules_in_order(self) -> list[nn.Module]:
        return [*(module for _, module in _steps(self.resnet)), self.pool]


def _steps(resnet: nn.Sequential) -> list[tuple[list[str], nn.Module]]:
    """The network's layers with their names, one by one: of a stage its blocks, the last of which
    bears the stage's name as well."""
    steps: list[tuple[list[str], nn.Module]] = []
    for number, module in resnet.named_children():
        name = f"resnet.{number}"
        if isinstance(module, nn.Sequential):
            steps += [([f"{name}.{i}"], block) for i, block in enumerate(module)]
            steps[-1][0].append(name)
        else:
            steps.append(([name], module))
    return steps
