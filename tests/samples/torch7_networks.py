"""Networks as Torch7 keeps them, and what they make of pixels, in loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tests.samples.torch7_files import Storage
from vlcam.formats.torch7 import LuaObject


class Lua:
    """Modules with random weights, as Torch7 keeps them in their fields."""

    def __init__(self, package: str = "cudnn") -> None:
        self.package = package
        self.random = np.random.default_rng(0)

    def array(self, *shape: int, low: float = -1, high: float = 1) -> np.ndarray:
        return self.random.uniform(low, high, shape).astype(np.float32)

    def conv(
        self,
        inputs: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        bias: bool = False,
        **more: Any,
    ) -> LuaObject:
        pad, groups = kernel // 2, more.get("groups", 1)
        weight = self.array(out, inputs // groups, kernel, kernel)
        weight *= 2 / np.sqrt(weight[0].size)
        fields = {"nInputPlane": inputs, "nOutputPlane": out, "kW": kernel, "kH": kernel}
        fields |= {"dW": stride, "dH": stride, "padW": pad, "padH": pad, "weight": weight}
        fields |= {"bias": self.array(out)} if bias else {}
        return self.object("SpatialConvolution", **fields, **more)

    def norm(self, channels: int, **more: Any) -> LuaObject:
        fields: dict[str, Any] = {"running_mean": self.array(channels, low=-0.2, high=0.2)}
        fields |= {"running_var": self.array(channels, low=0.5, high=2), "eps": 1e-3}
        fields |= {"weight": self.array(channels, low=0.5), "bias": self.array(channels)}
        return self.object("SpatialBatchNormalization", **fields, **more)

    def relu(self, inplace: bool = True) -> LuaObject:
        return self.object("ReLU", inplace=inplace)

    def object(self, name: str, **fields: Any) -> LuaObject:
        return LuaObject(f"{self.package}.{name}", {"train": True, "_type": "?", **fields})

    def bottleneck(self, inputs: int, n: int, stride: int, kind: str) -> LuaObject:
        """Of fb.resnet.torch's pre-activation ResNet; ``kind``: of its first layers, ``none``
        before the first block, ``both`` before branch and shortcut, or before the ``branch``."""
        first = [self.norm(inputs, __shareGradInputKey="preact"), self.relu()]
        inner = [self.conv(inputs, n), self.norm(n), self.relu()]
        inner += [self.conv(n, n, 3, stride), self.norm(n), self.relu(), self.conv(n, 4 * n)]
        short = [nn("Identity")]
        if inputs != 4 * n or stride > 1:
            short = [self.conv(inputs, 4 * n, 1, stride)]
        return chain(
            *(first if kind == "both" else []),
            holding("ConcatTable", chain(*(first if kind == "branch" else []), *inner), *short),
            nn("CAddTable", inplace=True),
        )

    def resnet(self, n: int, m: int, size: int, stride: int = 2) -> list[LuaObject]:
        """The 12 layers of such a network with two stages, for inputs of 8 ``stride / 2 * size``
        pixels: its maps have 4 m channels."""
        modules = [self.conv(3, n, 7, stride), self.norm(n), self.relu()]
        modules += [nn("SpatialMaxPooling", **window(3, 2, 1))]
        first = [self.bottleneck(n, n, 1, "none"), self.bottleneck(4 * n, n, 1, "branch")]
        second = [self.bottleneck(4 * n, m, 2, "both"), self.bottleneck(4 * m, m, 1, "branch")]
        modules += [chain(*first), chain(*second)]
        modules += [nn("Copy"), self.norm(4 * m), self.relu()]
        return modules + self.classifier(4 * m, size)

    def classifier(self, channels: int, size: int) -> list[LuaObject]:
        view = nn("View", size=Storage(np.array([channels])), numElements=channels, numInputDims=3)
        linear = nn("Linear", weight=self.array(5, channels), bias=self.array(5))
        return [self.object("SpatialAveragePooling", **window(size, 1, 0)), view, linear]


def nn(name: str, **fields: Any) -> LuaObject:
    return LuaObject(f"nn.{name}", fields)


def holding(name: str, *modules: Any, **fields: Any) -> LuaObject:
    return nn(name, modules=dict(enumerate(modules, 1)), **fields)


def chain(*modules: Any) -> LuaObject:
    return holding("Sequential", *modules)


def window(kernel: int, stride: int, pad: int, **more: Any) -> dict[str, Any]:
    names = {"k": kernel, "d": stride, "pad": pad}
    return {f"{name}{axis}": value for name, value in names.items() for axis in "WH"} | more


def run(module: LuaObject, x: Any) -> Any:
    """What a module makes of maps (N, C, H, W), or of several, in double precision."""
    f, name = module.fields, module.kind.partition(".")[2]
    inside = list(f.get("modules", {}).values())
    if name == "Sequential":
        for each in inside:
            x = run(each, x)
    elif name in ("ConcatTable", "Concat"):
        x = [run(each, x) for each in inside]
        x = np.concatenate(x, 1) if name == "Concat" else x
    elif name == "CAddTable":
        x[0][:] = sum(x)
        x = x[0]
    elif name == "ReLU":
        if f["inplace"]:
            x[:] = np.maximum(x, 0)
        x = np.maximum(x, 0)
    elif name.startswith("SpatialConvolution"):
        x = convolution(f, x)
    elif name == "SpatialBatchNormalization":
        scale = f.get("running_std")
        if scale is None:
            scale = 1 / np.sqrt(f["running_var"].astype(float) + f.get("eps", 1e-5))
        x = (x - f["running_mean"][:, None, None]) * scale[:, None, None]
        if "weight" in f:
            x = x * f["weight"][:, None, None] + f["bias"][:, None, None]
    elif "Pooling" in name:
        x = pooled(f, x, "Max" in name)
    elif name == "SpatialZeroPadding":
        x = np.pad(x, [(0, 0)] * 2 + [(f[f"pad_{a}"], f[f"pad_{b}"]) for a, b in ("tb", "lr")])
    elif name == "MulConstant":
        x = x * f["constant_scalar"]
    elif name == "Dropout":
        x = x * (1 if f.get("v2") else 1 - f["p"])
    elif name in ("View", "Reshape"):
        x = x.reshape(len(x), -1)
    elif name == "Linear":
        x = x @ f["weight"].T.astype(float) + f["bias"]
    else:
        assert name in ("Identity", "Copy", "DataParallelTable")
        x = run(inside[0], x) if inside else x
    return x


def convolution(f: dict[str, Any], x: np.ndarray) -> np.ndarray:
    groups, out = f.get("groups", 1), f["nOutputPlane"]
    weight = f["weight"].astype(float).reshape(out, -1, f["kH"], f["kW"])
    pads = [f.get(f"pad{a}", f.get("padding", 0)) for a in "HW"]
    padded = np.pad(x, [(0, 0)] * 2 + [(p, p) for p in pads])
    windows = sliding_window_view(padded, weight.shape[2:], (2, 3))[:, :, :: f["dH"], :: f["dW"]]
    parts = [
        np.einsum("nchwyx,ocyx->nohw", w, k)
        for w, k in zip(np.split(windows, groups, 1), np.split(weight, groups), strict=True)
    ]
    joined: np.ndarray = np.concatenate(parts, 1)
    return joined + f["bias"][:, None, None] if "bias" in f else joined


def pooled(f: dict[str, Any], x: np.ndarray, largest: bool) -> np.ndarray:
    """Cell by cell."""
    k, d, p = f["kW"], f["dW"], f.get("padW", 0)
    cells = []
    for size in x.shape[2:]:
        steps = (size + 2 * p - k) / d
        count = int(np.ceil(steps) if f.get("ceil_mode") else steps) + 1
        cells.append(count - ((count - 1) * d >= size + p))
    include = f.get("count_include_pad", "EXCLUDE" not in f.get("mode", ""))
    made = np.zeros((*x.shape[:2], *cells))
    for i, j in np.ndindex(*cells):
        places = [(c * d - p, size) for c, size in zip((i, j), x.shape[2:], strict=True)]
        rows, columns = (slice(max(a, 0), min(a + k, size)) for a, size in places)
        part = x[:, :, rows, columns]
        count = np.prod([min(a + k, size + p) - a for a, size in places])
        count = count if include else part[0, 0].size
        made[:, :, i, j] = part.max((2, 3)) if largest else part.sum((2, 3)) / count
    return made
