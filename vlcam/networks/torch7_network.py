"""Networks of Lua Torch7 (``nn``, ``cudnn``) from its files, which are read and never run.

The modules in a file become a description (:mod:`vlcam.networks.described_network`) and weights.
The network computes what it would in Torch7's ``evaluate`` mode. There, layers may write their
result over their input; here none does, and a network in which that would change the result (a
branch writes over what another one reads) is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlcam.formats.state_dict import load_exactly
from vlcam.formats.torch7 import LuaObject, LuaTable, class_of, get, items, load_torch7
from vlcam.networks.described_network import DEEPEST, LARGEST, MOST, Description, network
from vlcam.networks.trunk import Trunk
from vlcam.utils.messages.expected import described, described_shape

TORCH7 = "torch7"
"""The name of these networks in configurations, whatever their layers."""

_PACKAGES = ("nn", "cudnn", "fbnn")
_WRAPPERS = ("DataParallelTable", "Decorator", "DontCast", "ShareGradInput")
"""Classes of modules that hold another one, and compute what it does."""


def is_network(path: Path) -> bool:
    """Whether a file holds a chain of layers, by its beginning."""
    if not path.is_file():
        return False
    package, _, name = class_of(path).rpartition(".")
    return package in _PACKAGES and name in ("Sequential", *_WRAPPERS)


def read_trunk(path: Path, size: tuple[int, int]) -> tuple[Trunk, list[Description]]:
    """A classifier up to its last, global pooling, for inputs of (height, width), and the
    description of its layers.

    Layers are named by their numbers in the file, from 1: ``8`` is the eighth of the chain, ``8.3``
    the third layer of a chain that is the eighth.

    Raises:
        ValueError: the file is damaged, or holds no such network; the message names it.
    """
    what = f"{path}: not a network that is read"
    try:
        modules = _up_to_pooling(load_torch7(path))
        reader = _Reader(path.stat().st_size)
        layers = [read.layer for read in reader.layers(modules, "")]
        net = trunk(layers, size)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{what}: {text}") from error
    load_exactly(net.net, reader.state, what)
    return net.eval(), layers


def trunk(layers: Sequence[Description], size: tuple[int, int]) -> Trunk:
    """Described layers as a CNN without weights, for inputs of (height, width).

    Raises:
        ValueError: the layers do not fit each other, or give no feature maps.
    """
    return Trunk(network(layers), size, nested=True).to_empty(device="cpu")


# --- which layers of a file


_LETTERS = {
    "SpatialAveragePooling": "p",
    "View": "v",
    "Reshape": "v",
    "Linear": "l",
    "SoftMax": "s",
    "LogSoftMax": "s",
    "Dropout": "d",
}
"""A letter for each kind of module that a classifier may end with."""

_CLASSIFIER = re.compile("pd*vd*ld*s?$")


def _up_to_pooling(root: Any) -> list[Any]:
    """The modules of a chain, without a global pooling and a linear classifier at its end."""
    chain = _unwrapped(root)
    if not _class(chain).endswith(".Sequential"):
        raise ValueError("it does not hold a chain of layers (nn.Sequential)")
    modules = items(get(chain, "modules"))
    names = [_class(_unwrapped(module)).rpartition(".")[2] for module in modules]
    found = _CLASSIFIER.search("".join(_LETTERS.get(name, "x") for name in names))
    if found is None or not found.start():
        end = ", ".join(name[:40] for name in names[-4:]) or "nothing"
        raise ValueError(f"it ends with {end!r}, not with SpatialAveragePooling, View and Linear")
    return modules[: found.start()]


def _unwrapped(module: Any) -> Any:
    """The module inside wrappers."""
    for _ in range(DEEPEST):
        name = _class(module).rpartition(".")[2]
        if name not in _WRAPPERS:
            return module
        one = get(module, "module")
        held = items(get(module, "modules")) if one is None else [one]
        # A DataParallelTable may hold the same network once more for each GPU.
        if not held or (len(held) > 1 and name != "DataParallelTable"):
            raise ValueError(f"a module of class {_class(module)[:60]!r} holds {len(held)} modules")
        module = held[0]
    raise ValueError("its modules are nested too deep")


def _class(value: Any) -> str:
    """The Torch7 class of a module; "" of anything else."""
    return value.kind if isinstance(value, LuaObject) else ""


# --- modules to descriptions


@dataclass(frozen=True)
class _Read:
    """A layer that was read.

    Attributes:
        layer: its description.
        writes: whether it writes over its input.
        passes: whether its output, or the first of its outputs, is the input itself.
    """

    layer: Description
    writes: bool = False
    passes: bool = False


class _Reader:
    """Reads modules one by one.

    Args:
        bytes_: size of the file. There may be no more weights, so that no file can fill the memory
            by using one tensor again and again.

    Attributes:
        state: the weights, by PyTorch's names.
    """

    def __init__(self, bytes_: int) -> None:
        self.state: dict[str, Tensor] = {}
        self._room, self._count = bytes_, 0

    def read(self, value: Any, place: str) -> _Read:
        """One module; ``place`` is its name: numbers with dots between."""
        self._count += 1
        if self._count > MOST:
            raise ValueError(f"it has more than {MOST} layers")
        if place.count(".") > DEEPEST:
            raise ValueError("its layers are nested too deep")
        value = _unwrapped(value)
        package, _, name = _class(value).rpartition(".")
        if package in _PACKAGES and name in _CONTAINERS:
            return _CONTAINERS[name](_Module(value, place), self)
        if package not in _PACKAGES or name not in _LAYERS:
            known = ", ".join(sorted((*_CONTAINERS, *_LAYERS)))
            what = f"of class {_class(value)[:60]!r}" if _class(value) else "no module"
            raise ValueError(f"layer {place} is {what}; known are {known}")
        module = _Module(value, place)
        read = _LAYERS[name](module)
        for kind, tensor in module.weights.items():
            self._room -= tensor.numel()
            if self._room < 0:
                raise ValueError("its layers have more weights than it has bytes")
            self.state[f"{place}.{kind}"] = tensor
        return read

    def layers(self, modules: Sequence[Any], within: str) -> list[_Read]:
        """The modules of a list; ``within`` is the beginning of their names."""
        return [self.read(module, f"{within}{i}") for i, module in enumerate(modules, 1)]


class _Module:
    """A module's fields, each checked when it is read.

    Attributes:
        place: the module's name.
        weights: those that were kept, by PyTorch's names.

    Raises:
        ValueError: in all methods: the field is not what it should be.
    """

    def __init__(self, value: LuaObject, place: str) -> None:
        self._fields = value.fields
        self.place = place
        self.weights: dict[str, Tensor] = {}
        if not isinstance(value.fields, LuaTable):
            raise self.wrong("has no fields")

    def wrong(self, what: str) -> ValueError:
        """The error that names this module."""
        return ValueError(f"layer {self.place} {what}")

    def get(self, name: str) -> Any:
        return self._fields.get(name)

    def whole(self, name: str, default: int | None = None, least: int = 0) -> int:
        """A whole number, at least ``least``."""
        value = self.get(name)
        value = default if value is None else value
        if type(value) is not int or not least <= value <= LARGEST:
            raise self.wrong(f"has {name} {described(value)}")
        return value

    def pair(self, name: str, default: int | None = None, least: int = 0) -> int | list[int]:
        """The fields ``name`` + H and W of a window, as PyTorch takes them: one number where they
        are equal."""
        height, width = (self.whole(f"{name}{axis}", default, least) for axis in "HW")
        return height if height == width else [height, width]

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.get(name)
        value = default if value is None else value
        if type(value) is not bool:
            raise self.wrong(f"has {name} {described(value)}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.get(name)
        value = default if value is None else value
        if value is None or type(value) not in (int, float) or not math.isfinite(value):
            raise self.wrong(f"has {name} {described(value)}")
        return float(value)

    def has(self, name: str) -> bool:
        """Whether there is such a tensor, and it is not empty."""
        value = self.get(name)
        return value is not None and not (isinstance(value, np.ndarray) and not value.size)

    def tensor(self, name: str, *dimensions: int) -> Tensor:
        """A tensor of one of those numbers of dimensions."""
        value = self.get(name)
        if not isinstance(value, np.ndarray) or value.ndim not in dimensions or not value.size:
            raise self.wrong(f"has no tensor {name}")
        return torch.from_numpy(value)

    def keep(self, **weights: Tensor) -> None:
        """Add to :attr:`weights`, as float32."""
        self.weights |= {name: tensor.float() for name, tensor in weights.items()}


def _window(module: _Module, stride: int | None) -> dict[str, Any]:
    """Kernel, stride and padding."""
    return {
        "kernel_size": module.pair("k", least=1),
        "stride": module.pair("d", stride, least=1),
        "padding": _padding(module),
    }


def _padding(module: _Module) -> int | list[int]:
    old = module.get("padding")  # some older files have this in place of padH and padW
    return module.pair("pad", 0) if old is None else module.whole("padding")


def _convolution(module: _Module) -> _Read:
    window, groups = _window(module, 1), module.whole("groups", 1, least=1)
    height, width = (module.whole(f"k{axis}") for axis in "HW")
    weight = module.tensor("weight", 2, 4)
    if weight.ndim == 2 and weight.shape[1] % (height * width) == 0:  # SpatialConvolutionMM's
        weight = weight.reshape(len(weight), -1, height, width)
    declared = (module.get("nOutputPlane"), module.get("nInputPlane"), height, width)
    out, inputs = len(weight), weight.shape[1] * groups
    whole = all(type(size) is int for size in declared)
    if not whole or declared != (out, inputs, *weight.shape[2:]):
        shape, said = tuple(weight.shape), described_shape(declared)
        raise module.wrong(f"has a weight of shape {shape}, in {groups} groups, not {said}")
    module.keep(weight=weight)
    bias = _bias(module)
    channels = {"in_channels": inputs, "out_channels": out}
    return _Read({"kind": "convolution", **channels, **window, "groups": groups, "bias": bias})


def _bias(module: _Module) -> bool:
    """Whether the module has a bias; it is kept."""
    if not module.has("bias"):
        return False
    module.keep(bias=module.tensor("bias", 1))
    return True


def _normalisation(module: _Module) -> _Read:
    eps = module.number("eps", 1e-5)
    if not 0 <= eps < 1:
        raise module.wrong(f"has eps {eps}")
    if not module.has("running_var") and module.has("running_std"):
        # Older files have the factor, 1 / sqrt(variance + eps).
        variance = module.tensor("running_std", 1).double() ** -2 - eps
    else:
        variance = module.tensor("running_var", 1).double()
    if not ((variance + eps).float() > 0).all():  # NaN is not above 0 either
        raise module.wrong("has variances below 0")
    module.keep(running_mean=module.tensor("running_mean", 1), running_var=variance)
    affine = module.has("weight")
    if affine:
        module.keep(weight=module.tensor("weight", 1), bias=module.tensor("bias", 1))
    module.weights["num_batches_tracked"] = torch.tensor(0)
    return _Read(
        {"kind": "normalisation", "num_features": len(variance), "eps": eps, "affine": affine}
    )


def _in_place(layer: Description) -> Callable[[_Module], _Read]:
    """How to read a module whose only option is ``inplace``."""

    def read(module: _Module) -> _Read:
        inplace = module.flag("inplace")
        return _Read(layer, writes=inplace, passes=inplace)

    return read


def _same(module: _Module) -> _Read:
    return _Read({"kind": "identity"}, passes=True)


def _max_pooling(module: _Module) -> _Read:
    ceil = module.flag("ceil_mode")
    return _Read({"kind": "max-pooling", **_window(module, None), "ceil_mode": ceil})


def _mean_pooling(module: _Module) -> _Read:
    if not module.flag("divide", True):
        raise module.wrong("is a sum, not a mean")
    excluded = "EXCLUDE" in described(module.get("mode"))  # cudnn's name for it
    return _Read(
        {
            "kind": "mean-pooling",
            **_window(module, 1),
            "ceil_mode": module.flag("ceil_mode"),
            "count_include_pad": module.flag("count_include_pad", not excluded),
        }
    )


def _dropout(module: _Module) -> _Read:
    inplace, share = module.flag("inplace"), module.number("p", 0.5)
    if not 0 <= share < 1:
        raise module.wrong(f"has p {share}")
    if module.flag("v2"):
        return _Read({"kind": "dropout", "p": share}, passes=inplace)
    # The first version scales in evaluation, not in training, to make up for what it drops.
    return _Read({"kind": "times", "factor": 1 - share}, writes=inplace, passes=inplace)


def _times(module: _Module) -> _Read:
    inplace, factor = module.flag("inplace"), module.number("constant_scalar")
    return _Read({"kind": "times", "factor": factor}, writes=inplace, passes=inplace)


def _reshape(module: _Module) -> _Read:
    sizes = module.tensor("size", 1).tolist()
    inferred = sizes.count(-1)
    # Without numInputDims, -1 may stand for the batch as well.
    batched = module.get("numInputDims") is not None or not inferred
    if not batched or inferred > 1 or module.get("batchMode") is False:
        raise module.wrong("does not keep images apart")
    return _Read({"kind": "reshape", "sizes": sizes}, passes=True)


def _linear(module: _Module) -> _Read:
    weight = module.tensor("weight", 2)
    module.keep(weight=weight)
    sizes = {"in_features": weight.shape[1], "out_features": len(weight)}
    return _Read({"kind": "linear", **sizes, "bias": _bias(module)})


def _zero_padding(module: _Module) -> _Read:
    sides = [module.whole(f"pad_{side}", least=-LARGEST) for side in "lrtb"]
    return _Read({"kind": "padding", "padding": sides})


_LAYERS: dict[str, Callable[[_Module], _Read]] = {
    "SpatialConvolution": _convolution,
    "SpatialConvolutionMM": _convolution,
    "SpatialBatchNormalization": _normalisation,
    "ReLU": _in_place({"kind": "relu"}),
    "SpatialMaxPooling": _max_pooling,
    "SpatialAveragePooling": _mean_pooling,
    "CAddTable": _in_place({"kind": "sum"}),
    "Identity": _same,
    "Copy": _same,
    "Contiguous": _same,
    "Dropout": _dropout,
    "MulConstant": _times,
    "View": _reshape,
    "Reshape": _reshape,
    "Linear": _linear,
    "SpatialZeroPadding": _zero_padding,
}


# --- modules that hold others


def _within(module: _Module, reader: _Reader) -> list[_Read]:
    """The modules that a module holds."""
    table = module.get("modules")
    found = items(table)
    if not isinstance(table, LuaTable) or len(found) != len(table):
        raise module.wrong("has no list of modules")
    return reader.layers(found, f"{module.place}.")


def _container(kind: str, found: list[_Read]) -> dict[str, Any]:
    return {"kind": kind, "layers": [read.layer for read in found]}


def _sequence(module: _Module, reader: _Reader) -> _Read:
    found = _within(module, reader)
    until = next((i for i, read in enumerate(found) if not read.passes), len(found))
    return _Read(
        _container("sequence", found),
        writes=any(read.writes for read in found[: until + 1]),
        passes=until == len(found),
    )


def _branches(kind: str) -> Callable[[_Module, _Reader], _Read]:
    def read(module: _Module, reader: _Reader) -> _Read:
        found = _within(module, reader)
        if not found:
            raise module.wrong("has no branches")
        if kind == "joined" and module.whole("dimension") != 2:
            raise module.wrong("does not join channels")
        for i, branch in enumerate(found):
            if branch.writes and (i + 1 < len(found) or any(b.passes for b in found[:i])):
                raise module.wrong(f"has branches of which number {i + 1} changes what others read")
        passes = kind == "branches" and found[0].passes
        return _Read(_container(kind, found), any(b.writes for b in found), passes)

    return read


_CONTAINERS: dict[str, Callable[[_Module, _Reader], _Read]] = {
    "Sequential": _sequence,
    "ConcatTable": _branches("branches"),
    "Concat": _branches("joined"),
}
