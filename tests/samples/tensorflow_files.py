"""Writing TensorFlow checkpoints of version 2 byte by byte, for tests of what reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

MAGIC = 0xDB4775248B80FB57
KINDS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}

_TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    _TABLE.append(_byte)


def crc32c(data: bytes) -> int:
    """One byte after the other."""
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ _TABLE[(register ^ byte) & 255]
    return register ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    checksum = crc32c(data)
    return ((checksum >> 15) | (checksum << 17)) + 0xA282EAD8 & 0xFFFFFFFF


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def entry(kind: int, shape: tuple[int, ...], shard: int, offset: int, data: bytes) -> bytes:
    """A variable's place, as a protocol buffer; what is 0 is left out, as they do."""
    sizes = b"".join(field(2, field(1, n) if n else b"") for n in shape)
    result = field(1, kind) + field(2, sizes)
    for number, value in ((3, shard), (4, offset), (5, len(data))):
        result += field(number, value) if value else b""
    return result + varint(6 << 3 | 5) + struct.pack("<I", masked(data))


def block(pairs: list[tuple[bytes, bytes]], interval: int) -> bytes:
    """Keys share their beginnings, but for every ``interval``-th."""
    data, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(pairs):
        shared = 0
        if i % interval == 0:
            restarts.append(len(data))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        data += varint(shared) + varint(len(key) - shared) + varint(len(value))
        data += key[shared:] + value
        last = key
    restarts = restarts or [0]
    return data + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(pairs: list[tuple[bytes, bytes]], per_block: int = 40, interval: int = 16) -> bytes:
    """A file of sorted keys and values."""
    data, index = b"", []

    def append(content: bytes) -> bytes:
        nonlocal data
        handle = varint(len(data)) + varint(len(content))
        data += content + b"\0" + struct.pack("<I", masked(content + b"\0"))
        return handle

    for start in range(0, len(pairs), per_block):
        some = pairs[start : start + per_block]
        index.append((some[-1][0], append(block(some, interval))))
    handles = append(block([], 1)) + append(block(index, 1))
    return data + handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def save(
    prefix: Path,
    variables: dict[str, np.ndarray],
    shards: int = 1,
    per_block: int = 40,
    interval: int = 16,
) -> Path:
    """Write a checkpoint, its variables dealt out to the shards one after the other."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    files = [b""] * shards
    pairs = {b"": field(1, shards) + field(3, field(1, 1))}
    for number, (name, values) in enumerate(sorted(variables.items())):
        shard, data = number % shards, values.tobytes()
        kind = KINDS[str(values.dtype)]
        pairs[name.encode()] = entry(kind, values.shape, shard, len(files[shard]), data)
        files[shard] += data
    for shard, data in enumerate(files):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}").write_bytes(data)
    index = table(sorted(pairs.items()), per_block, interval)
    prefix.with_name(f"{prefix.name}.index").write_bytes(index)
    return prefix
