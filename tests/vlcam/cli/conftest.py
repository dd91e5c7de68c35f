"""Two models and two photos, for commands that take several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.samples.adapters import ADAPTERS
from vlcam.formats import checkpoint


@pytest.fixture(scope="session")
def answerers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two VQA models that know the same answers but for one; not to be written to."""
    made = []
    for name in ("lstm-cnn", "coattention"):
        model = ADAPTERS[name](tmp_path_factory.mktemp("case")).adapter.module
        made.append(tmp_path_factory.mktemp("models") / name)
        checkpoint.save_folder(model.float(), model.config.to_json(), made[-1])  # type: ignore[operator, union-attr]
    return made


@pytest.fixture
def two_photos(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    made = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in made:
        Image.fromarray(random.integers(0, 255, (32, 48, 3), np.uint8)).save(path)
    return made
