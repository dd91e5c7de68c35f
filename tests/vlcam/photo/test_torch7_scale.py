"""Torch7's resizing of pictures, against its definition, one number after the other."""

from __future__ import annotations

from math import floor

import numpy as np
import pytest
from PIL import Image

from vlcam.photo.preprocess import Preprocess
from vlcam.photo.torch7_scale import scale


def slow_axis(line: list[np.float32], new: int, rounded: bool) -> list[np.float32]:
    """One row or column of one colour, one single-precision number after the other."""
    one, old = np.float32(1), len(line)
    if new == old:
        return line
    found = []
    start, skipped = 0, np.float32(0)
    for k in range(new):
        if new > old:
            at = np.float32(k) * (np.float32(old - 1) / np.float32(new - 1))
            first = int(at)
            share = at - np.float32(first)
            value = line[-1]
            if k < new - 1 and old > 1:
                value = (one - share) * line[first] + share * line[first + 1]
        else:
            at = np.float32(k + 1) * (np.float32(old) / np.float32(new))
            end = int(at)
            part = at - np.float32(end)
            total, count = (one - skipped) * line[start], one - skipped
            for pixel in range(start + 1, end):
                total, count = total + line[pixel], count + one
            if end < old:
                total, count = total + part * line[end], count + part
            value = total / count
            start, skipped = end, part
        found.append(np.float32(floor(value + np.float32(0.5))) if rounded else value)
    return found


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(
    ("old", "new"),
    [((9, 7), (4, 5)), ((5, 8), (8, 5)), ((3, 4), (7, 9)), ((6, 6), (6, 3)), ((1, 2), (4, 1))],
)
def test_it_is_averages_and_straight_lines(
    old: tuple[int, int], new: tuple[int, int], rounded: bool
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*old, 3), np.uint8)
    expected = np.empty((*new, 3), np.float32)
    for colour in range(3):
        rows = [list(row) for row in picture[..., colour].astype(np.float32)]
        narrow = [slow_axis(row, new[1], rounded) for row in rows]
        columns = [slow_axis(list(c), new[0], rounded) for c in zip(*narrow, strict=True)]
        expected[..., colour] = np.array(columns).T
    found = scale(picture, new, rounded)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_averages_are_exact() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    blocks = picture.reshape(10, 3, 5, 4, 3).astype(float).mean((1, 3))
    np.testing.assert_allclose(scale(picture, (10, 5), rounded=False), blocks, rtol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (37, 1)])
def test_as_part_of_preprocessing(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    how = Preprocess(
        (8, 9),
        resize_to=(20, 24),
        corner=(3, 4),
        mean=(10.5, 20.25, 30),
        std=(1, 1, 2),
        levels=1,
        interpolation="torch7-bytes",
    )
    pixels, placement = how(Image.fromarray(picture))
    cut = scale(picture, (20, 24), True)[3:11, 4:13]
    expected = (cut - np.float32([10.5, 20.25, 30])) / np.float32([1, 1, 2])
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), expected)
    assert placement.photo_size == (size[1], size[0]) and placement.input_size == (8, 9)
    assert Preprocess.from_json(how.to_json()) == how


def test_where_a_photo_that_grows_lies() -> None:
    """Its first and last pixels stay the first and the last; what shrinks keeps its edges."""
    how = Preprocess((20, 20), resize_to=(32, 32), corner=(6, 5), interpolation="torch7")
    _, placement = how.geometry((16, 64))
    assert placement.to_input(0, -0.5) == pytest.approx((-6, -5.5))
    assert placement.to_input(15, 63.5) == pytest.approx((31 - 6, 31.5 - 5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corner": (33, 0), "resize_to": (256, 256)}, r"corner \(33, 0\)"),
        ({"corner": (0, 1)}, r"corner \(0, 1\)"),
        ({"corner": (0, 0, 0)}, "corner"),
        ({"corner": (0, 0), "resize": "crop"}, "corner"),
        ({"levels": 0}, "levels 0"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"preprocess: {message}"):
        Preprocess.from_json(settings)
