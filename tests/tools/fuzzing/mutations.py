"""Mutations of files: of their bytes, and of what the bytes mean (instructions, JSON, archives)."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import struct
import zipfile
from random import Random
from typing import Any

_FORMS = ("<B", "<H", "<i", "<I", "<q", "<Q", "<d", "<f", ">d")
_NUMBERS = (0, 1, 2, 7, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**60, 2**63 - 1)
_OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 3, 10**9, 2**70, 1.5, 1e308, float("nan"), float("inf"), "", "x", "UNK",
    "../x", "\ud800", "a\nb", "x" * 2000, [], [[]], {}, {"x": 1}, [1, 2], ["a"], [None] * 50,
)  # fmt: skip


def mutated(random: Random, data: bytes) -> bytes:
    """Another file, not far from the one with these bytes."""
    ways = [_of_bytes]
    if data[:4] == b"PK\x03\x04":
        ways += [_of_archive] * 3
    if data[:1] in (b"{", b"["):
        ways += [_of_json] * 3
    if data[:1] in (b"\x80", b"(", b"c", b"}", b"]"):
        ways += [_of_instructions] * 3
    if data[:2] == b"\x80\x02" and b"storage" in data:
        ways += [_of_stream] * 3
    if data[8:9] == b"{":
        ways += [_of_safetensors] * 3
    try:
        return random.choice(ways)(random, data)
    except (ValueError, IndexError, zipfile.BadZipFile, struct.error, EOFError):
        return _of_bytes(random, data)  # it was not what it seemed to be


def _of_bytes(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        way, at = random.randrange(7), random.randrange(len(changed) + 1)
        if way == 0 and changed:
            changed[at % len(changed)] ^= 1 << random.randrange(8)
        elif way == 1:
            changed[at : at + 1] = bytes([random.randrange(256)])
        elif way == 2:
            number = _number(random)
            changed[at : at + len(number)] = number
        elif way == 3:
            del changed[at : at + random.choice((1, 4, 8, 100))]
        elif way == 4:
            piece = changed[at : at + random.choice((1, 4, 8, 100))]
            changed[at:at] = piece * random.choice((1, 2, 50))
        elif way == 5 and random.random() < 0.2:
            del changed[at:]
        else:
            other = random.randrange(len(changed) + 1)
            changed[at : at + 40] = changed[other : other + 40]
    return bytes(changed)


def _number(random: Random) -> bytes:
    form = random.choice(_FORMS)
    size = 8 * struct.calcsize(form)
    number = random.choice(_NUMBERS)
    if form[1] in "df":
        return struct.pack(form, random.choice((0.0, -1.0, 1e30, float("nan"), float("inf"))))
    number %= 2**size
    if form[1] in "iq" and number >= 2 ** (size - 1):
        number -= 2**size
    return struct.pack(form, number)


# --- pickles


def _instructions(data: bytes) -> list[bytes]:
    ends = [at for _, _, at in pickletools.genops(data) if at is not None]
    return [data[a:b] for a, b in zip(ends, [*ends[1:], len(data)], strict=True)]


def _of_instructions(random: Random, data: bytes) -> bytes:
    steps = _instructions(data)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        at, other = random.randrange(len(steps)), random.randrange(len(steps))
        way = random.randrange(7)
        if way == 0:
            del steps[at]
        elif way == 1:
            steps[at:at] = steps[other : other + random.choice((1, 2, 5, 20))]
        elif way == 2:
            steps[at], steps[other] = steps[other], steps[at]
        elif way == 3:
            steps[at] = random.choice(_OPCODES) + random.choice((b"", _number(random)))
        elif way == 4:
            steps[at:at] = [pickle.dumps(random.choice(_ODD), 2)[2:-1]]
        elif way == 5:
            steps[at:at] = random.choice(_ATTACKS)
        else:
            steps[at] = steps[at][:1] + random.choice((_number(random), steps[other][1:]))
        steps = steps or [b"N"]
    return b"".join(steps)


_ATTACKS: tuple[list[bytes], ...] = (
    [b"0", b"N", b"2", b"\x86"] + [b"2", b"\x86"] * 40,
    [b"0", b"]", b"2", b"a"],
    [b"2", b"Q"],
    [b"0", b"cposix\nsystem\n", b"X\x01\x00\x00\x00x", b"\x85", b"R"],
    [b"0", b"c__builtin__\nstr\n", b"N", b"\x85", b"R"],
    [b"0", b"c_codecs\nencode\n", b"X\x01\x00\x00\x00x", b"X\x03\x00\x00\x00zip", b"\x86", b"R"],
    [b"0", b"cnumpy.core.multiarray\n_reconstruct\n", b")", b"R"],
    [b"0", b"ctorch.nn\nLinear\n", b")", b"\x81", b"]", b"b"],
    [b"}", b"b"],
    [b"r\xff\xff\xff\xff"],
    [b"\x8f"] * 50,
)


def generated(random: Random) -> bytes:
    """A pickle of random instructions, which mostly find what they need on the stack."""
    simple = (b"N", b"\x88", b")", b"]", b"}", b"\x8f", b"K\x05", b"G" + b"\x00" * 8, b"(",
              b"U\x01a", b"C\x01b", b"X\x01\x00\x00\x00c", b"\x8a\x01\x07", b"I01\n", b"F1.5\n",
              b"S'x'\n", b"Vy\n", b"cargparse\nNamespace\n", b"ccollections\nOrderedDict\n",
              b"cnumpy\ndtype\n", b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
              b"cmodels\nNet\n", b"\x94", b"q\x00", b"h\x00", b"2")  # fmt: skip
    steps = [random.choice(simple) for _ in range(random.randrange(1, 30))]
    for _ in range(random.randrange(30)):
        steps.insert(random.randrange(len(steps) + 1), random.choice(_OPCODES))
    if random.random() < 0.2:
        steps *= random.choice((2, 50, 500))
    return b"\x80\x04" * random.randrange(2) + b"".join(steps) + b"."


def _of_stream(random: Random, data: bytes) -> bytes:
    """A mutation of the fourth pickle of the layout that torch.save once had, which is the data."""
    file = io.BytesIO(data)
    starts = []
    for _ in range(4):
        starts.append(file.tell())
        for _ in pickletools.genops(file):
            pass
    at, end = starts[3], file.tell()
    return data[:at] + _of_instructions(random, data[at:end]) + data[end:]


# --- archives, JSON


def _of_archive(random: Random, data: bytes) -> bytes:
    """A mutation of one of its files, with a right checksum; or of what it says of them."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(member, archive.read(member)) for member in archive.infolist()]
    changed = random.randrange(len(members))
    packed = random.random() < 0.1
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, (member, content) in enumerate(members):
            if number == changed:
                content = _of_member(random, member.filename, content)
            kind = zipfile.ZIP_DEFLATED if packed else member.compress_type
            archive.writestr(member.filename, content, kind)
            if number == changed and random.random() < 0.05:
                archive.writestr(f"{member.filename}/more", content)
    return file.getvalue()


