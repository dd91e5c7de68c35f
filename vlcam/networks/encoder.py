"""CNN encoders by name, and how to cut one in two at any layer.

An :class:`Encoder` turns pixels into one image feature. It wraps a network of torchvision or
transformers without its classifier (or :class:`SmallCNN`), keeps their names for weights and
layers, and can be split at a layer into ``before(pixels) -> feature maps`` and
``after(feature maps) -> feature``.

The cut is made on the network's ``torch.fx`` graph, so both halves are ordinary modules that share
the encoder's own weights: no hooks, nothing to undo.
"""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional
from torchvision.models import get_model, list_models
from torchvision.ops import StochasticDepth

from vlcam.networks import transformers_cnn
from vlcam.networks.tracing import Tracer

# Where the classifier of a torchvision network sits besides its last linear layer: the auxiliary
# classifiers of GoogLeNet and Inception v3, which published weights contain and we do not build.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")

WEIGHTS = "model.safetensors"
"""The file of a model of ours that holds its weights, in the model's folder."""

OWN = "encoder.net."
"""How the names of the CNN's weights begin there."""


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


class SmallCNN(nn.Module):
    """A small residual network to train from scratch: 1.4 M weights, 0.37 GMAC at 224 x 224.

    Plain ReLUs throughout (Guided Backpropagation needs them); the last map, ``stage4``, has
    stride 16 (14 x 14 cells at 224) and a receptive field of 153 pixels; the feature is its mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2, bias=False), nn.BatchNorm2d(24), nn.ReLU()
        )
        self.stage1 = ResidualBlock(24, 32, 2)
        self.stage2 = ResidualBlock(32, 64, 2)
        self.stage3 = ResidualBlock(64, 128, 2)
        # The last block looks at single cells: one whose receptive field is twice as wide as what
        # is to be found answers beside it as well as on it.
        self.stage4 = nn.Sequential(ResidualBlock(128, 256, 1), ResidualBlock(256, 256, 1, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(pixels)))))
        return self.pool(maps).flatten(1)


def cnn_names() -> list[str]:
    """Names :class:`Encoder` takes: ours, then torchvision's image classifiers."""
    return ["small", *sorted(list_models(module=torchvision.models))]


@dataclass(frozen=True)
class Layer:
    """A layer the encoder can be cut at: its name and the (K, u, v) of its feature maps."""

    name: str
    shape: tuple[int, int, int]


class Encoder(nn.Module):
    """A CNN that turns pixels into one image feature, and can be split at any layer.

    The feature is what the network's own classifier would see, the input of its last linear layer:
    fc7 for VGG and AlexNet, the mean of the last map for networks with global average pooling.

    Args:
        name: ``small``, the torchvision name of a network (``vgg16``, ``resnet50``, ...), or one of
            transformers as :mod:`vlcam.networks.transformers_cnn` names it; built with random
            weights, see :meth:`load_weights`.
        size: (height, width) of the input, from which the shapes of feature maps follow.

    Attributes:
        layers: every layer the network can be cut at, in order of execution.
        default_layer: the last of them that comes before the final pooling: the last rectified
            convolutional feature map (``features.29`` of VGG-16, ``layer4`` of ResNets).
        feature_size: F of the image feature (B, F).

    Raises ValueError for a name that is not known, or a network without feature maps.
    """

    def __init__(self, name: str, size: tuple[int, int] = (224, 224)) -> None:
        super().__init__()
        self.name = name
        self.size = size
        self.net, self._head = _build(name)
        self._graph, calls = _trace(self.net)
        self.layers, self.feature_size = _layers(self.net, self._graph, calls, size, name)
        self.default_layer = _before_pooling(self.net, self._graph, calls, self.layers)
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
        near = difflib.get_close_matches(name, names, n=5, cutoff=0.3) or names[-5:]
        why = "runs more than once or lies on a side path" if name in self._calls else "unknown"
        raise ValueError(f"layer {name!r} of {self.name}: {why}; near: {', '.join(near)}")

    def distinct_layers(self) -> list[Layer]:
        """:attr:`layers`, one of those that are the same under several names: the outermost."""
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
            _part(self.net, self._graph, until=node),
            _part(self.net, self._graph, since=node),
        )

    def _node(self, layer: str) -> fx.Node:
        """The graph's node that is that layer's output."""
        (name,) = self._calls[layer]
        return next(node for node in self._graph.nodes if node.name == name)

    def load_weights(self, path: Path) -> None:
        """Load a state dict of this network in torchvision's layout; its classifier is ignored.

        ``path`` is a safetensors file or a ``torch.save`` file of plain tensors (never a pickle of
        anything else), the folder of a model of ours, whose CNN is taken, or of a CNN of
        transformers; half precision is cast to float32. Raises ValueError where the file cannot be
        read, or does not hold exactly this network.
        """
        load_exactly(self.net, self._weights(path), f"{path}: not the weights of {self.name}")

    def _weights(self, path: Path) -> dict[str, Tensor]:
        if transformers_cnn.is_one(path):
            state = transformers_cnn.weights(path)
        elif path.is_dir():
            whole = read_state_dict(path / WEIGHTS)
            state = {k.removeprefix(OWN): v for k, v in whole.items() if k.startswith(OWN)}
        else:
            state = read_state_dict(path)
        return {
            key: value.float() if value.is_floating_point() else value
            for key, value in state.items()
            if not key.startswith((*_AUXILIARY, f"{self._head}."))
        }


