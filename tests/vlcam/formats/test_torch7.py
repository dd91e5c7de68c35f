"""Torch7's files: what is read, and that nothing damaged or alien gets far."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from tests.samples.torch7_files import Writer, save
from vlcam.formats import budget
from vlcam.formats.torch7 import LuaObject, get, items, load_torch7, mentions, outline


def test_values_of_every_kind(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = {
        "none": None, "yes": True, "text": "größe", "half": 0.5, "whole": 3,
        "list": {1: "a", 2: "b"}, "matrix": matrix, "turned": matrix.T,
        "long": np.array([2**40]), "bytes": np.arange(3, dtype=np.uint8),
    }  # fmt: skip
    save(tmp_path / "a.t7", value)
    found = load_torch7(tmp_path / "a.t7")
    for name in ("none", "yes", "text", "half", "whole"):
        assert found[name] == value[name]
    assert dict(found["list"]) == {1: "a", 2: "b"}
    for name in ("matrix", "turned", "long", "bytes"):
        assert found[name].dtype == value[name].dtype
        np.testing.assert_array_equal(found[name], value[name])


def test_what_is_written_once_is_shared(tmp_path: Path) -> None:
    writer = Writer()
    writer.ints(3, 1, 2)
    writer.value("a").ints(3, 2, 0)
    writer.value("b").ints(3, 2)  # the same table, by its number
    (tmp_path / "a.t7").write_bytes(writer.data)
    found = load_torch7(tmp_path / "a.t7")
    assert found["a"] is found["b"]


def test_objects_of_other_classes_are_kept_unread(tmp_path: Path) -> None:
    writer = Writer()
    writer.begin("nn.Linear")
    writer.value({"bias": np.ones(2, np.float32)})
    (tmp_path / "a.t7").write_bytes(writer.data)
    found = load_torch7(tmp_path / "a.t7")
    assert isinstance(found, LuaObject) and found.kind == "nn.Linear"
    assert found.fields["bias"].tolist() == [1, 1]


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.t7"
    with pytest.raises(ValueError, match="no such file"):
        load_torch7(path)
    save(path, {"a": np.arange(5.0), "b": "text"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.t7: not a readable Torch7 file"):
            load_torch7(path)


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04" * 10,
        struct.pack("<i", 6),  # a function
        struct.pack("<ii", 2, -5),  # a text of less than nothing
        struct.pack("<iii", 3, 1, 2**30),  # a table of a thousand million entries
        b"".join(struct.pack("<iiiid", 3, i + 1, 1, 1, 1.0) for i in range(20_000)),  # too deep
    ],
)
def test_alien_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.t7").write_bytes(data)
    with pytest.raises(ValueError, match="not a readable Torch7 file"):
        load_torch7(tmp_path / "a.t7")


def test_a_tensor_beyond_its_storage(tmp_path: Path) -> None:
    writer = Writer()
    writer.begin("torch.FloatTensor")
    writer.ints(1)
    writer.data += struct.pack("<qqq", 10**12, 1, 1)
    writer.begin("torch.FloatStorage")
    writer.data += struct.pack("<q", 2) + bytes(8)
    (tmp_path / "a.t7").write_bytes(writer.data)
    with pytest.raises(ValueError, match="its storage does not hold"):
        load_torch7(tmp_path / "a.t7")


def test_graphs_may_nest_deep(tmp_path: Path) -> None:
    head = [struct.pack("<iiiid", 3, i, 1, 1, 1.0) for i in range(1, 3001)]
    (tmp_path / "a.t7").write_bytes(b"".join([*head, struct.pack("<i", 0)]))
    value, depth = load_torch7(tmp_path / "a.t7"), 0
    while value is not None:
        value, depth = value[1], depth + 1
    assert depth == 3000


@pytest.mark.parametrize("kind", [6, 7, 8])
def test_functions_are_read_past_and_what_they_share_is_kept(tmp_path: Path, kind: int) -> None:
    writer = Writer()
    writer.ints(3, writer.number(), 3)
    writer.value("f").ints(kind)
    if kind != 6:  # the oldest are not numbered
        function = writer.number()
        writer.ints(function)
    writer.text("\x1bLJ code")
    shared = writer.count + 2
    writer.value({1: {"weight": 7}})
    writer.value("again").ints(3, shared)  # a table that the function's variables hold
    writer.value("g").ints(0) if kind == 6 else writer.value("g").ints(kind, function)
    (tmp_path / "a.t7").write_bytes(writer.data)
    found = load_torch7(tmp_path / "a.t7")
    assert found["f"].kind == "function" and found["f"].fields is None
    assert found["again"] == found["again"] and dict(found["again"]) == {"weight": 7}
    assert found["g"] is (None if kind == 6 else found["f"])


def test_tensors_of_one_storage_share_it_and_repeated_rows_are_left(tmp_path: Path) -> None:
    writer = Writer()
    writer.ints(3, writer.number(), 3)
    for name, size, stride, offset in (("a", 2, 1, 1), ("b", 2, 1, 2), ("rows", 10**12, 0, 1)):
        writer.value(name).begin("torch.FloatTensor")
        writer.ints(1)
        writer.data += struct.pack("<qqq", size, stride, offset)
        if name == "a":
            storage = writer.count + 1
            writer.begin("torch.FloatStorage")
            writer.data += struct.pack("<qfff", 3, 1, 2, 3)
        else:
            writer.ints(4, storage)
    (tmp_path / "a.t7").write_bytes(writer.data)
    found = load_torch7(tmp_path / "a.t7")
    assert found["a"].tolist() == [1, 2] and found["b"].tolist() == [2, 3]
    assert np.shares_memory(found["a"], found["b"])
    assert isinstance(found["rows"], LuaObject) and found["rows"].fields is None


def test_an_outline_has_all_but_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.t7"
    net = LuaObject("nn.Linear", {"weight": np.ones((2, 2), np.float32), "bias": None})
    save(path, {"net": net, "list": {1: "a", 2: "b", 4: "d"}})
    found = outline(path)
    assert get(found, "net").kind == "nn.Linear"
    assert get(found, "net", "weight").kind == "torch.FloatTensor"
    assert get(load_torch7(path), "net", "weight").shape == (2, 2)
    assert get(found, "net", "none", "further") is None and get(None, "a") is None
    assert items(get(found, "list")) == ["a", "b"] and items(None) == []
    assert mentions(path, "nn.Linear", "weight") and not mentions(path, "nn.Linear", "nothing")
    path.write_bytes(b"\0" + path.read_bytes())
    assert not mentions(path, "nn.Linear")


def test_tables_that_would_be_many_times_the_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.t7", dict.fromkeys(range(60), 1))
    assert len(load_torch7(tmp_path / "a.t7")) == 60
    monkeypatch.setattr(budget, "_LEAST", 0)
    monkeypatch.setattr(budget, "_TIMES", 3)
    with pytest.raises(ValueError, match=r"a\.t7: not a .*its .* bytes ask for more than"):
        load_torch7(tmp_path / "a.t7")


def test_keys_of_many_digits_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.t7", {1e300: "x"})
    with pytest.raises(ValueError, match=r"a\.t7: .*a number of more than 64 bits"):
        load_torch7(tmp_path / "a.t7")
