"""Whole modules in torch files: what is in them is read, whatever they ask for is not done."""

from __future__ import annotations

import functools
import os
import pickle
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.samples.foreign import module_of
from vlcam.formats.pickles.storages import Storages
from vlcam.formats.torch_pickle import (
    Inert,
    StoredTensor,
    module_state,
    read_torch_modules,
)


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.nothing: nn.Module | None = None
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.register_buffer("mask", torch.tensor([True, False]))


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(Part(), nn.ReLU(), Part())
        self.cell = nn.LSTMCell(4, 2)
        self.half = nn.Linear(3, 2).half()
        self.tied = nn.Linear(3, 2)
        self.tied.weight = nn.Parameter(torch.arange(12.0).view(3, 4).T[1:3, :])  # with strides
        self.side = 14


LAYOUTS = ("archive", "stream")


def written(path: Path, data: Any, layout: str, protocol: int = 2) -> Path:
    with module_of("models", Part, Whole), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a source that cannot be found
        torch.save(
            data,
            path,
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=layout == "archive",
        )
    return path


def whole() -> Whole:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Whole()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_modules_become_state_dicts(tmp_path: Path, layout: str, protocol: int) -> None:
    model = whole()
    data = {"epoch": 3, "bleu-4": np.float64(0.25), "model": model, "state": model.state_dict()}
    read = read_torch_modules(written(tmp_path / "x.pth", data, layout, protocol))
    assert read["epoch"] == 3 and read["bleu-4"] == 0.25
    assert isinstance(read["model"], Inert) and read["model"].kind == "models.Whole"
    assert read["model"].attributes["side"] == 14
    assert "models" not in sys.modules
    expected = model.state_dict()
    for saved in (read["model"], read["state"]):
        state = module_state(saved, "it")
        assert set(state) == set(expected) and "parts.0.passing" not in state
        for name, tensor in state.items():
            assert tensor.dtype == expected[name].dtype
            assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_asked_for_is_not_read(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = whole().float()
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    path = written(tmp_path / "x.pth", {"optimizer": optimizer, "model": model}, layout)
    seen, real = [], Storages.read

    def counting(storages: Storages, key: str) -> Tensor:
        seen.append(key)
        return real(storages, key)

    monkeypatch.setattr(Storages, "read", counting)
    read = read_torch_modules(path)
    assert not seen and read["optimizer"].kind == "torch.optim.adam.Adam"
    state = module_state(read["model"], "it")
    assert len(seen) == len(state) and len(set(seen)) == len(seen)


def test_a_part_of_a_flat_vector_is_read(tmp_path: Path) -> None:
    """As cuDNN lays the weights of an LSTM out."""
    flat = torch.arange(10.0)
    state = {"a": flat[:4].view(2, 2), "b": flat[4:10], "none": flat[:0]}
    read = module_state(read_torch_modules(written(tmp_path / "x", state, "stream")), "it")
    assert all(torch.equal(read[name], state[name]) for name in state)
    assert len(read["a"].untyped_storage()) == 4 * 4


class _Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def named(module: str, name: str) -> bytes:
    """The opcodes of a pickle that ask for a name."""
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def together(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + together(*arguments) + b"R"


def test_the_first_versions_of_torch_are_read(tmp_path: Path) -> None:
    """Views of storages, the first functions that rebuild tensors, and what each module held."""

    def tensor(view: bytes, shape: bytes, strides: bytes) -> bytes:
        kind = named("torch.cuda", "FloatStorage")
        stored = together(text("storage"), kind, text("7"), text("cuda:0"), number(6), view) + b"Q"
        return called(named("torch._utils", "_rebuild_tensor"), stored, number(0), shape, strides)

    two, three = together(number(2), number(3)), together(number(3), number(1))
    view = together(text("8"), number(2), number(4))
    backend = called(named("torch.nn.backends.thnn", "_get_thnn_function_backend"))
    weight = called(named("torch.nn.parameter", "Parameter"), tensor(b"N", two, three), b"\x88")
    bias = tensor(view, together(number(4)), together(number(1)))
    data = b"\x80\x02}(" + text("backend") + backend + text("weight") + weight
    with (tmp_path / "old.pth").open("wb") as file:
        for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(header, file, 2)
        file.write(data + text("bias") + bias + b"u.")
        pickle.dump(["7"], file, 2)
        file.write(struct.pack("<q6f", 6, *range(6)))
    read = read_torch_modules(tmp_path / "old.pth")
    assert read.pop("backend") is None
    state = module_state(read, "it")
    assert torch.equal(state["weight"], torch.arange(6.0).view(2, 3))
    assert torch.equal(state["bias"], torch.tensor([2.0, 3.0, 4.0, 5.0]))


def _partial() -> Any:
    return functools.partial(os.mkdir, "ran")


HOSTILE = {
    "posix.system": lambda: _Calls(os.system, "mkdir ran"),
    "posix.mkdir": lambda: _Calls(os.mkdir, "ran"),
    "builtins.eval": lambda: _Calls(eval, "1"),
    "builtins.getattr": lambda: _Calls(getattr, nn.Linear, "__init__"),
    "functools.partial": _partial,
    "torch.serialization.load": lambda: _Calls(torch.load, "x"),
    "torch.hub.load": lambda: _Calls(torch.hub.load, "x"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("function", HOSTILE)
def test_functions_are_refused_by_name(
    tmp_path: Path, function: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "evil.pth", {"model": HOSTILE[function]()}, layout)
    with pytest.raises(ValueError, match=r"evil\.pth: it .*only tensors and plain") as error:
        read_torch_modules(path)
    said = str(error.value).replace("__builtin__", "builtins")
    assert function in said and "\n" not in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(1, (2, 3), (3, 1)), (0, (2, 3), (4, 1)), (0, (1000, 1000), (0, 0)), (-1, (2,), (1,)),
     (0, (2, 3), (1,)), (0, (-2,), (1,)), (0, (2.0,), (1,))],
)  # fmt: skip
def test_tensors_stay_within_their_numbers(
    tmp_path: Path, offset: int, shape: Any, strides: Any, layout: str
) -> None:
    stored = torch.arange(6.0)._typed_storage()
    evil = _Calls(torch._utils._rebuild_tensor_v2, stored, offset, shape, strides, False, {})
    path = written(tmp_path / "evil.pth", {"a": evil}, layout)
    with pytest.raises(ValueError, match=r"evil\.pth: it asks for a tensor"):
        read_torch_modules(path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (0,), (2**70,)), (0, (2**70, 0), (1, 1)), (2**70, (0,), (1,)), (0, (1,), (2**70,))],
)
def test_sizes_beyond_64_bits_are_damage(
    tmp_path: Path, offset: int, shape: Any, strides: Any
) -> None:
    stored = torch.arange(6.0)._typed_storage()
    evil = _Calls(torch._utils._rebuild_tensor_v2, stored, offset, shape, strides, False, {})
    read = read_torch_modules(written(tmp_path / "evil.pth", {"a": evil}, "archive"))
    with pytest.raises(ValueError, match=r"evil\.pth: damaged: a tensor of no possible shape"):
        module_state(read, "it")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_torchscript_is_refused_and_not_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """``torch.load`` passes such archives on to ``torch.jit.load``, which runs them."""
    path = tmp_path / "evil.pth"
    torch.jit.save(torch.jit.script(_Speaks()), path)
    with pytest.raises(ValueError, match=r"evil\.pth: "):
        read_torch_modules(path)
    assert not capfd.readouterr().out