class RegionEncoder(Encoder):
    """A CNN whose image feature is a layer's feature maps (B, K, u, v), flattened: (B, K u v), for
    models that attend to the regions of an image. What comes behind that layer is left out.

    Args:
        name, size: as of an :class:`Encoder`.
        regions: the layer's name; None: the last feature maps, which are the default layer's, or of
            the max pooling right behind it (``features.30`` of VGG-16, ``layer4`` of ResNets).

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
        # Of a module that was traced through only its tensors are there.
        kept = {*before.modules(), *before.parameters(), *before.buffers()}
        for path, module in list(self.net.named_modules()):
            own = {module, *module.parameters(), *module.buffers()}
            if not own & kept and next(module.children(), None) is None:
                self.net.set_submodule(path, nn.Identity())

    def _last_maps(self) -> str:
        names = [layer.name for layer in self.layers]
        behind = names[names.index(self.default_layer) + 1 :]
        modules = dict(self.net.named_modules())
        pooling = (n for n in behind if isinstance(modules.get(n), nn.MaxPool2d))
        return next(pooling, self.default_layer)

    def forward(self, pixels: Tensor) -> Tensor:
        seen = _part(self.net, self._graph, until=self._node(self.regions.name))
        maps: Tensor = seen(pixels)
        return maps.flatten(1)

    def split(self, layer: str | None = None) -> tuple[nn.Module, nn.Module]:
        """As of an :class:`Encoder`; ``after(maps)`` gives the flattened regions."""
        seam, end = self._node(self.layer(layer).name), self._node(self.regions.name)
        after = _part(self.net, self._graph, since=seam, until=end)
        return _part(self.net, self._graph, until=seam), nn.Sequential(after, nn.Flatten())

    def load_weights(self, path: Path) -> None:
        """As of an :class:`Encoder`; weights of what was left out are ignored."""
        own = self.net.state_dict()
        whole = _build(self.name)[0].state_dict()
        state = {k: v for k, v in self._weights(path).items() if k in own or k not in whole}
        load_exactly(self.net, state, f"{path}: not the weights of {self.name}")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a safetensors or ``weights_only`` torch file; else ValueError."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what we refuse, or what does no harm
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch stumble over
        raise ValueError(f"{path}: not a readable weights file ({unreadable(error)})") from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{path}: expected a state dict (names to tensors)")
    return state


def unreadable(error: Exception) -> str:
    """Why torch or safetensors could not read a file, in one line."""
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused:  # torch's own words advise to trust the file
        return f"it asks for {refused[1]}; only tensors are read"
    if isinstance(error, SafetensorError | OSError | RuntimeError | ValueError):
        return " ".join(str(error).split())[:200]
    return "damaged, or of another kind"


def load_exactly(module: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """``load_state_dict`` with one-line errors that begin with ``what``."""
    own = module.state_dict()
    # Torch files older than 1.0 lack these counters, which only cumulative averages use.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    for problem, keys in (("missing", missing), ("unexpected", extra)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ValueError(f"{what}: {problem} {', '.join(keys[:3])}{more}")
    for key, value in state.items():
        if value.shape != own[key].shape:
            shapes = f"{tuple(value.shape)}, expected {tuple(own[key].shape)}"
            raise ValueError(f"{what}: {key} has shape {shapes}")
        if value.is_floating_point() != own[key].is_floating_point():
            raise ValueError(f"{what}: {key} holds {value.dtype}, expected {own[key].dtype}")
        if value.layout == torch.strided and not value.isfinite().all():
            raise ValueError(f"{what}: {key} holds numbers that are not finite")
    try:
        module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # sparse tensors, and the like
        raise ValueError(f"{what}: {' '.join(str(error).split())}") from error


def matrix(state: Mapping[str, Tensor], name: str, what: str = "") -> tuple[int, int]:
    """Rows and columns of a matrix of a state dict; ValueError (begins with ``what``) if none."""
    if name not in state or state[name].ndim != 2:
        raise ValueError(f"{what}: no matrix {name}" if what else f"no matrix {name}")
    rows, columns = state[name].shape
    return rows, columns


def _build(name: str) -> tuple[nn.Module, str]:
    """The network with its last linear layer replaced by identity, and that layer's name."""
    if name == "small":
        return SmallCNN(), ""
    if isinstance(name, str) and name.startswith(transformers_cnn.PREFIX):
        return transformers_cnn.build(name), ""
    if name not in cnn_names():
        near = difflib.get_close_matches(str(name), cnn_names(), n=5, cutoff=0.3)
        raise ValueError(f"unknown CNN {name!r}; near: {', '.join(near) or 'resnet50, vgg16'}")
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "transform_input": False, "init_weights": True}
    net = get_model(name, weights=None, **options)
    linears = [path for path, module in net.named_modules() if type(module) is nn.Linear]
    if not linears:
        raise ValueError(f"CNN {name}: it has no linear classifier whose input to take")
    net.set_submodule(linears[-1], nn.Identity())
    return net, linears[-1]


