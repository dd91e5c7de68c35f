"""Segmentations that can be drawn, and those that cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as masks

from word_maps import segmentation


def rle(mask: np.ndarray) -> dict[str, Any]:
    """Compressed, as text."""
    made = masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": made["size"], "counts": made["counts"].decode()}


def test_compressed_run_lengths_are_pycocotools() -> None:
    random = np.random.default_rng(0)
    for height, width in ((7, 5), (40, 300), (640, 480)):
        for share in (0.002, 0.5, 0.999):
            mask = random.random((height, width)) < share
            mask[2:5, 1:4] = True
            found = rle(mask)
            assert segmentation.problem(found, (height, width)) is None
            lengths = segmentation._decompressed(found["counts"])
            flat = mask.flatten("F")
            assert sum(lengths) == flat.size and sum(lengths[1::2]) == mask.sum()
            assert np.array_equal(np.repeat(np.arange(len(lengths)) % 2, lengths), flat)


SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([SQUARE], None),
        ([SQUARE, [1, 1, 1, 1, 1, 1]], None),
        ([[-3, -3, 13, -3, 13, 13]], None),  # larger than the photo
        ([], "no segmentation"),
        ([[1, 2, 3, 4]], "no list of three"),
        ([[1, 1, 5, 1, float("nan"), 5]], "far from the image's [10, 10] pixels"),
        ([[1, 1, 5, 1, 2e9, 5]], "far from the image's [10, 10] pixels"),
        ([[1, 1, 5, 5, 9, 9]], "polygons without an area"),
        # pycocotools would end the process.
        ([[-90, -90, 100, 95, 99, 101] * 10_000], "polygons longer than 2100 pixels"),
        ([[-90, -90, 100, 95, 99, 101]] * 10_000, "polygons longer than 2100 pixels"),
        (rle(np.eye(10)), None),
        (rle(np.eye(11)), "RLE of size [11, 11], the image is [10, 10]"),
        (rle(np.zeros((10, 10))), "an RLE without an area"),
        ({"size": [10, 10], "counts": rle(np.eye(11))["counts"]}, "RLE of 121 pixels"),
        ({"size": [10, 10], "counts": rle(np.eye(10))["counts"][:-1]}, "pixels, the image has 100"),
        ({"size": [10, 10], "counts": "T3:Q"}, "an RLE without counts ("),
        ({"size": [10, 10], "counts": "no RLE!"}, "an RLE without counts ("),
        ({"size": [10, 10], "counts": ""}, "RLE of 0 pixels"),
        ({"size": [10, 10], "counts": "o" * 12 + "0"}, "an RLE without counts ("),
        ({"size": [10, 10], "counts": [50, 50]}, None),
        # Sums that are right once they have wrapped around.
        ({"size": [10, 10], "counts": [2**62, 2**62, 2**62, 2**62, 50, 50]}, "outside 0..100"),
    ],
)
def test_what_cannot_be_drawn_is_told(found: Any, said: str | None) -> None:
    """pycocotools would draw some of these: with what was in memory."""
    told = segmentation.problem(found, (10, 10))
    assert (told is None) == (said is None) and (said or "") in (told or "")
