"""``vlcam scenes``: what cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.command_line import below, refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new", "--images", "0"), "'0' is not a whole number"),
        (("new", "--images", "-1"), "'-1' is not a whole number"),
        (("new", "--images", "1", "--seed", "-1"), "'-1' is not a whole number, at least 0"),
        (("new", "--images", "few"), "'few'"),
        (("new",), "--images"),
        (("full", "--images", "1"), "full already exists and is not empty"),
        (("full/file", "--images", "1"), "full/file already exists"),
        (("full/file/new", "--images", "1"), "full/file: "),
    ],
)
def test_scenes_that_cannot_be_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert said in refused(capsys, "scenes", *arguments)
    assert below(tmp_path) == ["full", "full/file"]
