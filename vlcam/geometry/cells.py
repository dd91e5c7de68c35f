"""Where the cells of a CNN's feature maps lie in its input.

:func:`derive` follows the pixels through the network. Of each operation it is known where in its
input the cells of its output are centred (for a convolution of kernel k, stride s, padding p and
dilation d, cell i lies at ``d (k - 1) / 2 - p + s i``; :mod:`vlcam.geometry.torch_functions`), and
these affine maps compose to the offset and stride of the explained layer. It is exact, reads only
the shapes of the weights, and computes no values: the network runs on torch's meta device, under a
mode that sees every call of a torch function in whatever form (module, functional, method, in
place). Nothing is guessed: behind an operation that is not known the position is lost, and if the
layer's output needs it, that is an error.

:func:`measure` knows nothing of layers. It finds the pixels to which a cell responds: slow and
approximate, to check the derivation with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vlcam.geometry.grid import Grid
from vlcam.geometry.torch_functions import (
    CONVERSIONS,
    LIKE,
    MOVES,
    NEW,
    REDUCTIONS,
    SAME,
    SHAPES,
    VIEWS,
    Moves,
    is_pointwise,
    name_of,
    writes_in_place,
)
from vlcam.utils.torch_calls import TorchCalls

Run = Callable[[Tensor], Tensor]
"""From input pixels (N, C, H, W) to feature maps (N, K, u, v)."""

_BASE = 2**40
"""Where a probe of views starts in its storage, to tell a view from a copy (which starts at 0)."""


class NoGridError(ValueError):
    """The cells of a layer have no known place in the input."""


def derive(run: Run, pixels: Tensor) -> Grid:
    """Where the cells of ``run(pixels)`` lie in the pixels, derived from the layers' parameters.

    Neither the model behind ``run`` nor torch's random state is changed, in training mode or in
    evaluation: weights and statistics enter only as empty tensors of their shapes.

    Where branches whose cells lie elsewhere meet (in a sum or a concatenation, as of ResNet-D's
    shortcuts) the mean of their places is taken. What is one value for a whole axis (the factors of
    squeeze and excitation) moves nothing. Resizing by a ratio that is not whole (adaptive pooling
    of 8 cells to 7, nearest interpolation) leaves the cells unevenly spaced: a straight line
    through them is taken, which is off by less than one cell of what was resized
    (:meth:`vlcam.geometry.grid.Grid.pooled` is exact).

    Args:
        run: from input pixels (N, C, H, W) to the explained layer's feature maps (N, K, u, v).
        pixels: an input; only its shape (but for N) and dtype are used.

    Raises:
        NoGridError: the layer's output is not (N, K, u, v), or a position was lost before it:
            flattened, pooled over the whole axis, or changed by an operation that is not known. The
            message names the operation.
    """
    # Two images: batch normalisation in training mode may refuse a batch of one.
    blank = torch.empty((2, *pixels.shape[1:]), dtype=pixels.dtype, device="meta")
    follow = _Follow(blank)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), follow:
        maps = run(blank)
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        what = tuple(maps.shape) if isinstance(maps, Tensor) else f"a {type(maps).__name__}"
        raise NoGridError(f"the layer's output must be feature maps (N, K, u, v), not {what}")
    places = follow.places(maps)
    if places is None:
        raise NoGridError("the layer's output does not depend on the pixels")
    y, x = places
    for place in places:
        if isinstance(place, _Gone):
            raise NoGridError(
                f"the cells of the layer's output {tuple(maps.shape)} have no known place in the "
                f"input: it was {'pooled' if place.pooled else 'lost'} in {place.by}"
            )
    assert isinstance(y, _Axis) and isinstance(x, _Axis)
    if (y.dim, x.dim) != (-2, -1):
        raise NoGridError(
            f"rows and columns are dimensions {y.dim} and {x.dim} of the layer's output "
            f"{tuple(maps.shape)}; they must be the last two, (N, K, u, v)"
        )
    return Grid((y.size, x.size), (y.offset, x.offset), (y.stride, x.stride))


def measure(
    run: Run, pixels: Tensor, cells: Sequence[tuple[int, int]], *, rounds: int = 2, seed: int = 0
) -> Tensor:
    """Where cells lie in the pixels, measured: the centre of the pixels to which each one responds.

    A cell's response to a pixel is its gradient with respect to that pixel; one backward pass gives
    those to all pixels. The centre is that of the squared responses, summed over random inputs and
    random mixtures of the channels. The cell lies there, provided that the weights favour no side
    and the input's border cuts off nothing of the cell's receptive field.

    Args:
        run: as of :func:`derive`; its model must be in evaluation mode.
        pixels: (N, C, H, W), an input; only its shape (but for N), dtype and device are used.
        cells: (row, column) of each cell to measure.
        rounds: random inputs for each cell.
        seed: of these inputs; torch's own random state is left alone.

    Returns:
        (cells, 2) float64 on the CPU: input pixels (y, x).

    Raises:
        ValueError: a cell responds to no pixel, or its response is not finite.
    """
    random = torch.Generator().manual_seed(seed)
    rows, columns = (list(axis) for axis in zip(*cells, strict=True))
    answers = torch.zeros(len(cells), *pixels.shape[-2:], dtype=torch.float64)
    for _ in range(rounds):
        inputs = torch.randn(len(cells), *pixels.shape[1:], generator=random).to(pixels)
        with torch.enable_grad():
            maps = run(inputs.requires_grad_())
            values = maps[list(range(len(cells))), :, rows, columns]
            mixture = torch.randn(values.shape, generator=random).to(values)
            (gradient,) = torch.autograd.grad((values * mixture).sum(), inputs)
        answers += gradient.cpu().double().square().sum(1)
    total = answers.sum((1, 2), keepdim=True)
    for cell, answer in zip(cells, total.flatten().tolist(), strict=True):
        if not 0 < answer < float("inf"):
            raise ValueError(
                f"cell {cell} has no place to measure: its answer to pixels is {answer}"
            )
    weights = answers / total
    y = weights.sum(2) @ torch.arange(weights.shape[1], dtype=torch.float64)
    x = weights.sum(1) @ torch.arange(weights.shape[2], dtype=torch.float64)
    return torch.stack([y, x], 1)


@dataclass(frozen=True)
class _Axis:
    """Index k of a tensor's dimension ``dim`` (-1 the last) lies at ``offset + stride * k``, in
    input pixels."""

    dim: int
    size: int
    offset: float
    stride: float

    def moved(self, start: float, step: float, dim: int, size: int) -> _Axis:
        """The axis of a tensor whose index k lies on index ``start + step * k`` of this one."""
        return _Axis(dim, size, self.offset + self.stride * start, self.stride * step)


@dataclass(frozen=True)
class _Gone:
    """No dimension of the tensor follows the axis any more.

    Attributes:
        by: the operation since which.
        pooled: the whole axis became one value there; what is computed from it is the same in all
            cells, and moves nothing that it is added to or multiplied with.
    """

    by: str
    pooled: bool = False


_Place = _Axis | _Gone
_Places = tuple[_Place, _Place]  # of the input's y and x


class _Follow(TorchCalls):
    """Knows the places of each tensor that is computed from the pixels."""

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        height, width = pixels.shape[-2:]
        places = (_Axis(-2, height, 0.0, 1.0), _Axis(-1, width, 0.0, 1.0))
        # The tensors (they hold no data) are kept alive, so that each id stays one tensor's.
        self._known: dict[int, tuple[Tensor, _Places | None]] = {id(pixels): (pixels, places)}

    def places(self, tensor: Tensor) -> _Places | None:
        """Places of a tensor; None for one that does not depend on the pixels."""
        if id(tensor) in self._known:
            return self._known[id(tensor)][1]
        return _lost("code that torch's function modes do not see") if tensor.is_meta else None

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        tensors = _tensors((args, kwargs))
        if any(each.is_meta for each in tensors) or (tensors and writes_in_place(func, kwargs)):
            args, kwargs = _replaced((args, kwargs), self._without_data)
            tensors = _tensors((args, kwargs))
        call = _Call(name_of(func), func, args, kwargs, tensors, [*map(self.places, tensors)])
        try:
            result = call.result()
        except RuntimeError as error:  # a meta tensor has no values to be read
            line = str(error).strip().partition("\n")[0]
            raise NoGridError(f"cannot follow the pixels through {call.name}: {line}") from error
        outputs = _tensors(result)
        for output, places in zip(outputs, _outcome(call, outputs), strict=True):
            self._known[id(output)] = (output, places)
        if call.name == "setitem" and any(call.places) and call.places[0] != call.places[-1]:
            self._known[id(tensors[0])] = (tensors[0], _lost(call.name))
        return result

    def _without_data(self, tensor: Tensor) -> Tensor:
        """What takes the place of a weight or buffer: an empty tensor of its shape."""
        if tensor.is_meta:
            return tensor
        empty = torch.empty_like(tensor, device="meta")
        self._known[id(empty)] = (empty, None)
        return empty


@dataclass(frozen=True)
class _Call:
    """A call of a torch function, with the tensors among its arguments and their places."""

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: list[Tensor]
    places: list[_Places | None]

    def result(self) -> Any:
        """What the function returns; where its shape is known, without running it."""
        if self.tensors and self.tensors[0].is_meta:
            if self.name in SHAPES and (self.name in SAME or not self.in_place):
                shape = SHAPES[self.name](*self.args, **self.kwargs)
                if shape is not None:
                    return self.tensors[0].new_empty(shape)
            if self.name in CONVERSIONS:  # another device would want data
                converted = self.on(torch.empty(0, dtype=self.tensors[0].dtype))
                return torch.empty_like(self.tensors[0], dtype=converted.dtype)
        return self.func(*self.args, **self.kwargs)

    @property
    def in_place(self) -> bool:
        return writes_in_place(self.func, self.kwargs)

    def on(self, probe: Tensor) -> Any:
        """The same call with another first tensor."""
        if self.args:
            return self.func(probe, *self.args[1:], **self.kwargs)
        return self.func(**{**self.kwargs, "input": probe})


def _outcome(call: _Call, outputs: list[Tensor]) -> list[_Places | None]:
    """The places of a call's outputs."""
    name, places = call.name, call.places[:1] if call.name in LIKE else call.places
    if name in NEW or not any(places):
        return [None for _ in outputs]
    meeting = name in ("cat", "concat", "concatenate") or is_pointwise(name)
    if meeting and not (name in REDUCTIONS and len(call.tensors) == 1):
        return [_meeting(call, output) for output in outputs]
    subject = places[0]
    if subject is None or any(places[1:]):
        return [_lost(name) for _ in outputs]
    if name in SAME or name in CONVERSIONS:
        return [subject for _ in outputs]
    if name in MOVES:
        moves = MOVES[name]
        return [_moved(call, o, subject, moves(o, *call.args, **call.kwargs)) for o in outputs]
    if name in VIEWS:
        probe = torch.empty(_BASE + call.tensors[0].numel(), device="meta")[_BASE:]
        probe = probe.view(call.tensors[0].shape)
        return [_viewed(call, subject, probe, view) for view in _tensors(call.on(probe))]
    if name in REDUCTIONS:
        labels = torch.empty([*range(2, 2 + call.tensors[0].ndim)], device="meta")
        return [_reduced(call, subject, labels, kept) for kept in _tensors(call.on(labels))]
    return [_lost(name) for _ in outputs]


