"""Files that are looked at where they lie, without reading them whole."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlcam.utils.files.input_files import open_file

Bytes = bytes | mmap.mmap
"""Those of a file; an empty one cannot be mapped."""


@contextmanager
def mapped(path: Path) -> Iterator[Bytes]:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read, or is no file.
    """
    with open_file(path) as file:
        if not os.fstat(file.fileno()).st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
