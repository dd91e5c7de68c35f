"""Many scenes."""

from __future__ import annotations

import pytest

from vlcam.scenes.scene import Scene, scene


@pytest.fixture(scope="session")
def many() -> list[Scene]:
    return [scene(3, index) for index in range(80)]
