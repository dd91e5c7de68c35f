"""Freed memory is used again, in processes of our own, unless somebody has said otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap

import pytest

AGAIN = textwrap.dedent(
    """
    import resource, sys, threading
    from vlcam.utils.allocator import keep_freed_memory
    if sys.argv[1] == "keep":
        keep_freed_memory()
    import torch

    def block():
        torch.ones(10 * 2**20)  # of 40 MiB: up to 32 the C library may keep one by itself

    def pages():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    for _ in range(10):
        block()
    before = pages()
    for _ in range(10):
        block()
    threads = [threading.Thread(target=block) for _ in range(10)]
    for thread in threads:
        thread.start()
        thread.join()
    print(pages() - before)
    """
)


def pages(how: str, **environment: str) -> int:
    """Pages that the system gave for twenty blocks of 40 MiB, one after the other."""
    out = subprocess.run(
        [sys.executable, "-c", AGAIN, how],
        env={**os.environ, "THP_MEM_ALLOC_ENABLE": "0", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(out.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not of this C library")
def test_freed_memory_is_kept() -> None:
    of_a_block = 40 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    usual = pages("usual")
    assert usual > 17 * of_a_block
    assert pages("keep") < 5 * of_a_block
    assert pages("keep", MALLOC_ARENA_MAX="8") > 17 * of_a_block
