"""What several folders of tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vlcam.scenes.write import write


@pytest.fixture(scope="session", autouse=True)
def allocator() -> Iterator[None]:
    """Commands that run inside a test's process leave its allocator alone: where blocks lie decides
    the last bits of some sums, and trainings are compared bit for bit with those of a process of
    their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vlcam.cli.evaluate.keep_freed_memory", lambda: None)
        yield


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes with their captions, regions and questions; not to be written to."""
    folder = tmp_path_factory.mktemp("evaluation") / "scenes"
    write(folder, 6, 3, workers=1)  # processes start slowly
    return folder
