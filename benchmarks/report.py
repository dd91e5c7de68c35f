"""Result files of the evaluation scripts: tables in Markdown, with all it takes to repeat them."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from vlcam.writing import written


def write(path: Path, title: str, parts: Sequence[str], seconds: float) -> None:
    """Print a result and write it to a file, with the command and the versions behind it."""
    names = ("vlcam", "torch", "torchvision", "numpy", "pycocotools")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    script = os.path.relpath(sys.argv[0])
    text = "\n\n".join(
        [
            f"# {title}",
            *parts,
            f"    python {script} {shlex.join(sys.argv[1:])}",
            f"{seconds:.0f} s on {os.cpu_count()} cores ({platform.machine()}); "
            f"Python {platform.python_version()}, {versions}.",
            "± is the standard error, images being the independent draws.",
        ]
    )
    print(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as draft:
        draft.write_text(text + "\n", "utf-8")
    print(f"\nwritten to {path}", file=sys.stderr)
