"""A folder of each kind of chat model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.samples.vqa.chat import KINDS, save


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    top = tmp_path_factory.mktemp("chat")
    return {kind: save(top / kind, kind) for kind in KINDS}