class _Speaks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        print("run")
        self.training = False


def stream(path: Path, data: bytes, keys: list[str], numbers: bytes = b"") -> Path:
    """A file of the old layout around one pickle."""
    header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    start = b"".join(pickle.dumps(value, 2) for value in header)
    path.write_bytes(start + data + pickle.dumps(keys, 2) + numbers)
    return path


def test_no_source_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.load`` would write the difference to a file whose name the file at hand chooses."""
    monkeypatch.chdir(tmp_path)
    stand_in = named("argparse", "Namespace")
    attributes = text("dump_patches") + b"\x88" + text("__name__") + text("ran")
    source = b"(" + text("module") + stand_in + text("a.py") + text("evil") + b"tQ."
    data = b"\x80\x02" + stand_in + b"(N}(" + attributes + b"utb0" + source
    with pytest.raises(ValueError, match=r"evil\.pth: it sets the state of argparse\.Namespace"):
        read_torch_modules(stream(tmp_path / "evil.pth", data, []))
    assert [file.name for file in tmp_path.iterdir()] == ["evil.pth"]


def test_numbers_beyond_any_file_are_damage(tmp_path: Path) -> None:
    kind = named("torch", "FloatStorage")
    stored = together(text("storage"), kind, text("7"), text("cpu"), number(6), b"N") + b"Q."
    numbers = struct.pack("<q", 2**60)
    path = stream(tmp_path / "evil.pth", b"\x80\x02" + stored, ["7"], numbers)
    with pytest.raises(ValueError, match=r"evil\.pth: damaged"):
        read_torch_modules(path)


@pytest.mark.parametrize(
    "odd", [5, True, None, "x" * 999, [1], (1,), b"x", 1.5, torch.ones(2), nn.ReLU(), nn.Linear]
)
@pytest.mark.parametrize(
    "attribute", ["_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"]
)
def test_modules_without_their_dicts_are_damaged(tmp_path: Path, attribute: str, odd: Any) -> None:
    model = nn.Sequential(nn.Linear(1, 1))
    vars(model[0])[attribute] = odd
    read = read_torch_modules(written(tmp_path / "x.pth", model, "archive"))
    with pytest.raises(ValueError, match=rf"it: 0: its {attribute} is .*, expected a ") as error:
        module_state(read, "it")
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_modules_without_end_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.ReLU())
    model._modules["self"] = model
    read = read_torch_modules(written(tmp_path / "x.pth", model, "archive"))
    with pytest.raises(ValueError, match="it: its modules have no end"):
        module_state(read, "it")
    doubled = nn.Sequential(nn.ReLU())
    for _ in range(30):
        doubled = nn.Sequential(doubled, doubled)
    read = read_torch_modules(written(tmp_path / "x.pth", doubled, "archive"))
    with pytest.raises(ValueError, match="it: its modules have no end"):
        module_state(read, "it")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_is_named_in_one_line(tmp_path: Path, layout: str) -> None:
    path = written(tmp_path / "x.pth", {"a": torch.rand(1000), "b": torch.rand(9)}, layout)
    data = path.read_bytes()
    for size in (0, 3, 50, 400, len(data) - 20):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"x\.pth: (cut short|damaged)") as error:
            module_state(read_torch_modules(path), "it")
        assert "\n" not in str(error.value)
    for text in (b"not torch at all", b"PK\x03\x04", pickle.dumps([1]), pickle.dumps("x" * 99)):
        path.write_bytes(text)
        with pytest.raises(ValueError, match=r"x\.pth: damaged, or not written by torch"):
            read_torch_modules(path)


def test_a_changed_number_in_an_archive_is_noticed(tmp_path: Path) -> None:
    weights = torch.full((50,), 1.25)
    path = written(tmp_path / "x.pth", {"a": weights}, "archive")
    data = bytearray(path.read_bytes())
    data[data.index(weights.numpy().tobytes()) + 7] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.pth: damaged: the checksum"):
        module_state(read_torch_modules(path), "it")


def test_what_is_no_module_is_named(tmp_path: Path) -> None:
    read = read_torch_modules(
        written(tmp_path / "x.pth", {"a": 1, "b": {"c": 2}, "d": nn.ReLU()}, "archive")
    )
    with pytest.raises(ValueError, match="it is 1, expected a module or a state dict"):
        module_state(read["a"], "it")
    with pytest.raises(ValueError, match="it: 'c' is 2, expected a tensor"):
        module_state(read["b"], "it")
    assert module_state(read["d"], "it") == {}
    assert isinstance(read["d"], Inert)
    stored: dict[str, Any] = read_torch_modules(
        written(tmp_path / "y.pth", {"w": torch.ones(2)}, "stream")
    )
    assert isinstance(stored["w"], StoredTensor) and stored["w"].shape == (2,)
    assert isinstance(stored["w"].read(), Tensor)


def test_what_refers_to_numbers_is_not_hashed(tmp_path: Path) -> None:
    """Doubled tuples in the place of a type of numbers: to hash them takes for ever."""
    doubled = b"K\x01" + b"2\x86" * 60
    stored = together(text("storage"), doubled, text("7"), text("cpu"), number(6)) + b"Q."
    path = stream(tmp_path / "evil.pth", b"\x80\x02" + stored, ["7"])
    with pytest.raises(ValueError, match=r"evil\.pth: it asks for numbers of type a tuple of 2"):
        read_torch_modules(path)
