"""Keeping freed memory for the next batch.

The feature maps of a batch take tens of megabytes. By default glibc asks the system for each such
block and gives it back once it is freed; the system clears every page of it each time, and
interrupts the other threads. In evaluations with several threads this takes a sixth of the time
(docs/scale.md).
"""

from __future__ import annotations

import ctypes
import os
import platform

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8

_KEPT = 2**30  # bytes free at the heap's end
_LARGEST = 2**28  # larger blocks go back to the system at once


def keep_freed_memory() -> None:
    """From now on this process keeps freed memory, up to 1 GiB, and uses it again.

    Only for processes of our own, as it affects all that runs in them. Does nothing where the
    environment says how memory is to be allocated, or where the C library is not glibc.
    """
    chosen = any(
        name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")) for name in os.environ
    )
    if chosen or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # Threads' own arenas hold no blocks of more than 32 MiB.
    for parameter, value in (
        (_ARENA_MAX, 1),
        (_MMAP_THRESHOLD, _LARGEST),
        (_TRIM_THRESHOLD, _KEPT),
    ):
        mallopt(parameter, value)
