"""Arrays in an archive as ``numpy.savez`` writes it, looked at before they are unpacked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from vlcam.utils.files.input_files import open_file

_ARCHIVE = b"PK\x03\x04"
_MOST = 2**30  # bytes of the arrays of one file
_MOST_DIMENSIONS = 8


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that an archive has. No pickle is ever read.

    Raises:
        ValueError: an array holds objects, or does not fit what the archive says of it; or they
            are more than 1 GiB when unpacked.
        OSError: it cannot be read, or is no file.
        Exception: others of zipfile and NumPy, where the archive is damaged.
    """
    with open_file(path) as file:
        if file.read(len(_ARCHIVE)) != _ARCHIVE:
            raise ValueError("no archive of arrays")
        with zipfile.ZipFile(file) as archive:
            members = {
                member.filename.removesuffix(".npy"): member for member in archive.infolist()
            }
            wanted = {name: members[name] for name in names if name in members}
            if sum(member.file_size for member in wanted.values()) > _MOST:
                raise ValueError(f"its arrays take more than {_MOST >> 30} GiB")
            for name, member in wanted.items():
                with archive.open(member) as one:
                    _check_header(name, one, member.file_size)
            found = {}
            for name, member in wanted.items():
                with archive.open(member) as one:
                    found[name] = npy.read_array(one, allow_pickle=False)
            return found


def _check_header(name: str, file: IO[bytes], size: int) -> None:
    """Raises ValueError where an array is no plain one of as many bytes as there are."""
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in read:
        raise ValueError(f"{name} is of version {version} of the format")
    shape, _, kind = read[version](file)
    if kind.hasobject or kind.names or kind.subdtype or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"{name} is no array of numbers")
    if math.prod(shape) * kind.itemsize != size - file.tell():
        raise ValueError(f"{name} of shape {shape} has {size - file.tell()} bytes")
