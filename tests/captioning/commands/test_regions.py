"""``vlcam regions``."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from captioning.data import regions
from captioning.models import densecap
from vlcam.cli.parser import main


def test_regions_of_photos_are_printed_and_written(
    dense_captioner: Path, squares_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [str(squares_data / "images" / name) for name in ("1.png", "none.png", "2.png")]
    out = tmp_path / "results.json"
    assert (
        main(["regions", *photos, "--model", str(dense_captioner), "--top", "2", "--out", str(out)])
        == 1
    )
    told = capsys.readouterr()
    assert "none.png: no such file" in told.err and told.out.count(" square\n") == 4
    found = regions.read(out, squares_data).photos
    with Image.open(squares_data / "images" / "1.png") as photo:
        described = densecap.load_module(dense_captioner).describe(photo.convert("RGB"), 2)
    assert [photo.name for photo in found] == ["1", "2"]
    for region, one in zip(found[0].regions, described, strict=True):
        assert region.text == one.text and region.boxes[0] == pytest.approx(one.box, abs=1e-4)
    assert main(["regions", photos[0], "--model", str(squares_data)]) == 1
    assert "no dense captioner" in capsys.readouterr().err
