"""The layouts of Flickr8k and COCO."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioning.data.captions import read_data
from tests.samples.photos import photo


def test_both_layouts_are_read(tmp_path: Path) -> None:
    flickr, coco = tmp_path / "flickr", tmp_path / "coco"
    for name in ("a.jpg", "b.jpg"):
        photo(flickr / "Images" / name)
        photo(coco / "images" / name)
    (flickr / "captions.txt").write_text('image,caption\na.jpg,"A dog, here ."\nb.jpg,B\n')
    (flickr / "trainImages.txt").write_text("a.jpg\n")
    (flickr / "valImages.txt").write_text("b.jpg\n")
    splits = read_data(flickr)
    assert splits.train[0].captions == (("a", "dog", "here"),)
    assert [example.photo.name for example in splits.val] == ["b.jpg"]

    (coco / "annotations").mkdir()
    data = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": i, "caption": "One."} for i in (1, 2)],
    }
    (coco / "annotations" / "captions.json").write_text(json.dumps(data))
    held = read_data(coco)
    assert len(held.train) == len(held.val) == 1 and not held.test
    (coco / "images" / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"b\.jpg: no such photo"):
        read_data(coco)
