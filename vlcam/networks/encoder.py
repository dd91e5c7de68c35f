"""A CNN by its name, which can be cut in two at any layer.

An :class:`Encoder` turns pixels into one image feature. It wraps a network without its classifier
(:mod:`vlcam.networks.cnns`), keeps its names of weights and layers, and can be split at a layer
into ``before(pixels) -> feature maps`` and ``after(feature maps) -> feature``
(:mod:`vlcam.networks.cutting`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, fx, nn

from vlcam.formats.checkpoint import read_cnn
from vlcam.formats.packaged import PackagedFile
from vlcam.formats.state_dict import load_exactly, read_state_dict
from vlcam.networks import cnns, transformers_cnn
from vlcam.networks.cutting import (
    Layer,
    cuttable_layers,
    layer_before_pooling,
    part_between,
    trace_layers,
)
from vlcam.networks.efficientnet_lite import EfficientNetLite
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.nearest import hint

# The auxiliary classifiers of GoogLeNet and Inception v3: published weights contain them, and they
# are not built here.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


class Encoder(nn.Module):
    """A CNN that turns pixels into one image feature, and can be split at any layer.

    The feature is what the network's own classifier would see, the input of its last linear layer:
    fc7 for VGG and AlexNet, the mean of the last map for networks with global average pooling.

    Args:
        name: ``small``, ``efficientnet_lite2`` (or 0, 1), torchvision's name of a network
            (``vgg16``, ``resnet50``, ...), ``timm:`` and timm's name, or one of transformers as
            :mod:`vlcam.networks.transformers_cnn` names it. Its weights are random until
            :meth:`load_weights` or :meth:`load_published`.
        size: (height, width) of the input, from which the shapes of feature maps follow.

    Attributes:
        layers: every layer the network can be cut at, in order of execution.
        default_layer: the last of them that comes before the final pooling: the last rectified
            convolutional feature map (``features.29`` of VGG-16, ``layer4`` of ResNets).
        feature_size: F of the image feature (B, F).

    Raises:
        ValueError: the name is not known (near ones are named), or the network has no feature maps.
    """

    def __init__(self, name: str, size: tuple[int, int] = (224, 224)) -> None:
        super().__init__()
        self.name = name
        self.size = size
        self.net, self._head = cnns.build(name)
        try:
            self._graph, calls = trace_layers(self.net)
        except Exception as error:  # whatever a network does with the stand-ins for its values
            why = one_line(error)
            raise ValueError(f"CNN {name}: what it computes cannot be followed ({why})") from error
        self.layers, self.feature_size = cuttable_layers(
            self.net, self._graph, calls, size=size, name=name
        )
        self.default_layer = layer_before_pooling(self.net, self._graph, calls, self.layers)
        # By name, as a copy of this encoder has a graph of its own.
        self._calls = {path: [node.name for node in nodes] for path, nodes in calls.items()}

    def forward(self, pixels: Tensor) -> Tensor:
        """Image features (B, F) of normalised pixels (B, 3, H, W)."""
        feature: Tensor = self.net(pixels)
        return feature

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name (default: ``default_layer``); ValueError names near ones."""
        name = name or self.default_layer
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layers]
        why = "runs more than once or lies on a side path" if name in self._calls else "unknown"
        raise ValueError(f"layer {name!r} of {self.name}: {why}; {hint(name, names, names[-3:])}")

    def distinct_layers(self) -> list[Layer]:
        """:attr:`layers`, without those that are another one under a second name; the outermost
        names are kept."""
        first = {self._calls[layer.name][0]: layer for layer in reversed(self.layers)}
        return list(first.values())[::-1]

    def split(self, layer: str | None = None) -> tuple[nn.Module, nn.Module]:
        """Cut at a layer: ``before(pixels) -> maps (B, K, u, v)``, ``after(maps) -> (B, F)``.

        Both halves share this encoder's submodules, hence its weights, device and train/eval
        flags. ``after`` is differentiable in the maps and leaves them as they are, also where an
        in-place ReLU follows the layer.
        """
        node = self._node(self.layer(layer).name)
        return (
            part_between(self.net, self._graph, until=node),
            part_between(self.net, self._graph, since=node),
        )

    def between(self, layer: str, behind: str) -> nn.Module:
        """The part from a layer's feature maps to those of one behind it (or of the same)."""
        since, until = (self._node(self.layer(name).name) for name in (layer, behind))
        if since is until:
            return nn.Identity()
        return part_between(self.net, self._graph, since=since, until=until)

    def _node(self, layer: str) -> fx.Node:
        """The graph's node that is that layer's output."""
        (name,) = self._calls[layer]
        return next(node for node in self._graph.nodes if node.name == name)

    def load_weights(self, path: Path) -> None:
        """Load a state dict of this network, under its own names; its classifier is ignored.

        Half precision becomes float32.

        Args:
            path: a safetensors file; a ``torch.save`` file of plain tensors (never a pickle of
                anything else); the folder of a model of ours, whose CNN is taken; the folder of a
                CNN of transformers.

        Raises:
            ValueError: the file cannot be read, or does not hold exactly this network.
        """
        self._load(self._weights(path), path)

    def load_published(self) -> None:
        """Load the weights of :func:`vlcam.networks.cnns.published`.

        Raises:
            ValueError: none are known, or they cannot be had.
        """
        self._load(self.named(cnns.published(self.name)), "what was published")

    def classifier(self) -> Tensor:
        """Weights (classes, F) of the linear classifier that the network was published with.

        Raises:
            ValueError: it was published without one, or it cannot be had.
        """
        tensors = self._renamed(cnns.published(self.name))
        found = [v for k, v in tensors.items() if k.startswith(self._heads) and v.ndim == 2]
        if len(found) != 1:
            raise ValueError(f"CNN {self.name}: it was published without a linear classifier")
        return found[0].float()

    def packaged(self) -> list[PackagedFile]:
        """As of :class:`vlcam.formats.packaged.FromPackages`."""
        return cnns.packaged(self.name)

    def named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the whole published network as this encoder has them, in float32."""
        return {
            key: value.float() if value.is_floating_point() else value
            for key, value in self._renamed(tensors).items()
            if not key.startswith((*_AUXILIARY, *self._heads))
        }

    def _renamed(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """By this network's names."""
        return self.net.named(tensors) if isinstance(self.net, EfficientNetLite) else tensors

    @property
    def _heads(self) -> tuple[str, ...]:
        """What names of the classifier's weights begin with."""
        return tuple(f"{layer}." for layer in self._head)

    def _load(self, state: dict[str, Tensor], what: Path | str) -> None:
        load_exactly(self.net, state, f"{what}: not the weights of {self.name}")

    def _weights(self, path: Path) -> dict[str, Tensor]:
        if transformers_cnn.is_one(path):
            return self.named(transformers_cnn.weights(path))
        files = read_cnn(path) if path.is_dir() else [read_state_dict(path)]
        return {name: value for file in files for name, value in self.named(file).items()}


