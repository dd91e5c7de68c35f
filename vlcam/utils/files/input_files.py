"""The door for input files: what is no regular file is refused, and never opened.

Opening a pipe waits until somebody writes to it, a device may do anything, and neither has an end.
What is wrong is an ``OSError`` that names the file, as of the functions of :class:`pathlib.Path`
in whose place these stand.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_file(path: Path, wanted: str = "file") -> int:
    """The size in bytes of a regular file, or of the one that a symbolic link leads to; nothing is
    opened.

    Args:
        wanted: what the file should be, for the message: "a pipe, not a photo".

    Raises:
        OSError: there is no such file, or it is of another kind: a folder, a pipe, a device, a
            socket.
    """
    return _size(path, path.stat(), wanted)


def open_file(path: Path, wanted: str = "file") -> IO[bytes]:
    """A regular file, opened for reading.

    Raises:
        OSError: as of :func:`check_file`, or it may not be read.
    """
    check_file(path, wanted)
    file = open(path, "rb", opener=_unwaiting)  # noqa: SIM115 - the caller's to close
    try:
        _size(path, os.fstat(file.fileno()), wanted)
    except OSError:
        file.close()
        raise
    return file


def read_bytes(path: Path, wanted: str = "file") -> bytes:
    """The whole of a regular file.

    Raises:
        OSError: as of :func:`open_file`, or it cannot be read to its end.
    """
    with open_file(path, wanted) as file:
        return file.read()


def _unwaiting(path: str, flags: int) -> int:
    """Opens a file; if a pipe has taken its place meanwhile, without waiting for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _size(path: Path, found: os.stat_result, wanted: str) -> int:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
        raise OSError(errno.EINVAL, f"{kind}, not a {wanted}", str(path))
    return found.st_size
