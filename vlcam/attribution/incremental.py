"""Feature maps of an input that a patch covers, recomputed only where the patch changes them.

A small patch changes a small part of each layer's activations (Krypton: Nakandala et al., SIGMOD
2019, in its exact mode). Each layer is computed on the window that the changed part of its input
reaches, cut out of the activations of the uncovered input. The numbers are those of whole forward
passes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from vlcam.adapters.adapter import Adapter, FeatureMaps
from vlcam.attribution.occlusion import Encode, Patch
from vlcam.networks.channels_last import fastest
from vlcam.networks.efficientnet_lite import SameConv2d
from vlcam.networks.tracing import Tracer
from vlcam.utils.untouched import untouched

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.GELU, nn.Identity, nn.BatchNorm2d)
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_Pads = tuple[tuple[int, int], tuple[int, int]]
_NO_PADS = ((0, 0), (0, 0))
_RELUS = (functional.relu, torch.relu, functional.relu6)


class NotIncrementalError(ValueError):
    """It is not known what a patch changes in some layer. The message names it."""


def incremental(adapter: Adapter, pixels: Tensor, patch: Patch) -> tuple[Encode | None, str | None]:
    """A function to the feature maps of a covered input; or None, and why there is none.

    Args:
        pixels: of one image, (1, 3, H, W).
        patch: what covers them.
    """
    encoder = adapter.encoder()
    if encoder is None:
        return None, f"{adapter.name}: what it encodes with is more than one module"
    try:
        with untouched(adapter.module):
            return Incremental(encoder, pixels, patch), None
    except NotIncrementalError as error:
        return None, f"{adapter.name}: {error}"


class Incremental:
    """Feature maps of one input with a patch covered here or there.

    Args:
        before: the CNN up to the explained layer, in evaluation mode: pixels to feature maps.
        pixels: of one image, (1, 3, H, W).
        patch: what covers them.

    Raises:
        NotIncrementalError: it has layers that are not known here.
    """

    def __init__(self, before: nn.Module, pixels: Tensor, patch: Patch) -> None:
        self._graph = fx.GraphModule(before, Tracer().trace(before))
        self._modules = dict(self._graph.named_modules())
        self._pixels, self._patch = fastest(pixels), patch
        with torch.no_grad():
            keep = _Keep(self._graph)
            keep.run(self._pixels)
            self._plain = keep.values
        self([(0, 0)])  # raises at a layer that is not known

    @torch.no_grad()
    def __call__(self, corners: Sequence[tuple[int, int]]) -> FeatureMaps:
        """Feature maps with the patch's first pixel at each of those corners."""
        side = self._patch.size
        tiles = self._pixels.new_full((len(corners), 3, side, side), self._patch.fill)
        where = torch.tensor(corners, device=self._pixels.device)
        values: dict[fx.Node, Any] = {}
        for node in self._graph.graph.nodes:
            if node.op == "placeholder":
                values[node] = _Changed(self._pixels, tiles, where)
            elif node.op == "output":
                return FeatureMaps(values[node.args[0]].whole().contiguous())
            else:
                values[node] = self._step(node, [values.get(a, a) for a in node.args])
        raise AssertionError("a graph without an output")

    def _step(self, node: fx.Node, inputs: Sequence[Any]) -> _Changed:
        plain = self._plain[node]
        if node.op == "call_module":
            module = self._modules[str(node.target)]
            layer = _sliding(module, inputs[0].plain)
            if layer is not None:
                return layer(inputs[0], plain)
            if isinstance(module, nn.Dropout) and not module.training:
                unchanged: _Changed = inputs[0]
                return unchanged
            if isinstance(module, _POINTWISE) and not module.training:
                return _each(module, inputs[0], plain)
        elif node.target in _RELUS or node.target is torch.clone:
            return _each(node.target, inputs[0], plain)
        elif node.target in _ADDITIONS and isinstance(inputs[1], _Changed):
            return _added(inputs[0], inputs[1], plain)
        what = self._modules[str(node.target)] if node.op == "call_module" else node.target
        name = type(what).__name__ if isinstance(what, nn.Module) else str(what)
        raise NotIncrementalError(f"{node.name} ({name}): what a patch changes in it is not known")