def _lost(by: str) -> _Places:
    return _Gone(by), _Gone(by)


def _meeting(call: _Call, output: Tensor) -> _Places:
    """Of tensors that are added, multiplied or concatenated: the mean of their places."""
    joined = None
    if call.name in ("cat", "concat", "concatenate"):
        dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
        joined = dim - output.ndim if dim >= 0 else dim
    y, x = (_met(call, output, axis, joined) for axis in (0, 1))
    return y, x


def _met(call: _Call, output: Tensor, axis: int, joined: int | None) -> _Place:
    """The same, of one axis; ``joined`` is the dimension along which they are concatenated."""
    met = [(t, places[axis]) for t, places in zip(call.tensors, call.places, strict=True) if places]
    gone = [place for _, place in met if isinstance(place, _Gone)]
    axes = [place for _, place in met if isinstance(place, _Axis)]
    if not axes:
        return min(gone, key=lambda place: place.pooled)
    dim = axes[0].dim
    if dim == joined or any(each.dim != dim for each in axes):
        return _Gone(call.name)
    size = output.size(dim)
    for tensor, place in met:
        mixed = isinstance(place, _Gone) and not place.pooled
        if mixed and tensor.ndim >= -dim and tensor.size(dim) == size > 1:
            return place
    full = [each for each in axes if each.size == size]  # the others are one value for all cells
    offset = sum(each.offset for each in full) / len(full)
    stride = sum(each.stride for each in full) / len(full)
    return _Axis(dim, size, offset, stride)


