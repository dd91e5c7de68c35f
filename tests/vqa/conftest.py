"""What several folders of tests of VQA models use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.samples.vqa import blip
from tests.samples.vqa.training import write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Questions about ten photos of coloured squares, in VQA's layout."""
    return write_data(tmp_path / "data")


@pytest.fixture(scope="session")
def blip_vqa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BLIP VQA model; not to be written to."""
    return blip.save(tmp_path_factory.mktemp("blip-vqa") / "tiny-vqa")
