"""The door for input files: what is no regular file is refused, and never opened.

Opening a pipe waits until somebody writes to it, a device may do anything, and neither has an end.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class InputFileError(ValueError):
    """A file that cannot be read; the one-line message names it."""


def check_file(path: Path, wanted: str = "file") -> int:
    """The size in bytes of a regular file, or of the one that a symbolic link leads to; nothing is
    opened.

    Args:
        wanted: what the file should be, for the message: "a folder, not a photo".

    Raises:
        InputFileError: there is no such file, it is of another kind (a folder, a pipe, a device, a
            socket), or no file can have that name.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputFileError(f"{path}: no such file") from None
    except OSError as error:
        raise InputFileError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # a name that no file can have
        raise InputFileError(f"{str(path)!r}: {error}") from None
    return _size(path, found, wanted)


def open_file(path: Path, wanted: str = "file") -> IO[bytes]:
    """A regular file, opened for reading.

    Raises:
        InputFileError: as of :func:`check_file`, or it may not be read.
    """
    check_file(path, wanted)
    try:
        file = open(path, "rb", opener=_unwaiting)  # noqa: SIM115 - the caller's to close
    except OSError as error:
        raise InputFileError(f"{path}: {error.strerror}") from None
    try:
        _size(path, os.fstat(file.fileno()), wanted)
    except InputFileError:
        file.close()
        raise
    return file


def read_bytes(path: Path, wanted: str = "file", most: int | None = None) -> bytes:
    """The whole of a regular file.

    Args:
        most: bytes that such a file may have.

    Raises:
        InputFileError: as of :func:`open_file`; it is larger than ``most``, or cannot be read to
            its end.
    """
    with open_file(path, wanted) as file:
        try:
            content = file.read(-1 if most is None else most + 1)
        except OSError as error:
            raise InputFileError(f"{path}: {error.strerror}") from None
    if most is not None and len(content) > most:
        raise InputFileError(f"{path}: more than {most:,} bytes, too large for a {wanted}")
    return content


def read_text(path: Path, wanted: str = "file", most: int | None = None) -> str:
    """The whole of a regular file of UTF-8, with or without a byte order mark.

    Raises:
        InputFileError: as of :func:`read_bytes`, or it is not UTF-8.
    """
    content = read_bytes(path, wanted, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def _unwaiting(path: str, flags: int) -> int:
    """Opens a file; if a pipe has taken its place meanwhile, without waiting for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _size(path: Path, found: os.stat_result, wanted: str) -> int:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
        raise InputFileError(f"{path}: {kind}, not a {wanted}")
    return found.st_size