def _reduced(call: _Call, subject: _Places, labels: Tensor, kept: Tensor) -> _Places:
    """Sums, means, maxima over some dimensions.

    Args:
        labels: an input of which no two sizes are equal.
        kept: what the call makes of it.
    """

    def follow(place: _Place) -> _Place:
        if isinstance(place, _Gone):
            return place
        size = labels.size(place.dim)
        if size not in kept.shape:
            return _Gone(call.name, pooled=True)
        return replace(place, dim=kept.shape.index(size) - kept.ndim)

    return follow(subject[0]), follow(subject[1])


def _viewed(call: _Call, subject: _Places, probe: Tensor, view: Tensor) -> _Places:
    """Permutations, slices, reshapes: a dimension is recognised by its step through the memory.

    Args:
        probe: an input at :data:`_BASE` of its storage.
        view: what the call makes of it.
    """
    start = view.storage_offset() - _BASE
    if start < 0:
        return _picked(call, subject)

    def follow(place: _Place) -> _Place:
        if isinstance(place, _Gone):
            return place
        unit = probe.stride(place.dim)
        first = int(start // unit % place.size)
        found = []
        for dim in range(-view.ndim, 0):
            step, rest = divmod(view.stride(dim), unit)
            size = view.size(dim)
            inside = first + step * (size - 1) < place.size
            if rest == 0 and inside and (step == 1 or (size > 1 and step > 1)):
                found.append((dim, step, size))
        found = [each for each in found if each[2] > 1] or found
        if len(found) > 1:
            found = [each for each in found if each[2] == 1 and each[0] == place.dim]
        if not found:
            return _Gone(call.name, pooled=place.size == 1)
        dim, step, size = found[0]
        return place.moved(first, step, dim, size)

    return follow(subject[0]), follow(subject[1])


def _picked(call: _Call, subject: _Places) -> _Places:
    """``x[:, [2, 1, 0]]``: picking indices of one dimension leaves the others where they are."""
    index = call.args[1] if call.name == "getitem" else None
    lists = [i for i, each in enumerate(index or ()) if isinstance(each, list)]
    if not isinstance(index, tuple) or len(lists) != 1:
        return _lost(call.name)
    if any(each != slice(None) for each in index if not isinstance(each, list)):
        return _lost(call.name)
    return _moved(call, call.tensors[0], subject, {lists[0] - call.tensors[0].ndim: None})


def _moved(call: _Call, output: Tensor, subject: _Places, moves: Moves) -> _Places:
    """By an operation of :data:`vlcam.geometry.torch_functions.MOVES`."""

    def follow(place: _Place) -> _Place:
        if isinstance(place, _Gone):
            return place
        move = moves.get(place.dim, (0.0, 1.0))
        size = output.size(place.dim)
        return place.moved(*move, place.dim, size) if move else _Gone(call.name, pooled=size == 1)

    return follow(subject[0]), follow(subject[1])


def _tensors(tree: Any) -> list[Tensor]:
    """The tensors among a function's arguments or results."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, tuple | list):
        return []
    return [tensor for branch in tree for tensor in _tensors(branch)]


def _replaced(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A function's arguments with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: _replaced(branch, change) for key, branch in tree.items()}
    if isinstance(tree, tuple | list):
        kind = list if isinstance(tree, list) else tuple
        return kind(_replaced(branch, change) for branch in tree)
    return tree
