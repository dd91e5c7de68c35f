"""A folder of LXMERT."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.samples.vqa.lxmert import save


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to."""
    return save(tmp_path_factory.mktemp("lxmert") / "tiny-lxmert")
