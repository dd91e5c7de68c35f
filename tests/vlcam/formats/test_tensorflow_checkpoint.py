"""TensorFlow's checkpoints of version 2: read as they were written, or refused in one line."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.samples.tensorflow_files import MAGIC, crc32c, entry, field, masked, save, table, varint
from vlcam.formats.tensorflow_checkpoint import _checksum, read_checkpoint

VARIABLES = {
    "global_step": np.array(12345),
    "a/conv/weights": np.random.default_rng(0).normal(size=(3, 3, 2, 5)).astype(np.float32),
    "a/conv/weights/Momentum": np.zeros((3, 3, 2, 5), np.float16),
    "a/conv/biases": np.arange(5.0),
    "a/copy": np.arange(7, dtype=np.int32),
    "b/empty": np.zeros((0, 4), np.float32),
    **{f"b/many_{i}": np.full(i, i, np.float16) for i in range(60)},
}


def test_checksum_of_known_bytes() -> None:
    """The first from the catalogue of CRCs, the others from RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


def test_checksum_is_that_of_one_byte_after_the_other() -> None:
    random = np.random.default_rng(0)
    for length in (0, 1, 2, 63, 64, 65, 1000, 4097, 30_001):
        data = random.bytes(length)
        assert _checksum(data) == masked(data), length


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("per_block", "interval"), [(1, 1), (7, 3), (40, 16), (1000, 1000)])
def test_variables_are_read_as_written(
    tmp_path: Path, shards: int, per_block: int, interval: int
) -> None:
    prefix = save(tmp_path / "model.ckpt-7", VARIABLES, shards, per_block, interval)
    found = read_checkpoint(prefix)
    assert found.prefix == prefix and found.shards == shards
    assert list(found.variables) == sorted(VARIABLES)
    for name, values in VARIABLES.items():
        read = found.read(name)
        assert read.dtype == values.dtype and read.shape == values.shape
        np.testing.assert_array_equal(read, values)


def test_any_of_its_files_will_do(tmp_path: Path) -> None:
    prefix = save(tmp_path / "model.ckpt-7", {"a": np.ones(3)}, shards=2)
    (tmp_path / "model.ckpt-7.meta").write_bytes(b"a graph")
    for name in ("", ".index", ".data-00000-of-00002", ".data-00001-of-00002"):
        assert read_checkpoint(tmp_path / f"model.ckpt-7{name}").prefix == prefix
    assert read_checkpoint(tmp_path).prefix == prefix


@pytest.mark.parametrize("named", ["new", "/home/someone/train/new", "C:\\\\train\\\\new"])
def test_of_several_the_one_that_the_state_names(tmp_path: Path, named: str) -> None:
    for name in ("new", "newer", "old"):
        save(tmp_path / name, {"a": np.ones(3)})
    state = tmp_path / "checkpoint"
    with pytest.raises(ValueError, match=r"several checkpoints \(new, newer, old\).*no file check"):
        read_checkpoint(tmp_path)
    state.write_text('all_model_checkpoint_paths: "old"\nmodel_checkpoint_path: "gone"\n')
    with pytest.raises(ValueError, match=r"checkpoint names gone; give one"):
        read_checkpoint(tmp_path)
    state.write_text(f'model_checkpoint_path: "{named}"\nall_model_checkpoint_paths: "old"\n')
    assert read_checkpoint(tmp_path).prefix == read_checkpoint(state).prefix == tmp_path / "new"
    assert read_checkpoint(tmp_path / "old").prefix == tmp_path / "old"


