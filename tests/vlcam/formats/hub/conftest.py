"""A folder that looks like a model's."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "vocab.txt", "pytorch_model.bin", "tf_model.h5"):
        (folder / name).write_text(f'{{"name": "{name}"}}')
    return folder
