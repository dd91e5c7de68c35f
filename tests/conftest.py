"""What several folders of tests use."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from vlcam.scenes.write import write


def pytest_collection_finish() -> None:
    """The millions of objects of imported libraries and collected tests stay to the end: let no
    collection of garbage look at them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A temporary folder, in memory where the system has such a disk: for very many files."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes with their captions, regions and questions; not to be written to."""
    folder = tmp_path_factory.mktemp("evaluation") / "scenes"
    write(folder, 6, 3, workers=1)  # processes start slowly
    return folder
