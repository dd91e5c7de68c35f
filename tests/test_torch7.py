"""Torch7's files: what is read, and that nothing damaged or alien gets far."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from torch7_files import Writer, save

from vlcam.torch7 import LuaObject, load


def test_values_of_every_kind(tmp_path: Path) -> None:
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = {
        "none": None, "yes": True, "text": "größe", "half": 0.5, "whole": 3,
        "list": {1: "a", 2: "b"}, "matrix": matrix, "turned": matrix.T,
        "long": np.array([2**40]), "bytes": np.arange(3, dtype=np.uint8),
    }  # fmt: skip
    save(tmp_path / "a.t7", value)
    found = load(tmp_path / "a.t7")
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
    found = load(tmp_path / "a.t7")
    assert found["a"] is found["b"]


def test_objects_of_other_classes_are_kept_unread(tmp_path: Path) -> None:
    writer = Writer()
    writer.begin("nn.Linear")
    writer.value({"bias": np.ones(2, np.float32)})
    (tmp_path / "a.t7").write_bytes(writer.data)
    found = load(tmp_path / "a.t7")
    assert isinstance(found, LuaObject) and found.kind == "nn.Linear"
    assert found.fields["bias"].tolist() == [1, 1]


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.t7"
    with pytest.raises(ValueError, match="no such file"):
        load(path)
    save(path, {"a": np.arange(5.0), "b": "text"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.t7: not a readable Torch7 file"):
            load(path)


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04" * 10,
        struct.pack("<i", 6),  # a function
        struct.pack("<ii", 2, -5),  # a text of less than nothing
        struct.pack("<iii", 3, 1, 2**30),  # a table of a thousand million entries
        b"".join(struct.pack("<iiiid", 3, i + 1, 1, 1, 1.0) for i in range(2000)),  # too deep
    ],
)
def test_alien_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.t7").write_bytes(data)
    with pytest.raises(ValueError, match="not a readable Torch7 file"):
        load(tmp_path / "a.t7")


def test_a_tensor_beyond_its_storage(tmp_path: Path) -> None:
    writer = Writer()
    writer.begin("torch.FloatTensor")
    writer.ints(1)
    writer.data += struct.pack("<qqq", 10**12, 1, 1)
    writer.begin("torch.FloatStorage")
    writer.data += struct.pack("<q", 2) + bytes(8)
    (tmp_path / "a.t7").write_bytes(writer.data)
    with pytest.raises(ValueError, match="its storage does not hold"):
        load(tmp_path / "a.t7")