class _Tracer(Tracer):
    """Records which graph nodes each module's calls returned, by the module's path."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[fx.Node]] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Traced through, stochastic depth would freeze today's train/eval flag into the graph.
        drops = isinstance(m, StochasticDepth) or type(m).__name__.endswith("DropPath")
        return drops or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_module(m, forward, args, kwargs)
        if isinstance(result, fx.Proxy):  # else it is another thread's
            self.calls.setdefault(self.path_of_module(m), []).append(result.node)
        return result


def _trace(net: nn.Module) -> tuple[fx.Graph, dict[str, list[fx.Node]]]:
    """The network's graph, and the output nodes of its layers.

    A layer is a module, or an operation the network's own ``forward`` applies between modules
    (DenseNet's last ReLU), called by the name of its node.
    """
    tracer = _Tracer()
    graph = tracer.trace(net)
    for node in graph.nodes:
        if node.op in ("call_function", "call_method") and not node.meta.get("nn_module_stack"):
            tracer.calls.setdefault(node.name, []).append(node)
    return graph, tracer.calls


def _layers(
    net: nn.Module,
    graph: fx.Graph,
    calls: dict[str, list[fx.Node]],
    size: tuple[int, int],
    name: str,
) -> tuple[list[Layer], int]:
    """Layers all of the network's paths go through that hold feature maps; the feature's size."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    seams: dict[fx.Node, list[str]] = {}
    for path, nodes in calls.items():
        if len(nodes) == 1 and path:
            seams.setdefault(nodes[0], []).append(path)
    cuts: list[fx.Node] = []
    farthest = 0  # the last node that anything before this one feeds
    for node in graph.nodes:
        if node in seams and farthest <= order[node]:
            cuts.append(node)
        if node.op != "get_attr":
            farthest = max([farthest, *(order[user] for user in node.users)])
    shapes, feature = _shapes(net, graph, cuts, size, name)
    layers = [
        Layer(path, (shape[1], shape[2], shape[3]))
        for node, shape in zip(cuts, shapes, strict=True)
        if len(shape) == 4
        for path in sorted(seams[node], key=len)
    ]
    if not layers or len(feature) != 2:
        raise ValueError(f"CNN {name}: it has no feature maps (K, u, v) behind which to explain")
    return layers, feature[1]


def _shapes(
    net: nn.Module, graph: fx.Graph, nodes: list[fx.Node], size: tuple[int, int], name: str
) -> tuple[list[torch.Size], torch.Size]:
    """Shapes of those nodes and of the output for one input; on the meta device, so no work."""
    probe = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = probe.graph_copy(graph, copies)
    probe.output(([copies[node] for node in nodes], output))
    tensors = {key: value.to("meta") for key, value in net.state_dict().items()}
    pixels = torch.empty(1, 3, *size, device="meta")
    was_training = net.training
    try:
        values, feature = functional_call(
            fx.GraphModule(net.eval(), probe), tensors, (pixels,), strict=False
        )
    except RuntimeError as error:
        raise ValueError(
            f"CNN {name} does not take {size[0]} x {size[1]} pixels: {error}"
        ) from None
    finally:
        net.train(was_training)
    return [value.shape for value in values], feature.shape


def _before_pooling(
    net: nn.Module, graph: fx.Graph, calls: dict[str, list[fx.Node]], layers: list[Layer]
) -> str:
    """The last layer that is no pooling, by the outermost name that is not the whole trunk's."""
    pooling = (nn.MaxPool2d, nn.AvgPool2d, nn.Dropout, nn.Identity)
    first = next(node for node in graph.nodes if node.op == "call_module")
    trunk = set(first.meta["nn_module_stack"])
    ends: list[str] = []
    for layer in layers:
        node = calls[layer.name][0]
        module = net.get_submodule(str(node.target)) if node.op == "call_module" else None
        if node.target is functional.adaptive_avg_pool2d or type(module) is nn.AdaptiveAvgPool2d:
            break  # ConvNeXt of torchvision has feature maps of one cell behind it
        pools = isinstance(module, pooling)
        named = bool(ends) and calls[ends[-1]][0] is node  # names of one node: outermost first
        if not pools and layer.name not in trunk and not named:
            ends.append(layer.name)
    return ends[-1]


def _part(
    net: nn.Module,
    graph: fx.Graph,
    *,
    until: fx.Node | None = None,
    since: fx.Node | None = None,
) -> nn.Module:
    """The network from the pixels to one node, or from that node's value to the feature."""
    part = fx.Graph()
    copies: dict[Any, fx.Node] = {}
    if since is not None:
        # A copy, lest an in-place operation behind the seam writes into the caller's maps.
        copies[since] = part.call_function(torch.clone, (part.placeholder("maps"),))
    inside = since is None
    for node in graph.nodes:
        if node.op == "output":
            part.output(copies[node.args[0]])
        elif inside and _is_global_mean(net, node):
            copies[node] = part.call_function(mean_over_cells, (copies[node.args[0]],))
        elif (inside or node.op == "get_attr") and node not in copies:
            copies[node] = part.node_copy(node, lambda n: copies[n])
        if node is since:
            inside = True
        if node is until:
            part.output(copies[node])
            break
    return fx.GraphModule(net, part)


def _is_global_mean(net: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = net.get_submodule(str(node.target))
        return type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1))
    return node.target is functional.adaptive_avg_pool2d and node.args[1:] in ((1,), ((1, 1),))


def mean_over_cells(maps: Tensor) -> Tensor:
    """The mean (B, K, 1, 1) of maps (B, K, u, v), bit by bit that of ``adaptive_avg_pool2d``, with
    a gradient that is not written out cell by cell."""
    kind = torch.promote_types(maps.dtype, torch.float32)  # of sums: those of float16 overflow
    total = maps.sum((2, 3), keepdim=True, dtype=kind)
    return (total / (maps.shape[2] * maps.shape[3])).to(maps.dtype)
