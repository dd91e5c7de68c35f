"""Records on disk: what is resumed, and what is left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from captioning.experiments.words import Words
from tests.tools.evaluations import words
from vlcam.evaluation.store import Part, opened


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "layercam"], 'methods is ["layercam"], was ["grad-cam"]'),
        (["--captions", "first"], 'settings.captions is "first", was "reference"'),
        (["--layer", "stage3"], 'layer is "stage3"'),
        (["--seed", "4"], "settings.seed is 4, was 0"),
        (["--limit", "2"], "settings.limit is 2, was null"),
    ],
)
def test_other_settings_do_not_resume(
    scenes: Path,
    finished: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert words(scenes, finished, "--resume", *options) == 1
    err = capsys.readouterr().err
    assert "cannot be resumed with other settings" in err and said in err and err.count("\n") == 1


@pytest.fixture(scope="module")
def finished(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert words(scenes, out) == 0
    return out


def test_a_folder_in_use_is_left_alone(
    scenes: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    with opened(finished, manifest, Words.columns, resume=True):
        assert words(scenes, finished, "--resume") == 1
    assert "another run works in it" in capsys.readouterr().err


def test_what_is_done_outlives_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(tmp_path / "out", {}, {"n": int}, False) as store:
        store.write(0, Part([{"n": 1}], []))
        raise KeyboardInterrupt
    with opened(tmp_path / "out", {}, {"n": int}, True) as store:
        assert store.done() == {0}


def test_a_folder_of_something_else_is_left_alone(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    assert words(scenes, tmp_path / "out") == 1
    assert "is not empty and holds no evaluation" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_damaged_part_is_named(
    scenes: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    part = out / "records" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    assert words(scenes, out, "--resume") == 1
    err = capsys.readouterr().err
    assert "part-00000.parquet: damaged" in err and err.count("\n") == 1


def test_a_full_disk_leaves_no_half_part(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(table: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("vlcam.evaluation.store.parquet.write_table", full)
    assert words(scenes, tmp_path / "out") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "out" / "records").iterdir()) == []


def test_records_of_two_versions_are_not_mixed(tmp_path: Path) -> None:
    """Peaks are found in another way since 0.3.0."""
    before, now = ({"versions": {"vlcam": version}} for version in ("0.2.0", "0.3.0"))
    with opened(tmp_path / "out", before, {"n": int}, False) as store:
        store.write(0, Part([{"n": 1}], []))
    with (
        pytest.raises(ValueError, match=r'versions.vlcam is "0.3.0", was "0.2.0"'),
        opened(tmp_path / "out", now, {"n": int}, True),
    ):
        pass
