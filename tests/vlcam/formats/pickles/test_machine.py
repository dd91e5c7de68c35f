"""Small pickles that ask for much are refused before they get it; all protocols are read."""

from __future__ import annotations

import pickle
import pickletools
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from vlcam.formats.budget import Budget
from vlcam.formats.pickles.machine import _STEPS, Machine
from vlcam.formats.pickles.names import plain_names
from vlcam.formats.restricted_pickle import read_pickle


def doubled(start: bytes, times: int, end: bytes) -> bytes:
    """Each tuple holds the one before twice."""
    return b"\x80\x04" + start + b"2\x86" * times + end


def called(module: str, name: str, arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(" + arguments + b"tR"


def array(shape: bytes, data: bytes = b"C\x00", kind: bytes = b"X\x02\x00\x00\x00f4") -> bytes:
    """NumPy's way to write an array of a shape."""
    numpy = called("numpy", "dtype", kind)
    made = called("numpy._core.multiarray", "_reconstruct", b"")
    return made + b"(K\x01" + shape + numpy + b"\x89" + data + b"tb"


def number(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def large(opcode: bytes, form: str, size: int) -> bytes:
    return opcode + struct.pack(form, size)


BOMBS: dict[str, bytes] = {
    "a million arguments, again and again": b"\x80\x02("
    + b"N" * 10**6
    + b"tq\x000("
    + b"ccollections\ndefaultdict\nh\x00R" * 20_000
    + b"l.",
    "a memo of 4 thousand million places": b"Nr\xff\xff\xff\xff0N.",
    "a memo of more places than there are bytes": b"Np99999999999999999999\n.",
    "an array of nothing": b"\x80\x04" + array(b"(" + number(2**40) + b"K\x00t") + b".",
    "an array of nothing, in many dimensions": b"\x80\x04"
    + array(b"(" + b"M\xff\xff" * 20 + b"K\x00t") + b".",
    "a key of doubled tuples": doubled(b"}K\x01", 60, b"K\x01s."),
    "a member of doubled tuples": doubled(b"(K\x01", 60, b"\x91."),
    "doubled tuples": doubled(b"K\x01", 60, b"."),
    "a text of doubled tuples": doubled(b"cbuiltins\nstr\nK\x01", 60, b"\x85R."),
    "doubled lists": b"\x80\x04]q\x00K\x01a"
    + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(60)) + b".",
    "a list in itself": b"\x80\x04]2a.",
    "a dictionary in itself": b"\x80\x04}K\x012q\x000N}q\x01K\x01h\x01s.",
    "lists in lists": b"\x80\x04" + b"]" * 5000 + b"a" * 4999 + b".",
    "a number of a gigabyte": b"\x80\x04" + large(b"\x8b", "<i", 2**30) + b".",
    "a number of a megabyte": b"\x80\x04" + large(b"\x8b", "<i", 2**20) + b"\x01" * 2**20 + b".",
    "a number of many digits": b"L" + b"7" * 100_000 + b"L\n.",
    "a text beyond its end": b"\x80\x04" + large(b"\x8d", "<Q", 2**60) + b".",
    "bytes beyond their end": b"\x80\x05" + large(b"\x8e", "<Q", 2**60) + b".",
    "changeable bytes beyond their end": b"\x80\x05" + large(b"\x96", "<Q", 2**60) + b".",
    "a frame beyond its end": b"\x80\x04" + large(b"\x95", "<Q", 2**60) + b"N.",
    "bytes of less than nothing": b"\x80\x04" + large(b"T", "<i", -5) + b".",
    "many sets": b"\x80\x04(" + b"\x8f" * 400_000 + b"l.",
    "a text encoded again and again": b"\x80\x04X" + struct.pack("<I", 2**20) + b"x" * 2**20
    + b"q\x000(" + b"c_codecs\nencode\nh\x00\x8c\x06latin1\x86R" * 5000 + b"l.",
    "attributes set again and again": b"\x80\x04}("
    + b"".join(b"\x8c\x04%04d" % i + b"N" for i in range(9999)) + b"uq\x000("
    + b"cargparse\nNamespace\n)\x81h\x00b" * 20_000 + b"l.",
    "dictionaries copied again and again": b"\x80\x04}(" + b"".join(
        b"\x8c\x04%04d" % i + b"N" for i in range(9999)
    ) + b"uq\x000(" + b"ccollections\nCounter\nh\x00\x85R" * 20_000 + b"l.",
    "a text of a terabyte": b"\x80\x04" + array(b"K\x01\x85", b"C\x00", b"\x8c\x0aU999999999")
    + b".",
    "keys that are numbers of one hash": b"\x80\x04}("
    + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(2000)) + b"u.",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_at_once(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.pkl"
    path.write_bytes(BOMBS[name])
    with pytest.raises(ValueError, match=r"bomb\.pkl: ") as error:
        read_pickle(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def machine(data: bytes) -> Machine:
    budget = Budget(len(data))
    names = plain_names(budget)
    return Machine(data, budget, lambda module, name: names[module, name])


def test_every_instruction_of_every_protocol_is_known() -> None:
    assert set(_STEPS) == {ord(known.code) for known in pickletools.opcodes} - {ord(".")}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_random_data_is_read_as_python_reads_it(protocol: int) -> None:
    random_ = random.Random(0)

    def made(depth: int) -> Any:
        plain = (
            None,
            True,
            -1,
            255,
            256,
            -(2**31),
            2**62,
            1.5,
            "caf\xe9 \n'\"",
            "\u2603",
            b"\xff\n",
        )
        kind = random_.randrange(6 if depth else 1)
        if kind == 0:
            return random_.choice(plain)
        if kind == 1:
            return {random_.choice(plain): made(depth - 1) for _ in range(random_.randrange(5))}
        if kind == 2:
            return set(random_.sample(plain, 3))
        values = [made(depth - 1) for _ in range(random_.randrange(5))]
        return [values, tuple(values), [values, values]][kind - 3]

    for _ in range(200):
        data = made(3)
        assert machine(pickle.dumps(data, protocol)).load() == data


def test_several_pickles_lie_behind_each_other() -> None:
    pickles = machine(pickle.dumps([1], 0) + pickle.dumps({"a": "b"}, 2) + b"rest")
    assert [pickles.load(), pickles.load()] == [[1], {"a": "b"}]
    assert pickles._data[pickles.at :] == b"rest"


def test_a_large_vocabulary_is_within_the_limits(tmp_path: Path) -> None:
    """200,000 words both ways, with their counts and 50 captions of each of 2000 photos."""
    words = {f"w{i:x}": i for i in range(200_000)}
    data = {
        "word2idx": words,
        "idx2word": {i: w for w, i in words.items()},
        "captions": [[("a", "b", i) for _ in range(50)] for i in range(2000)],
    }
    (tmp_path / "vocab.pkl").write_bytes(pickle.dumps(data))
    assert read_pickle(tmp_path / "vocab.pkl") == data
