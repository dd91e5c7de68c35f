"""A dense captioner of coloured squares, trained once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioning.training.densecap import Training, train
from tests.samples.captioning.densecap import BUNDLED_CAPTIONER, SIDE, squares


@pytest.fixture(scope="session")
def squares_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    entries = squares(folder, 40, 0)
    (folder / "region_descriptions.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="session")
def dense_captioner(squares_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "squares"
    how = Training(
        str(squares_data), str(out), cnn_weights=str(BUNDLED_CAPTIONER), size=SIDE, cnn_epochs=1,
        cnn_batch=8, cnn_lr=1e-4, epochs=14, batch=8, lr=4e-3, cells=3, code=128, embedding=64,
        hidden=64, dropout_output=0.0, half=True, precision="float32",
    )  # fmt: skip
    report = train(how)
    assert [epoch["epoch"] for epoch in report["epochs"]] == list(range(1, 16))
    assert report["val"]["found"] > 0.5
    return out
