"""Whatever a file says, its reader gives a result or one line, soon, within its memory, and runs
nothing: see :mod:`tests.tools.fuzzing`, which reads as many mutations as are wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

MUTATIONS = os.environ.get("VLCAM_MUTATIONS", "30")


def test_mutated_files_are_read_or_refused_in_one_line() -> None:
    """A tenth as many for readers of whole models."""
    command = [sys.executable, "-m", "tests.tools.fuzzing", "--mutations", MUTATIONS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "0 failures" in done.stdout
