"""Photo files for readers of data."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def photo(path: Path, size: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
