"""How much memory and time the reading of one file may take."""

from __future__ import annotations

import time

_LEAST, _MOST = 2**26, 2**29  # bytes
_TIMES = 24  # bytes in memory for each of a file: short texts take that many
_LONGEST = 30.0  # seconds of the processor


class TooMuchError(ValueError):
    """A file asks for more than its size gives reason to."""


class Budget:
    """The memory that the objects made from a file of plain values may take, by a rough count, and
    the time.

    Numbers of tensors are not counted here: they take as much in memory as in the file.

    Args:
        size: of the file, in bytes: 64 MiB and 24 bytes for each of these are allowed, but no more
            than 512 MiB; and half a minute of the processor.
    """

    def __init__(self, size: int) -> None:
        self.allowed = min(_MOST, _LEAST + _TIMES * size)
        self.left = self.allowed
        self._until = time.thread_time() + _LONGEST
        self._size = size

    def take(self, bytes_: int) -> None:
        """Before so many bytes are allocated.

        Raises:
            TooMuchError: they are too many.
        """
        self.left -= bytes_
        if self.left < 0:
            raise TooMuchError(
                f"its {self._size} bytes ask for more than {self.allowed >> 20} MiB of memory"
            )

    def check_time(self) -> None:
        """Raises TooMuchError where the time is up."""
        if time.thread_time() > self._until:
            raise TooMuchError(f"its {self._size} bytes take more than {_LONGEST:.0f} s to read")
