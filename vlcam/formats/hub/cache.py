"""The hub's local cache, told from the disk alone: what is whole there needs no network.

Its layout is ``models--OWNER--NAME/snapshots/COMMIT/...``, with the commit in ``refs/main``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from vlcam.formats.hub import files

_COMMIT = re.compile(r"\w[\w.-]*")
_FOLDER = re.compile(r"models--(?P<owner>.+?)--(?P<name>.+)")


def place() -> Path:
    """Where the cache is: ``$HF_HUB_CACHE``, ``$HF_HOME/hub``, or in the user's own cache."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def snapshot(repository: str) -> Path | None:
    """The folder of a repository's files, whole or not; None where there is none."""
    home = place() / f"models--{repository.replace('/', '--')}"
    try:
        commit = (home / "refs" / "main").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    folder = home / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and folder.is_dir() else None


def cached(repository: str) -> Path | None:
    """The folder of a repository's files; None where they are not all in the cache."""
    folder = snapshot(repository)
    return folder if folder is not None and not missing(folder) else None


def missing(folder: Path) -> list[str]:
    """What a snapshot lacks, as an interrupted download leaves it: texts that the repository has
    (where that was noted), or "weights"."""
    there = {path.name for path in folder.iterdir() if path.is_file()}  # no links to nowhere
    lacking = [name for name in files.texts(_listed(folder)) if name not in there]
    if not files.weights(there):
        lacking.append("weights")
    return lacking if "config.json" in there else ["config.json", *lacking]


def repository_of(folder: Path) -> str | None:
    """The repository that a folder of the cache is a snapshot of; None where it is none."""
    home = folder.resolve()
    found = _FOLDER.fullmatch(home.parent.parent.name)
    return (
        f"{found['owner']}/{found['name']}" if found and home.parent.name == "snapshots" else None
    )


def _listed(folder: Path) -> list[str]:
    """All files of that commit, which newer versions of huggingface_hub note beside it."""
    found = _json(folder.parent.parent / "trees" / f"{folder.name}.json").get("files")
    return list(found) if isinstance(found, dict) else []


def _json(path: Path) -> dict[str, Any]:
    """An object of a file; empty where there is none: who reads the model tells of damage."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
