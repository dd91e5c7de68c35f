"""A network cut in two at a layer, on its ``torch.fx`` graph.

Both halves are ordinary modules that share the network's own weights: no hooks, nothing to undo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn import functional

from vlcam.networks.tracing import Tracer
from vlcam.utils.messages.errors import one_line
from vlcam.utils.untouched import untouched


@dataclass(frozen=True)
class Layer:
    """A layer at which a network can be cut.

    Attributes:
        name: as the network has it.
        shape: (K, u, v) of its feature maps.
    """

    name: str
    shape: tuple[int, int, int]


def trace_layers(net: nn.Module) -> tuple[fx.Graph, dict[str, list[fx.Node]]]:
    """The network's graph, and by the name of each layer the output nodes of its calls.

    A layer is a module, or an operation that the network's own ``forward`` applies between modules
    (DenseNet's last ReLU), which goes by the name of its node.
    """
    tracer = _LayerTracer()
    with untouched(net):  # in eval mode: a flag given to a function is fixed in the graph
        graph = tracer.trace(net)
    for node in graph.nodes:
        if node.op in ("call_function", "call_method") and not node.meta.get("nn_module_stack"):
            tracer.calls.setdefault(node.name, []).append(node)
    return graph, tracer.calls


def cuttable_layers(
    net: nn.Module,
    graph: fx.Graph,
    calls: dict[str, list[fx.Node]],
    *,
    size: tuple[int, int],
    name: str,
) -> tuple[list[Layer], int]:
    """The layers with feature maps that every path from the pixels to the feature goes through; and
    F of the image feature (B, F).

    Args:
        graph, calls: as of :func:`trace_layers`.
        size: (height, width) of the input.
        name: of the network, for errors.

    Raises:
        ValueError: the network does not take such an input, or has no such layers.
    """
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
    shapes, feature = _shapes(net, graph, cuts, size=size, name=name)
    layers = [
        Layer(path, (shape[1], shape[2], shape[3]))
        for node, shape in zip(cuts, shapes, strict=True)
        if len(shape) == 4
        for path in sorted(seams[node], key=len)
    ]
    if not layers or len(feature) != 2:
        raise ValueError(f"CNN {name}: it has no feature maps (K, u, v) behind which to explain")
    return layers, feature[1]


def layer_before_pooling(
    net: nn.Module, graph: fx.Graph, calls: dict[str, list[fx.Node]], layers: list[Layer]
) -> str:
    """The last layer before the final pooling, by its outermost name (but not that of a module that
    is all of the network up to there)."""
    pooling = (nn.MaxPool2d, nn.AvgPool2d, nn.Dropout, nn.Identity)
    first = next(node for node in graph.nodes if node.op == "call_module")
    trunk = set(first.meta["nn_module_stack"])
    ends: list[Layer] = []
    for layer in layers:
        node = calls[layer.name][0]
        module = net.get_submodule(str(node.target)) if node.op == "call_module" else None
        if node.target is functional.adaptive_avg_pool2d or type(module) is nn.AdaptiveAvgPool2d:
            break  # torchvision's ConvNeXt has feature maps of one cell behind it
        if ends and layer.shape[1:] == (1, 1) and max(ends[-1].shape[1:]) > 2:
            break  # pooled in another way, or by a kernel as large as the maps (timm's VGG)
        pools = isinstance(module, pooling)
        if isinstance(module, nn.Identity):  # at the end of a block, which is named by it
            pools = layer.name == node.target
        named = bool(ends) and calls[ends[-1].name][0] is node  # its outermost name comes first
        if not pools and layer.name not in trunk and not named:
            ends.append(layer)
    return ends[-1].name


def part_between(
    net: nn.Module,
    graph: fx.Graph,
    *,
    until: fx.Node | None = None,
    since: fx.Node | None = None,
) -> nn.Module:
    """The network up to the node ``until``, from the pixels; or from the value of the node
    ``since`` on, to the feature."""
    part = fx.Graph()
    copies: dict[Any, fx.Node] = {}
    if since is not None:
        # A copy, so that no in-place operation behind the seam writes into the caller's maps.
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


def mean_over_cells(maps: Tensor) -> Tensor:
    """The mean (B, K, 1, 1) of maps (B, K, u, v), bit for bit that of ``adaptive_avg_pool2d``; its
    gradient is expanded, not written out cell by cell."""
    kind = torch.promote_types(maps.dtype, torch.float32)  # sums in float16 would overflow
    total = maps.sum((2, 3), keepdim=True, dtype=kind)
    return (total / (maps.shape[2] * maps.shape[3])).to(maps.dtype)


class _LayerTracer(Tracer):
    """Records the graph nodes that each module's calls returned, by the module's path."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[fx.Node]] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Traced through, stochastic depth would fix its present train/eval flag in the graph.
        drops = type(m).__name__.endswith(("StochasticDepth", "DropPath"))
        return drops or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_module(m, forward, args, kwargs)
        if isinstance(result, fx.Proxy):  # else it is another thread's
            self.calls.setdefault(self.path_of_module(m), []).append(result.node)
        return result


def _shapes(
    net: nn.Module, graph: fx.Graph, nodes: list[fx.Node], *, size: tuple[int, int], name: str
) -> tuple[list[torch.Size], torch.Size]:
    """Shapes of those nodes' values and of the output for any number of images; found without
    computing anything."""
    probe = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    output = probe.graph_copy(graph, copies)
    probe.output(([copies[node] for node in nodes], output))
    run = fx.GraphModule(net, probe)
    try:
        with untouched(net):
            values, feature = _of_no_image(run, size)
    except RuntimeError as error:
        raise ValueError(
            f"CNN {name} does not take {size[0]} x {size[1]} pixels: {one_line(error)}"
        ) from None
    return [value.shape for value in values], feature.shape


@torch.no_grad()
def _of_no_image(run: nn.Module, size: tuple[int, int]) -> Any:
    """What a network makes of no image of that size."""
    weights = next((p for p in run.parameters() if p.is_floating_point()), torch.empty(0))
    try:
        return run(weights.new_empty(0, 3, *size))
    except RuntimeError:
        # It reshapes by what is left, which of nothing could be anything. So one image on the meta
        # device; not at once, as that imports PyTorch's compiler, which takes seconds.
        tensors = {key: value.to("meta") for key, value in run.state_dict().items()}
        pixels = torch.empty(1, 3, *size, device="meta")
        return functional_call(run, tensors, (pixels,), strict=False)


def _is_global_mean(net: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = net.get_submodule(str(node.target))
        return type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1))
    return node.target is functional.adaptive_avg_pool2d and node.args[1:] in ((1,), ((1, 1),))
