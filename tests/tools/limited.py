"""Running a function in a process of its own, with little memory and little time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_PROGRAM = """
import importlib, json, resource, sys
module, name, megabytes, arguments = sys.argv[1:]
function = getattr(importlib.import_module(module), name)
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
limit = now + int(megabytes) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(json.dumps(function(*json.loads(arguments))))
"""


@dataclass(frozen=True)
class Ran:
    """What a function returned, and what its process wrote to standard error."""

    result: Any
    errors: str


def limited(
    function: Callable[..., Any], *arguments: Any, megabytes: int, seconds: float = 120
) -> Ran:
    """Call a function of an importable module in a fresh process.

    Args:
        function: what it takes and returns can be written as JSON.
        megabytes: that its address space may grow by once its module is imported; beyond, memory is
            refused (``MemoryError``).
        seconds: after which it is stopped, and the test fails.
    """
    command = [sys.executable, "-c", _PROGRAM, function.__module__, function.__qualname__]
    ran = subprocess.run(
        [*command, str(megabytes), json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, f"it ended with {ran.returncode}: {ran.stderr[-2000:]}"
    return Ran(json.loads(ran.stdout), ran.stderr)
