"""Where a category is in an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks
from pycocotools.coco import COCO

import word_maps


def square(x: int, y: int, side: int) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def instances(annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": 7, "height": 6, "width": 8}, {"id": 8, "height": 2, "width": 2}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
        "annotations": [{"id": n, "image_id": 7} | a for n, a in enumerate(annotations, 1)],
    }
    coco.createIndex()
    return coco


def test_word_map_unites_polygons_rle_and_crowds() -> None:
    compressed = np.zeros((6, 8), np.uint8)
    compressed[5, 7] = 1
    coco = instances(
        [
            {"category_id": 18, "iscrowd": 0, "segmentation": square(0, 0, 2)},
            {
                "category_id": 18,
                "iscrowd": 1,  # uncompressed, column by column: 6 x 3 + 1 pixels off, 2 on
                "segmentation": {"size": [6, 8], "counts": [19, 2, 27]},
            },
            {
                "category_id": 18,
                "iscrowd": 0,
                "segmentation": masks.encode(np.asfortranarray(compressed)),
            },
            {"category_id": 17, "iscrowd": 0, "segmentation": square(4, 3, 1)},
        ]
    )
    dog = word_maps.word_map(coco, 7, "dog")
    assert dog.dtype == bool and dog.shape == (6, 8)
    assert sorted((int(x), int(y)) for y, x in np.argwhere(dog)) == [
        (0, 0), (0, 1), (1, 0), (1, 1), (3, 1), (3, 2), (7, 5)
    ]  # fmt: skip
    without = word_maps.word_map(coco, 7, "dog", crowds=False)
    assert (dog & ~without).sum() == 2 and not without[1, 3] and not without[2, 3]
    assert np.argwhere(word_maps.word_map(coco, 7, "cat")).tolist() == [[3, 4]]
    assert word_maps.present(coco, 7) == {"dog", "cat"}
    assert not word_maps.word_map(coco, 8, "dog").any()
    assert word_maps.present(coco, 8) == set()


def test_word_map_refuses_what_is_not_there() -> None:
    coco = instances([])
    with pytest.raises(ValueError, match="image 9 is not in the instances file"):
        word_maps.word_map(coco, 9, "dog")
    with pytest.raises(ValueError, match=r"'zebra' is not in the instances file$"):
        word_maps.word_map(coco, 7, "zebra")
    with pytest.raises(
        ValueError, match="'unicorn' is not in the instances file, nor is it one of"
    ):
        word_maps.word_map(coco, 7, "unicorn")
