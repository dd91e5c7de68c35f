"""What the hub's local cache holds, told from the disk alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tools import hub
from vlcam.formats.folders.files import model_name
from vlcam.formats.hub import cache


def test_a_whole_model_and_what_is_missing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.at(hub.NOWHERE, monkeypatch, tmp_path / "cache")
    assert cache.cached("owner/my--model") is None and cache.snapshot("owner/my--model") is None
    snapshot = hub.put(tmp_path / "cache", "owner/my--model", model)
    assert cache.cached("owner/my--model") == snapshot
    assert cache.repository_of(snapshot) == "owner/my--model"
    assert model_name(snapshot) == "my--model" and model_name(model) == "model"
    blobs = snapshot.parent.parent / "blobs"
    (blobs / "pytorch_model.bin").unlink()  # a link to nowhere stays
    assert cache.cached("owner/my--model") is None and cache.missing(snapshot) == ["weights"]
    trees = snapshot.parent.parent / "trees"
    trees.mkdir()
    listed = {"format_version": 1, "files": {"merges.txt": {}, "config.json": {}}}
    (trees / f"{hub.COMMIT}.json").write_text(json.dumps(listed))
    assert cache.missing(snapshot) == ["merges.txt", "weights"]
    (snapshot / "config.json").unlink()
    assert cache.missing(snapshot)[0] == "config.json"


@pytest.mark.parametrize("commit", ["../../../elsewhere", "", "0" * 40, "a\0b"])
def test_a_reference_to_nowhere(
    commit: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.at(hub.NOWHERE, monkeypatch, tmp_path / "cache")
    snapshot = hub.put(tmp_path / "cache", "a/b", model)
    (snapshot.parent.parent / "refs" / "main").write_text(commit)
    assert cache.cached("a/b") is None
