"""What several folders of tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlcam.scenes.write import write


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes with their captions, regions and questions; not to be written to."""
    folder = tmp_path_factory.mktemp("evaluation") / "scenes"
    write(folder, 6, 3, workers=1)  # processes start slowly
    return folder
