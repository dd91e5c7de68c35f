"""Networks of Torch7: tiny ones, written as Torch7 writes them, against arrays that are run through
their modules one by one, written over where these write over them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.samples.torch7_files import Storage, Writer, save
from tests.samples.torch7_networks import Lua, chain, holding, nn, run, window
from vlcam.formats.torch7 import LuaObject
from vlcam.geometry.cells import derive, measure
from vlcam.networks.torch7_network import is_network, read_trunk, trunk
from vlcam.networks.trunk import Trunk

SIZE = (32, 32)


def pixels(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, 3, *size))


def read(folder: Path, *modules: Any, float_: str = "Float") -> Trunk:
    """The trunk of such a file, checked against the arrays."""
    path = folder / "network.t7"
    save(path, chain(*modules), float_)
    assert is_network(path)
    net, layers = read_trunk(path, SIZE)
    assert len(layers) == len(modules) - 3
    x = pixels()
    expected = run(chain(*modules[:-3]), x.copy())
    with torch.no_grad():
        found = net(torch.from_numpy(x).float()).numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected.reshape(len(x), -1), rtol=1e-4, atol=1e-4)
    again = trunk(json.loads(json.dumps(layers)), SIZE).eval()
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert np.array_equal(again(torch.from_numpy(x).float()).numpy(), found)
    return net


@pytest.mark.parametrize("copy", [True, False])
def test_a_preactivation_resnet(tmp_path: Path, copy: bool) -> None:
    modules = Lua().resnet(4, 8, 4)
    if not copy:  # the published files differ in this
        del modules[6]
    net = read(tmp_path, *modules, float_="Cuda")
    assert net.regions.name == net.default_layer == str(len(modules) - 3)
    assert net.regions.shape == (32, 4, 4) and net.feature_size == 512
    shapes = {layer.name: layer.shape for layer in net.layers}
    assert shapes["5.1"] == shapes["5.2"] == shapes["5"] == (16, 8, 8)
    assert shapes["6.1.2"] == (16, 8, 8) and shapes["6.1"] == (32, 4, 4)
    assert "6.1.3" not in shapes  # two maps at once


def test_cut_at_any_layer_the_halves_are_the_whole(tmp_path: Path) -> None:
    net = read(tmp_path, *Lua().resnet(2, 4, 4)).double()
    x = torch.from_numpy(pixels())
    with torch.no_grad():
        whole = net(x)
        for layer in net.layers:
            before, after = net.split(layer.name)
            maps = before(x)
            assert maps.shape[1:] == layer.shape
            kept = maps.clone()
            torch.testing.assert_close(after(maps), whole)
            assert torch.equal(maps, kept)
    for name in ("1", "5.1", "6.2"):
        before, _ = net.split(name)
        grid = derive(before, torch.zeros(1, 3, 96, 96, dtype=torch.float64))
        middle = grid.size[0] // 2
        (found,) = measure(before, torch.zeros(1, 3, 96, 96).double(), [(middle, middle)], rounds=6)
        step = grid.stride[0]
        np.testing.assert_allclose(found, grid.center(middle, middle), atol=0.25 * step + 0.5)
    with pytest.raises(ValueError, match=r"layer '6\.9' of this CNN: unknown; did you mean .*6\.1"):
        net.layer("6.9")


def test_a_postactivation_resnet(tmp_path: Path) -> None:
    lua = Lua("nn")

    def block(inputs: int, n: int, stride: int) -> LuaObject:
        inner = chain(lua.conv(inputs, n, 3, stride, bias=True), lua.norm(n), lua.relu())
        short = chain(lua.conv(inputs, n, 1, stride), lua.norm(n))
        branches = holding("ConcatTable", inner, short if inputs != n else nn("Identity"))
        return chain(branches, nn("CAddTable", inplace=True), lua.relu())

    stages = [chain(block(4, 4, 1), block(4, 4, 1)), chain(block(4, 6, 2))]
    read(tmp_path, lua.conv(3, 4, 3, 4), lua.relu(), *stages, *lua.classifier(6, 4))


def test_layers_of_every_kind_and_their_spellings(tmp_path: Path) -> None:
    lua = Lua()
    flat = lua.conv(8, 6, 3, bias=True)
    flat.kind = "nn.SpatialConvolutionMM"
    flat.fields["weight"] = flat.fields["weight"].reshape(6, -1)
    old = lua.conv(6, 6, 3)
    old.fields["padding"] = 1
    del old.fields["padW"], old.fields["padH"]
    std = lua.norm(6)
    std.fields["running_std"] = 1 / np.sqrt(std.fields.pop("running_var") + np.float32(1e-3))
    std.kind = "fbnn.SpatialBatchNormalization"
    bare = lua.norm(6, affine=False)
    del bare.fields["weight"], bare.fields["bias"], bare.fields["eps"]
    wide = lua.conv(6, 6, 3)
    wide.fields |= {"kW": 5, "padW": 1, "dW": 2, "weight": lua.array(6, 6, 3, 5)}
    halves = holding("Concat", nn("Identity"), nn("MulConstant", constant_scalar=0.5), dimension=2)
    read(
        tmp_path,
        holding("DataParallelTable", chain(lua.conv(3, 8, 5, 2)), nn("Unknown")),
        nn("SpatialMaxPooling", **window(3, 2, 0, ceil_mode=True)),
        lua.conv(8, 8, 3, groups=4),
        flat,
        std,
        nn("Dropout", p=0.3, inplace=True),
        old,
        bare,
        nn("Dropout", p=0.3, v2=True),
        nn("SpatialZeroPadding", pad_l=1, pad_r=2, pad_t=3, pad_b=0),
        wide,
        halves,
        nn("SpatialZeroPadding", pad_l=3, pad_r=0, pad_t=0, pad_b=0),
        nn("SpatialAveragePooling", **window(3, 2, 1, ceil_mode=True)),
        nn("SpatialAveragePooling", **window(2, 2, 1, count_include_pad=False)),
        LuaObject("cudnn.SpatialAveragePooling", window(3, 1, 1, mode="X_EXCLUDE_PADDING")),
        LuaObject("cudnn.SpatialAveragePooling", window(3, 1, 1, mode="X_INCLUDE_PADDING")),
        *lua.classifier(12, 2),
    )


def test_a_whole_classifier_can_be_described(tmp_path: Path) -> None:
    """Also what comes behind feature maps; here in the middle of a chain's chain."""
    lua = Lua()
    linear = nn("Linear", weight=lua.array(12, 128), bias=lua.array(12))
    shape = [nn("Reshape", size=Storage(np.array([128])), batchMode=True), linear]
    shape += [nn("View", size=Storage(np.array([3, 2, -1])), numInputDims=1)]
    modules = [lua.conv(3, 2, 3, 4), lua.relu(), chain(*shape), *lua.classifier(3, 2)]
    save(tmp_path / "a.t7", chain(*modules))
    net, _ = read_trunk(tmp_path / "a.t7", SIZE)
    assert [layer.name for layer in net.layers] == ["1", "2", "3.3", "3"]
    x = pixels()
    hidden = run(chain(*modules[:2], *shape[:2]), x.copy())
    found = net(torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_allclose(found, hidden, rtol=1e-4, atol=1e-4)


def test_what_is_written_over_is_harmless_or_refused(tmp_path: Path) -> None:
    lua = Lua()
    start, end = lua.conv(3, 4, 3, 4), lua.classifier(4, 8)
    add = nn("CAddTable", inplace=True)

    def table(*branches: LuaObject) -> LuaObject:
        return chain(holding("ConcatTable", *branches), add)

    identity, other, rectified = nn("Identity"), lua.conv(4, 4), chain(nn("Copy"), lua.relu())
    read(tmp_path, start, table(other, identity), *end)
    read(tmp_path, start, table(identity, other), *end)
    read(tmp_path, start, table(other, chain(lua.relu(), lua.conv(4, 4))), *end)
    read(tmp_path, start, table(chain(lua.relu(False), other), identity), *end)
    read(tmp_path, start, table(chain(lua.norm(4), lua.relu(), other), identity), *end)
    for branches in (
        (rectified, identity),
        (identity, rectified),
        (chain(table(identity, other)), other),  # the sum is written over the input
        (holding("Concat", lua.relu(), dimension=2), other),
    ):
        with pytest.raises(ValueError, match=r"layer 2\.1 has branches of which number . changes"):
            read(tmp_path, start, table(*branches), *end)


def test_which_files_hold_one(tmp_path: Path) -> None:
    path = tmp_path / "a.t7"
    values: list[Any] = [
        {"model": chain()}, "nn.Sequential", 3, np.ones(3), nn("Linear"),
        LuaObject("my.Sequential", {}),
    ]  # fmt: skip
    for value in values:
        save(path, value)
        assert not is_network(path)
    save(path, chain())
    whole = path.read_bytes()
    assert is_network(path) and not is_network(tmp_path) and not is_network(tmp_path / "b")
    for length in range(30):
        path.write_bytes(whole[:length])
        assert not is_network(path)
    old = (4).to_bytes(4, "little") + whole[4:8] + whole[15:]  # without a version
    path.write_bytes(old)
    assert is_network(path)


def _first(**fields: Any) -> Callable[[list[Any]], None]:
    return lambda modules: modules[0].fields.update(fields)


def _norm(**fields: Any) -> Callable[[list[Any]], None]:
    return lambda modules: modules[1].fields.update(fields)


def _put(*modules: Any) -> Callable[[list[Any]], None]:
    return lambda found: found.__setitem__(slice(2, 3), list(modules))


def _loop(modules: list[Any]) -> None:
    modules[5].fields["modules"][1].fields["modules"] = modules[5].fields["modules"]


def _laughs(modules: list[Any]) -> None:
    inner = nn("Identity")
    for _ in range(30):
        inner = chain(inner, inner)
    modules[2] = inner


def _again(modules: list[Any]) -> None:
    """A tensor that many layers share."""
    modules[:4] = [modules[0]] + [Lua().conv(4, 4, 9)] * 100


TANH, LIST = nn("Tanh"), holding("ConcatTable", nn("Identity"))
NAN = np.full((4, 3, 7, 7), np.nan, np.float32)
SUM, FLAT = window(2, 2, 0, divide=False), Storage(np.array([-1]))
BAD: list[tuple[str, Callable[[list[Any]], None]]] = [
    (r"layer 3 is of class 'nn.Tanh'; known are CAddTable, Concat, .* View", _put(TANH)),
    ("layer 3 is of class 'os.ReLU'", _put(LuaObject("os.ReLU", {}))),
    ("layer 3 is no module; known", _put(7)),
    ("layer 3 has no fields", _put(LuaObject("nn.ReLU", 5))),
    ("layer 3 has no list of modules", _put(nn("Sequential"))),
    ("layer 6 has no list of modules", lambda m: m[5].fields["modules"].update({7: 1})),
    ("layer 3 has no branches", _put(holding("ConcatTable"))),
    ("layer 3 does not join channels", _put(holding("Concat", nn("Identity"), dimension=1))),
    ("class 'nn.DataParallelTable' holds 0 modules", _put(holding("DataParallelTable"))),
    ("class 'nn.DontCast' holds 2 modules", _put(holding("DontCast", TANH, TANH))),
    ("layer 1 has kW None", _first(kW=None)),
    ("layer 1 has dH 0", _first(dH=0)),
    ("layer 1 has padW 1.5", _first(padW=1.5)),
    ("layer 1 has dW True", _first(dW=True)),
    ("layer 1 has groups 1000000000", _first(groups=1e30)),
    ("layer 1 has no tensor weight", _first(weight=None)),
    (r"weight of shape \(4, 3, 7, 7\), in 1 groups, not \(4, 3, 7, 5\)", _first(kW=5)),
    (r"in 3 groups, not \(4, 3, 7, 7\)", _first(groups=3)),
    (r"weight of shape \(4, 5\)", _first(weight=np.ones((4, 5), np.float32))),
    (r"1\.bias has shape \(5,\), expected \(4,\)", _first(bias=np.ones(5, np.float32))),
    ("layer 1 has no tensor bias", _first(bias="x")),
    (r"1\.weight holds numbers that are not finite", _first(weight=NAN)),
    ("layer 1 does not fit: ", lambda m: m.__setitem__(0, Lua().conv(1, 4, 7, 2))),
    ("layer 2 has eps 2", _norm(eps=2)),
    ("layer 2 has eps 'x'", _norm(eps="x")),
    ("layer 2 has variances below 0", _norm(running_var=np.full(4, -1, np.float32))),
    ("layer 2 has variances below 0", _norm(running_var=np.full(4, np.nan, np.float32))),
    ("layer 2 has no tensor running_var", _norm(running_var=None)),
    (r"2\.running_mean has shape", _norm(running_mean=np.ones(3, np.float32))),
    ("layer 3 has inplace 'yes'", _put(nn("ReLU", inplace="yes"))),
    ("layer 3 is a sum, not a mean", _put(nn("SpatialAveragePooling", **SUM))),
    ("layer 3 has p 1", _put(nn("Dropout", p=1))),
    ("layer 3 does not keep images apart", _put(nn("View", size=FLAT))),
    ("layer 3 does not keep images apart", _put(nn("Reshape", size=FLAT, batchMode=False))),
    ("layer 3 does not fit: a sum", _put(nn("CAddTable"))),
    ("layer 4 does not fit", _put(LIST)),
    ("the last layer gives no feature maps", lambda m: m.insert(9, LIST)),
    ("more than 20000 layers", _laughs),
    ("more weights than it has bytes", _again),
    ("nested too deep", _loop),
    ("ends with 'ReLU, SpatialAveragePooling, View, Tanh', not", lambda m: m.__setitem__(11, TANH)),
    ("ends with .*SpatialBatchNormalization, ReLU', not", lambda m: m.__delitem__(slice(9, 12))),
    ("ends with 'nothing', not", lambda m: m.clear()),
    ("ends with", lambda m: m.__delitem__(slice(0, 9))),
]  # fmt: skip


class Once(Writer):
    """Writes each object once, however often it occurs, as Torch7 does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, tuple[int, Any]] = {}  # with the object, that no other gets its id

    def value(self, value: Any) -> Writer:
        if not isinstance(value, LuaObject | dict | np.ndarray):
            return super().value(value)
        if id(value) in self.seen:
            self.ints(3 if isinstance(value, dict) else 4, self.seen[id(value)][0])
            return self
        self.seen[id(value)] = (self.count + 1, value)
        return super().value(value)


@pytest.mark.parametrize(("said", "spoil"), BAD)
def test_what_is_refused(tmp_path: Path, said: str, spoil: Callable[[list[Any]], None]) -> None:
    modules = Lua().resnet(4, 8, 4)
    spoil(modules)
    path = tmp_path / "network.t7"
    path.write_bytes(Once().value(chain(*modules)).data)
    began = time.monotonic()
    with pytest.raises(ValueError, match=said) as error:
        read_trunk(path, SIZE)
    assert time.monotonic() - began < 2
    text = str(error.value)
    assert text.startswith(f"{path}: not a network that is read: ") or ": not a " in text
    assert "\n" not in text and len(text) < 600


def test_other_and_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "network.t7"
    save(path, {"model": 1})
    with pytest.raises(ValueError, match=r"network\.t7: .*does not hold a chain of layers"):
        read_trunk(path, SIZE)
    save(path, chain(*Lua().resnet(2, 4, 4)))
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"network\.t7: not a readable Torch7 file") as error:
            read_trunk(path, SIZE)
        assert "\n" not in str(error.value)
    # A byte changed: refused, or a network.
    random = np.random.default_rng(0)
    for at in random.integers(0, len(whole), 40):
        path.write_bytes(whole[:at] + bytes([random.integers(256)]) + whole[at + 1 :])
        try:
            read_trunk(path, SIZE)
        except ValueError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
