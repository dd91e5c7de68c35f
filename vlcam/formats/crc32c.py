"""The checksum CRC-32C (Castagnoli) of bytes, fast enough for the weights of a network.

A CRC register is linear in where it starts and in what it is fed. So the bytes are cut into lanes
of equal length whose registers advance side by side, two bytes a step; then neighbouring lanes are
joined in pairs, the left one moved past as many zero bytes as the right one is long.
"""

from __future__ import annotations

from functools import cache, reduce

import numpy as np

_POLYNOMIAL = 0x82F63B78  # bits reversed
_ONES = 0xFFFFFFFF
_START = bytes.fromhex("54641f64")
"""What brings a register of zeros to all ones, where checksums start."""

_SHORTEST = 6  # of a lane's length, as a power of 2
_LANES = 2**14  # at most


def crc32c(data: bytes) -> int:
    """The checksum of bytes."""
    power = _SHORTEST
    while len(_START) + len(data) > _LANES << power:
        power += 1
    lanes = -(-(len(_START) + len(data)) >> power)
    # Zero bytes in front leave a register of zeros as it is.
    values = np.zeros(lanes << power, np.uint8)
    values[len(values) - len(data) :] = np.frombuffer(data, np.uint8)
    values[len(values) - len(data) - len(_START) :][: len(_START)] = list(_START)
    register = np.zeros(lanes, np.uint32)
    for words in np.ascontiguousarray(values.view("<u2").reshape(lanes, -1).T):
        register = _TWO_BYTES[(register ^ words) & 0xFFFF] ^ (register >> np.uint32(16))
    while len(register) > 1:
        if len(register) % 2:
            register = np.concatenate([np.zeros(1, np.uint32), register])
        register = _mapped(_zeros(power), register[::2]) ^ register[1::2]
        power += 1
    return int(register[0]) ^ _ONES


@cache
def _zeros(power: int) -> np.ndarray:
    """What 2^power zero bytes make of each byte of a register, (4, 256); all of it is their sum."""
    if power:
        return _mapped(_zeros(power - 1), _zeros(power - 1))
    alone = np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    return _shifted(alone, 8)


def _mapped(table: np.ndarray, register: np.ndarray) -> np.ndarray:
    parts = (table[i][register >> np.uint32(8 * i) & np.uint32(255)] for i in range(4))
    return reduce(np.bitwise_xor, parts)


def _shifted(register: np.ndarray, bits: int) -> np.ndarray:
    for _ in range(bits):
        register = (register >> np.uint32(1)) ^ np.uint32(_POLYNOMIAL) * (register & np.uint32(1))
    return register


_TWO_BYTES = _shifted(np.arange(2**16, dtype=np.uint32), 16)
