"""The command line as a user calls it, on the bundled model and photos."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import captioning
import vlcam
from vlcam.cli.parser import main

REPOSITORY = Path(vlcam.__file__).parent.parent
PHOTOS = sorted((REPOSITORY / "vlcam" / "bundled" / "photos").iterdir())
PHOTO = PHOTOS[0]
OF_SCENES = ("--model", "scenes")
"""The models that know those photos, rendered scenes, and are not the default."""
SCENES = Path(captioning.__file__).parent / "bundled" / "scenes"
FILES = ["explanation.json", "figure.png", "maps.npz", "page.html"]


def called(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as left:
        assert isinstance(left.code, int)
        return left.code


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command says before it fails."""
    capsys.readouterr()
    assert called(*arguments) in (1, 2)
    told = capsys.readouterr()
    assert told.out == "" and told.err.endswith("\n") and len(told.err.splitlines()) == 1
    assert told.err.startswith("vlcam")
    return told.err


def below(folder: Path) -> list[str]:
    """Everything in a folder, hidden or not."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def read(folder: Path) -> dict[str, Any]:
    data = json.loads((folder / "explanation.json").read_text("utf-8"))
    assert isinstance(data, dict)
    return data


class Payload:
    """Pickled, a program that makes a file."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.ran}'",)


DEPTHS = ["stem", "stage1", "stage2", "stage3", "stage4.0", "stage4"]
