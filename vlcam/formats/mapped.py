"""Files that are looked at where they lie, without reading them whole."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Bytes = bytes | mmap.mmap
"""Those of a file; an empty one cannot be mapped."""


@contextmanager
def mapped(path: Path) -> Iterator[Bytes]:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    check_regular(path)
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def check_regular(path: Path) -> None:
    """Raises OSError where there is something else than a file: a folder; or a pipe, whose reader
    would wait for ever."""
    if path.exists() and not path.is_file():
        number = errno.EISDIR if path.is_dir() else errno.ENOTSUP
        raise OSError(number, os.strerror(number), str(path))
