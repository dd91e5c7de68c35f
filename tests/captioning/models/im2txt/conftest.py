"""A checkpoint of im2txt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.samples.captioning.im2txt import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to."""
    return write_checkpoint(tmp_path_factory.mktemp("im2txt"))


@pytest.fixture
def own(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path
