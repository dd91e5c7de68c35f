"""Files of regions in every format."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from captioning.data import regions
from captioning.data.regions import Region
from tests.samples.photos import photo


def test_every_format_of_regions_says_the_same(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "000000000012.jpg")
    expected = ("a red dog", ((4.0, 2.0, 14.0, 12.0),))
    box = {"x": 4, "y": 2, "width": 10, "height": 10}
    genome = [{"id": 12, "regions": [{"region_id": 1, "phrase": "a red dog", **box}]}]
    # 720 / 40 = 18 times as large, counted from 1; of two regions the more confident one.
    dense = {
        "opt": {"image_size": 720},
        "results": [
            {
                "img_name": "000000000012.jpg",
                "boxes": [[1, 1, 9, 9], [73, 37, 180, 180]],
                "scores": [0.1, 5.0],
                "captions": ["grass", "a red dog"],
            }
        ],
    }
    coco = {
        "images": [{"id": 12, "file_name": "000000000012.jpg"}],
        "annotations": [{"image_id": 12, "caption": "a red dog", "bbox": [4, 2, 10, 10]}],
    }
    for content in (genome, dense, coco):
        path = tmp_path / "regions.json"
        path.write_text(json.dumps(content))
        (found,) = regions.read(path, tmp_path, top=1).photos
        assert found.path.name == "000000000012.jpg"
        assert [(r.text, r.boxes) for r in found.regions] == [expected]
    marked = tmp_path / "entities"
    (marked / "Sentences").mkdir(parents=True)
    (marked / "Annotations").mkdir()
    photo(tmp_path / "flickr" / "77_a.jpg")
    (marked / "Sentences" / "77.txt").write_text("[/EN#5/animals a red dog] runs\n")
    (marked / "Annotations" / "77.xml").write_text(
        "<annotation><size><width>40</width><height>20</height></size><object><name>5</name><bndbox>"
        "<xmin>5</xmin><ymin>3</ymin><xmax>14</xmax><ymax>12</ymax></bndbox></object></annotation>"
    )
    (found,) = regions.read(marked, tmp_path / "flickr", ["77_a.jpg"]).photos
    assert [(r.text, r.boxes) for r in found.regions] == [expected]
    assert found.regions[0].sentence == ("a", "red", "dog", "runs")


def test_regions_that_cannot_be_used(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "1.jpg")
    path = tmp_path / "regions.json"
    path.write_text(json.dumps([{"id": 1, "regions": []}, {"id": 1, "regions": []}, {"id": 2}]))
    assert regions.read(path, tmp_path).problems == (
        "regions.json: image 2: no regions",
        "regions.json: image 1: occurs twice",
    )
    one = {"boxes": [], "scores": [], "captions": []}
    (tmp_path / "images" / "2.jpg").write_bytes(b"no photo")
    results = [{"img_name": name, **one} for name in ("1.jpg", "1.jpg", "2.jpg", "3.jpg")]
    path.write_text(json.dumps({"results": results}))
    found = regions.read(path, tmp_path)
    assert [photo.name for photo in found.photos] == ["1"]
    assert found.problems[0] == "regions.json: results 1.jpg: occurs twice"
    assert "2.jpg: not a readable image" in found.problems[1]
    assert found.problems[2:] == ("regions.json: results 3.jpg: no photo",)
    for text, said in (
        ("{", "not JSON, or cut in the middle"),
        ("{}", "not a file of regions"),
        ('[{"id": 1}]', "not a file of regions"),
        ('{"results": [{"img_name": "1.jpg", "boxes": [[1]], "scores": [1], "captions": [""]}]}',
         "not a file of regions"),
        ('{"results": 7}', "not a file of regions"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{path.name}: {said}"):
            regions.read(path, tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        regions.read(path, tmp_path / "nowhere")


GOOD = {"phrase": "a dog", "x": 1, "y": 2, "width": 3, "height": 4}
RESULT = {"img_name": "1.jpg", "scores": [1.0], "captions": ["a dog"], "boxes": [[2, 3, 3, 4]]}
ANNOTATION = {"image_id": 7, "caption": "a dog", "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        (
            [7, {"regions": []}, {"id": 1, "regions": [
                GOOD | {"phrase": None}, GOOD | {"x": float("nan")}, GOOD | {"y": "2"}, GOOD,
                {"phrase": "a dog"}, 7,
            ]}],
            [
                "image[0] is 7, not an object",
                "image[1]: no id",
                "image 1: regions[0]: phrase is None, not text",
                "image 1: regions[1]: x is nan, not a number >= -1000000000.0",
                "image 1: regions[2]: y is '2', not a number",
                "image 1: regions[4]: no x",
                "image 1: regions[5] is 7, not an object",
            ],
        ),
        (
            {"opt": {"image_size": 40}, "results": [
                {"img_name": "1.jpg"}, RESULT | {"scores": []}, RESULT | {"scores": ["high"]},
                RESULT | {"captions": [" "]}, RESULT | {"boxes": [[1]]}, 7, RESULT,
            ]},
            [
                "results[0]: no scores",
                "results[2]: scores[0] is 'high', not a number",
                "results[4]: boxes[0] is [1], not a list of length 4",
                "results[5] is 7, not an object",
                "results 1.jpg: not as many scores, captions and boxes",
                "results 1.jpg: no word in its text",
            ],
        ),
        (
            {"images": [{"id": 7, "file_name": "1.jpg"}, {"id": 8}], "annotations": [
                {"image_id": 7}, ANNOTATION | {"bbox": None}, ANNOTATION, None,
            ]},
            [
                "images 8: no file_name",
                "annotations[0]: no caption",
                "annotations[1]: bbox is None, not a list",
                "annotations[3] is None, not an object",
            ],
        ),
    ],
    ids=["Visual Genome", "DenseCap", "COCO"],
)  # fmt: skip
def test_one_bad_region_costs_no_others(data: Any, problems: list[str], tmp_path: Path) -> None:
    photo(tmp_path / "images" / "1.jpg", (40, 40))
    path = tmp_path / "regions.json"
    path.write_text(json.dumps(data))
    found = regions.read(path, tmp_path)
    assert list(found.problems) == [f"regions.json: {line}" for line in problems]
    ((region,),) = [one.regions for one in found.photos]
    assert region == Region("a dog", ((1, 2, 4, 6),))


def test_photos_that_cannot_be_told_apart_or_named_are_left_out(tmp_path: Path) -> None:
    for name in ("1.jpg", "1.png", "more/1.jpg", "a photo.JPG"):
        photo(tmp_path / "images" / name)
    (tmp_path / "images" / os.fsdecode(b"caf\xe9.jpg")).touch()
    found = regions.photos_of(tmp_path / "images")
    assert [one.name for one in found.photos] == ["1", "a photo"]
    assert sorted(line.split("images/")[1] for line in found.problems) == [
        "1.png: " + f"{tmp_path}/",
        "caf\\udce9.jpg': the name is not UTF-8",
        "more/1.jpg: " + f"{tmp_path}/",
    ]
    result = {"img_name": "1", "boxes": [[1, 1, 9, 9]], "scores": [1], "captions": ["a dog"]}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"results": [result]}))  # a number is no name of a file
    assert "results.json: results 1: no photo" in regions.read(path, tmp_path).problems
    path.write_text(json.dumps({"opt": {"image_size": 0}, "results": [result]}))
    with pytest.raises(
        ValueError, match=r"results\.json: not .*opt\.image_size is 0, not a number >"
    ):
        regions.read(path, tmp_path)