def test_a_checkpoint_of_version_1_is_to_be_converted(tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt-7"
    file.write_bytes(table([(b"", b"everything"), (b"x", b"y")]))
    for path in (file, tmp_path):
        with pytest.raises(ValueError, match=r"model\.ckpt-7: .*version 1.*convert"):
            read_checkpoint(path)


def with_index(pairs: dict[bytes, bytes]) -> Callable[[Path], None]:
    """Another index; the header is that of one data file, if none is given."""
    whole = {b"": field(1, 1)} | pairs

    def apply(folder: Path) -> None:
        (folder / "model.index").write_bytes(table(sorted(whole.items())))

    return apply


def edited(suffix: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / f"model.{suffix}"
        path.write_bytes(change(path.read_bytes()))

    return apply


def compressed(data: bytes) -> bytes:
    """The first block marked so, with a right checksum."""
    first = block_end(data)
    changed = data[:first] + b"\1"
    return changed + struct.pack("<I", masked(changed)) + data[first + 5 :]


def block_end(data: bytes) -> int:
    """The end of the first block, by its own trailer."""
    for end in range(8, len(data)):
        if data[end] == 0 and struct.pack("<I", masked(data[: end + 1])) == data[end + 1 : end + 5]:
            return end
    raise AssertionError


DATA = "data-00000-of-00001"
FOUR = struct.pack("<4f", 1, 2, 3, 4)
PROBLEMS: dict[str, Callable[[Path], None]] = {
    "model.index: no such file": lambda f: (f / "model.index").unlink(),
    "model.data-00000-of-00001: no such file": lambda f: (f / f"model.{DATA}").unlink(),
    "'a' is cut short": edited(DATA, lambda d: d[:-4]),
    "'a' is damaged: its checksum": edited(DATA, lambda d: d[:-1] + b"\x7f"),
    "its end is missing": edited("index", lambda d: d[:-30]),
    "the block at byte 0 is damaged": edited("index", lambda d: d[:9] + b"\xff" + d[10:]),
    "compressed by Snappy": edited("index", compressed),
    "beyond its end": lambda f: (f / "model.index").write_bytes(
        (varint(0) * 2 + varint(900) + varint(9)).ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    ),
    "big-endian": with_index({b"": field(1, 1) + field(2, 1)}),
    "0 data files": with_index({b"": b""}),
    "in slices": with_index({b"a": entry(1, (4,), 0, 0, FOUR) + field(7, b"")}),
    "of TensorFlow's type 7": with_index({b"a": entry(7, (4,), 0, 0, FOUR)}),
    "'a' of shape (5,) has 16 bytes": with_index({b"a": entry(1, (5,), 0, 0, FOUR)}),
    "in data file 1": with_index({b"a": entry(1, (4,), 1, 0, FOUR)}),
    "a variable of shape": with_index({b"a": entry(1, (2**40, 2**40), 0, 0, b"")}),
    "a field of kind 3": with_index({b"a": varint(8 << 3 | 3)}),
    "a field beyond its end": with_index({b"a": varint(2 << 3 | 2) + varint(99)}),
    "a number of more than ten bytes": with_index({b"a": varint(8) + b"\xff" * 12}),
    "a number beyond its end": with_index({b"a": varint(8) + b"\xff"}),
    "bytes where a number should be": with_index({b"a": field(1, b"4")}),
    "can't decode": with_index({b"\xff": entry(1, (4,), 0, 0, FOUR)}),
    "not in order": lambda f: (f / "model.index").write_bytes(
        table([(b"", field(1, 1)), (b"b", b""), (b"a", b"")])
    ),
}


@pytest.mark.parametrize("message", PROBLEMS)
def test_damage_is_named_in_one_line(tmp_path: Path, message: str) -> None:
    save(tmp_path / "model", {"a": np.array([1, 2, 3, 4], np.float32)})
    assert read_checkpoint(tmp_path / "model").read("a").sum() == 10
    PROBLEMS[message](tmp_path)
    with pytest.raises(ValueError) as error:
        read_checkpoint(tmp_path / "model").read("a")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path / "model") in str(error.value)


def test_whatever_is_in_an_index_nothing_but_a_value_error(tmp_path: Path) -> None:
    """Cut anywhere, or with wrong bytes whose checksums are right."""
    prefix = save(tmp_path / "model", VARIABLES, per_block=12, interval=4)
    index = tmp_path / "model.index"
    whole = index.read_bytes()
    for end in range(0, len(whole), 13):
        index.write_bytes(whole[:end])
        with pytest.raises(ValueError):
            read_checkpoint(prefix)
    random = np.random.default_rng(0)
    first = block_end(whole)
    refused = 0
    for _ in range(150):
        block = bytearray(whole[:first])
        for at in random.integers(0, first, 3):
            block[at] = random.integers(0, 256)
        checksum = struct.pack("<I", masked(bytes(block) + b"\0"))
        index.write_bytes(bytes(block) + b"\0" + checksum + whole[first + 5 :])
        try:
            found = read_checkpoint(prefix)
            for name in found.variables:
                found.read(name)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no TensorFlow checkpoint"):
        read_checkpoint(tmp_path)


def test_an_index_that_lies_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """Two names of the same numbers; one of more than its file has."""
    data = np.ones(8, np.float32).tobytes()
    prefix = save(tmp_path / "model.ckpt", {"a": np.ones(8, np.float32)})
    header = {b"": field(1, 1) + field(3, field(1, 1))}
    one = entry(1, (8,), 0, 0, data)
    lies = {"its variables overlap": {b"a": one, b"b": entry(1, (4,), 0, 16, data[:16])}}
    for said, pairs in lies.items():
        prefix.with_name("model.ckpt.index").write_bytes(table(sorted((header | pairs).items())))
        with pytest.raises(ValueError, match=rf"model\.ckpt\.index: .*{said}"):
            read_checkpoint(prefix)
    prefix.with_name("model.ckpt.index").write_bytes(table(sorted((header | {b"a": one}).items())))
    prefix.with_name("model.ckpt.data-00000-of-00001").write_bytes(data[:-1])
    with pytest.raises(ValueError, match="cut short"):
        read_checkpoint(prefix).check("a")
