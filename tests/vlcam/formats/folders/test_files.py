"""Pipes in the place of a model, or of a file of one: refused, and never waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import vlcam
from tests.samples.vqa.chat import save


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors", "model.t7", "model"])
def test_a_pipe_is_no_model(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"^{tmp_path / name}: a pipe, not a file$"):
        vlcam.load(tmp_path / name)


def test_a_pipe_is_no_file_of_a_model(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "llava")
    for name in ("preprocessor_config.json", "adapter_config.json", "config.json"):
        kept = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
        with pytest.raises(ValueError, match=f"{name}: a pipe, not a file"):
            vlcam.load(folder)
        (folder / name).unlink()
        if kept is not None:
            (folder / name).write_bytes(kept)
    vlcam.load(folder)
