"""Qwen-VL: photos of any size, within limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vlcam
from tests.samples.vqa.chat import loaded, photo, save


def test_the_least_and_most_pixels_as_qwen2_says_them(tmp_path: Path) -> None:
    folder = save(tmp_path / "qwen", "qwen2_vl")
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    del settings["size"]
    file.write_text(json.dumps(settings | {"min_pixels": 64, "max_pixels": 64 * 9}))
    assert vlcam.load(folder).prepare(photo(500, 500))[0].shape == (3, 24, 24)


def test_a_photo_too_elongated(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"cannot be shown this photo: .*aspect ratio"):
        loaded(folders["qwen2_vl"]).prepare(photo(900, 2))
