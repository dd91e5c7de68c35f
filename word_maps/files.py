"""Reading files that others name: pipes and devices, which may have no end, are refused."""

from __future__ import annotations

import errno
from pathlib import Path


def read(path: Path) -> bytes:
    """The whole of a file.

    Raises:
        OSError: naming the file: it is missing, or a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "a pipe or a device, not a file", str(path))
    return path.read_bytes()