_SHAPES = (
    *("(1000000000, 1000)", "(0, 1099511627776)", "(-1,)", "()", "(1, 2.5)", "[2]", "(9, 9)"),
    "(" + "1, " * 60 + ")",
)


def _of_member(random: Random, name: str, content: bytes) -> bytes:
    if name.endswith(".npy") and random.random() < 0.7:
        shape = random.choice(_SHAPES)
        kind = random.choice(("<f4", "|O", "|u1", "<U999999", "V0", "<f8", "x"))
        header = (
            f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
        )
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content[-64:]
    if random.random() < 0.05:
        return bytes(2**24)  # next to nothing when it is packed
    return mutated(random, content) if content else _number(random)


def _of_json(random: Random, data: bytes) -> bytes:
    tree = json.loads(data)
    for _ in range(random.choice((1, 1, 2))):
        tree = _changed(random, tree)
    text = json.dumps(tree)
    if random.random() < 0.03:
        text = "[" * 100_000 + text
    return text.encode()


def _changed(random: Random, tree: Any) -> Any:
    """A tree with one value in it, or the whole, replaced, left out or repeated."""
    if not isinstance(tree, dict | list) or not tree or random.random() < 0.1:
        return random.choice(_ODD)
    place = random.choice(list(tree)) if isinstance(tree, dict) else random.randrange(len(tree))
    way = random.randrange(8)
    if way == 0:
        tree.pop(place)
    elif way == 1 and isinstance(tree, dict):
        tree[random.choice(("x", "", "words"))] = tree[place]
    elif way == 1:
        tree.insert(0, tree[place])
    else:
        tree[place] = _changed(random, tree[place])
    return tree


def _of_safetensors(random: Random, data: bytes) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = _of_json(random, data[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + data[8 + length :]