class _Keep(fx.Interpreter):
    """Runs a network and keeps each node's value, before anything changes it in place."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.values[n] = value.clone()
        return value


@dataclass(frozen=True)
class _Changed:
    """An activation and how N patches change it.

    Attributes:
        plain: (1, C, H, W), of the uncovered input.
        tiles: (N, C, h, w), what takes its place; values beyond the edges of ``plain`` are not
            used.
        corners: (N, 2), row and column of each tile's first cell; may lie beyond the edges.
    """

    plain: Tensor
    tiles: Tensor
    corners: Tensor

    def windows(self, corners: Tensor, size: tuple[int, int], outside: float) -> Tensor:
        """The changed activation cut out at those corners, (N, C, *size)."""
        rows, in_rows, tile_rows, of_tile_rows = self._axis(corners[:, 0], size[0], 0)
        columns, in_columns, tile_columns, of_tile_columns = self._axis(corners[:, 1], size[1], 1)
        # Cells are gathered with all their channels, which lie side by side (on a CPU).
        plain, tiles = (x.permute(0, 2, 3, 1) for x in (self.plain, self.tiles))
        found = plain[0, rows[:, :, None], columns[:, None, :]]
        which = torch.arange(len(corners), device=corners.device)[:, None, None]
        changed = (of_tile_rows[:, :, None] & of_tile_columns[:, None, :])[..., None]
        inside = (in_rows[:, :, None] & in_columns[:, None, :])[..., None]
        of_tiles = tiles[which, tile_rows[:, :, None], tile_columns[:, None, :]]
        found = torch.where(changed, of_tiles, found)
        return torch.where(inside, found, outside).permute(0, 3, 1, 2)

    def _axis(self, starts: Tensor, length: int, axis: int) -> tuple[Tensor, ...]:
        """Places (N, length) in the plain activation and whether they are inside it, and the same
        of the tile."""
        places = starts[:, None] + torch.arange(length, device=starts.device)
        side, tile = self.plain.shape[2 + axis], self.tiles.shape[2 + axis]
        in_tile = places - self.corners[:, axis, None]
        return (
            places.clamp(0, side - 1),
            (places >= 0) & (places < side),
            in_tile.clamp(0, tile - 1),
            (in_tile >= 0) & (in_tile < tile),
        )

    @property
    def everywhere(self) -> bool:
        """Whether the tiles are the whole activations."""
        return self.tiles.shape[2:] == self.plain.shape[2:] and not self.corners.any()

    def whole(self) -> Tensor:
        """The changed activations, (N, C, H, W)."""
        if self.everywhere:
            return self.tiles
        height, width = self.plain.shape[2:]
        whole = self.plain.expand(len(self.tiles), -1, -1, -1).clone()
        for row, (y, x) in enumerate(self.corners.tolist()):
            bottom, right = y + self.tiles.shape[2], x + self.tiles.shape[3]
            top, left = max(y, 0), max(x, 0)
            tile = self.tiles[row, :, top - y : height - y, left - x : width - x]
            whole[row, :, top : min(bottom, height), left : min(right, width)] = tile
        return whole


@dataclass(frozen=True)
class _Sliding:
    """A layer that slides over its input: a convolution or a pooling.

    Attributes:
        kernel, stride, dilation: by axis, (y, x).
        padding: (before, after) by axis.
        run: the layer without its padding.
        outside: the value that it pads with.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: _Pads
    dilation: tuple[int, int]
    run: Callable[[Tensor], Tensor]
    outside: float

    def __call__(self, x: _Changed, plain: Tensor) -> _Changed:
        if self.kernel == self.stride == (1, 1) and self.padding == _NO_PADS:
            return _Changed(plain, self.run(x.tiles), x.corners)
        starts, counts, lengths = [], [], []
        for axis in (0, 1):
            reach = self.dilation[axis] * (self.kernel[axis] - 1)
            stride, padding = self.stride[axis], self.padding[axis][0]
            corner = x.corners[:, axis]
            # The first output whose window meets the tile, and how many there are at most.
            starts.append(-((reach - padding - corner).div(stride, rounding_mode="floor")))
            count = (x.tiles.shape[2 + axis] - 1 + reach) // stride + 1
            counts.append(count)
            lengths.append((count - 1) * stride + reach + 1)
        if counts[0] * counts[1] >= plain.shape[2] * plain.shape[3]:
            vertical, horizontal = self.padding
            padded = functional.pad(x.whole(), (*horizontal, *vertical), value=self.outside)
            return _Changed(plain, self.run(padded), torch.zeros_like(x.corners))
        first = torch.stack(starts, 1)
        corners = first * first.new_tensor(self.stride) - first.new_tensor(
            [before for before, _ in self.padding]
        )
        windows = x.windows(corners, (lengths[0], lengths[1]), self.outside)
        return _Changed(plain, self.run(windows), first)


def _each(function: Any, x: _Changed, plain: Tensor) -> _Changed:
    # A copy, as the function may work in place and others may need what it was given.
    return _Changed(plain, function(x.tiles.clone()), x.corners)


def _added(a: _Changed, b: _Changed, plain: Tensor) -> _Changed:
    """A sum of two, where either is changed."""
    if a.everywhere or b.everywhere:
        return _Changed(plain, a.whole() + b.whole(), torch.zeros_like(a.corners))
    corners = torch.minimum(a.corners, b.corners)
    ends = [x.corners + x.corners.new_tensor(x.tiles.shape[2:]) for x in (a, b)]
    rows, columns = (torch.maximum(*ends) - corners).amax(0).tolist()
    tiles = a.windows(corners, (rows, columns), 0.0) + b.windows(corners, (rows, columns), 0.0)
    return _Changed(plain, tiles, corners)


def _sliding(module: nn.Module, plain: Tensor) -> _Sliding | None:
    """A convolution or pooling; None for anything else (a subclass may compute what it likes).

    Args:
        plain: the layer's input, (1, C, H, W).
    """
    padding = _padding(module, plain)
    if isinstance(module, nn.Conv2d) and padding is not None:

        def convolve(x: Tensor) -> Tensor:
            return functional.conv2d(
                x, module.weight, module.bias, module.stride, 0, module.dilation, module.groups
            )

        kernel, stride = _pair(module.kernel_size), _pair(module.stride)
        return _Sliding(kernel, stride, padding, _pair(module.dilation), convolve, 0.0)
    if type(module) is nn.MaxPool2d and not module.return_indices:
        kernel, stride = _pair(module.kernel_size), _pair(module.stride)
        dilation = _pair(module.dilation)

        def pool(x: Tensor) -> Tensor:
            return functional.max_pool2d(x, kernel, stride, 0, dilation)

        return _Sliding(kernel, stride, _around(module.padding), dilation, pool, -torch.inf)
    return None


def _padding(module: nn.Module, plain: Tensor) -> _Pads | None:
    """A convolution's, of zeros; None: it is not known."""
    if type(module) is SameConv2d:
        return module.pads(plain.shape[2], plain.shape[3])
    if type(module) is nn.Conv2d and module.padding_mode == "zeros":
        return None if isinstance(module.padding, str) else _around(module.padding)
    return None


def _around(padding: Any) -> _Pads:
    """The same padding before and after."""
    y, x = _pair(padding)
    return (y, y), (x, x)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