class RegionEncoder(Encoder):
    """A CNN for models that attend to the regions of an image: its image feature is a layer's
    feature maps (B, K, u, v), flattened to (B, K u v). What comes behind that layer is left out.

    Args:
        name, size: as of an :class:`Encoder`.
        regions: the layer's name; None: the default layer, or a max pooling right behind it
            (``features.30`` of VGG-16, ``layer4`` of ResNets).

    Attributes:
        regions: that layer.
        layers: up to it.
    """

    def __init__(
        self, name: str, size: tuple[int, int] = (224, 224), regions: str | None = None
    ) -> None:
        super().__init__(name, size)
        self.regions = self.layer(regions or self._last_maps())
        self.layers = self.layers[: 1 + self.layers.index(self.regions)]
        if self.default_layer not in [layer.name for layer in self.layers]:
            self.default_layer = self.regions.name
        self.feature_size = math.prod(self.regions.shape)
        before = super().split(self.regions.name)[0]
        # A module that was traced through is itself not among them, but its tensors are.
        kept = {*before.modules(), *before.parameters(), *before.buffers()}
        for path, module in list(self.net.named_modules()):
            own = {module, *module.parameters(), *module.buffers()}
            if not own & kept and next(module.children(), None) is None:
                self.net.set_submodule(path, nn.Identity())

    def _last_maps(self) -> str:
        """The default layer, or a max pooling right behind it."""
        names = [layer.name for layer in self.layers]
        behind = names[names.index(self.default_layer) + 1 :]
        modules = dict(self.net.named_modules())
        pooling = (n for n in behind if isinstance(modules.get(n), nn.MaxPool2d))
        return next(pooling, self.default_layer)

    def forward(self, pixels: Tensor) -> Tensor:
        """Image features (B, K u v) of normalised pixels (B, 3, H, W)."""
        before = part_between(self.net, self._graph, until=self._node(self.regions.name))
        maps: Tensor = before(pixels)
        return maps.flatten(1)

    def split(self, layer: str | None = None) -> tuple[nn.Module, nn.Module]:
        """As of an :class:`Encoder`; ``after(maps)`` gives the flattened regions."""
        seam, end = self._node(self.layer(layer).name), self._node(self.regions.name)
        after = part_between(self.net, self._graph, since=seam, until=end)
        return part_between(self.net, self._graph, until=seam), nn.Sequential(after, nn.Flatten())

    def named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As of an :class:`Encoder`, without those of the layers that were left out."""
        own = self.net.state_dict()
        whole = cnns.build(self.name)[0].state_dict()
        return {k: v for k, v in super().named(tensors).items() if k in own or k not in whole}
