"""Ctrl-C, sent to a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import signal, sys, threading, time
from vlcam.utils.terminal.interrupt import end_at_once
from vlcam.utils.files.atomic import written

end_at_once()
threading.Thread(target=time.sleep, args=(60,)).start()  # which the program would wait for
with written(sys.argv[1]) as draft:
    draft.write_text("half")
    print("ready", flush=True)
    while True:  # as a library may
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("Traceback", file=sys.stderr, flush=True)
"""


def test_nothing_can_hold_it_up(tmp_path: Path) -> None:
    """Neither a thread that computes, nor a library that does not let it through; what was being
    written is removed, and nothing said."""
    path = tmp_path / "file"
    path.write_text("old")
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM, path]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        told, complaints = process.communicate(timeout=30)
        took = time.monotonic() - started
    assert (process.returncode, told, complaints) == (130, "", "")
    assert took < 20  # or it had waited for them
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file"]
