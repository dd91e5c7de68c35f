"""Ctrl-C ends a program within a second, and nothing is said: it was asked for.

What is interrupted cleans up behind itself, and often in no time. But a thread that computes cannot
be interrupted, nor can a library in the middle of something, and either may take seconds.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from threading import Thread
from types import FrameType
from typing import NoReturn

from vlcam.utils.files.atomic import abandon

EXIT_CODE = 130
"""Of a program that was interrupted, as shells have it."""

_PATIENCE = 0.4  # seconds to clean up


def end_at_once() -> None:
    """Let Ctrl-C end this program within a second, with :data:`EXIT_CODE`."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    # The system writes there even while Python waits for a library.
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, _interrupt)
    Thread(target=_watch, args=(woken,), daemon=True).start()


def end(code: int) -> NoReturn:
    """End a program that has done its work, without taking to pieces what it has imported: that may
    take seconds, and Python does not hear Ctrl-C meanwhile."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def leave() -> NoReturn:
    """End an interrupted program that has cleaned up, whatever its threads are doing."""
    atexit._run_exitfuncs()
    _leave_at_once()


def _leave_at_once() -> NoReturn:
    abandon()
    os._exit(EXIT_CODE)


def _interrupt(signal_: int, frame: FrameType | None) -> NoReturn:
    # Nor may threads and libraries that are cut short complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    raise KeyboardInterrupt


def _watch(woken: int) -> None:
    while os.read(woken, 1) != bytes([signal.SIGINT]):
        pass
    time.sleep(_PATIENCE)
    _leave_at_once()
