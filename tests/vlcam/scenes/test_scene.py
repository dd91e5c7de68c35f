"""Scenes: what is painted is what they own, in the colours asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vlcam.scenes.scene import FINE, Scene, arrange, clip, majority, paint, scene
from vlcam.scenes.text import (
    captions,
)
from vlcam.scenes.things import THING, THINGS


def test_what_is_painted_is_what_is_owned() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        placed = arrange((480, 512), rng)
        picture = np.full((480, 512, 3), -1000, np.float32)
        owners, _ = paint(picture, placed, rng)
        assert np.array_equal((picture == -1000).all(axis=-1), owners == 0)
        expected = np.zeros_like(owners)  # the painter's algorithm, pixel by pixel
        for number, one in enumerate(placed, start=1):
            for row, column in np.argwhere(one.sprite.inks):
                y, x = one.y + row, one.x + column
                if 0 <= y < 480 and 0 <= x < 512:
                    expected[y, x] = number
        assert np.array_equal(owners, expected)


def test_a_photo_pixel_belongs_to_most_of_its_canvas_pixels() -> None:
    owners = np.random.default_rng(0).integers(0, 4, (16, 20)).astype(np.uint8)
    shown = majority(owners, 3)
    for row in range(8):
        for column in range(10):
            block = owners[row * FINE : row * FINE + FINE, column * FINE : column * FINE + FINE]
            count = Counter(block.ravel().tolist())
            assert shown[row, column] == max(count, key=lambda one: (count[one], one))


def test_masks_are_disjoint_and_mostly_in_sight(many: list[Scene]) -> None:
    for one in many:
        assert 1 <= len(one.items) <= 4
        assert np.stack([item.mask for item in one.items]).sum(axis=0).max() <= 1
        for item in one.items:
            assert item.mask.shape == one.pixels.shape[:2]
            assert item.seen > 0.5
            x, y, width, height = item.box
            cut = item.mask[y : y + height, x : x + width]
            assert cut.sum() == item.area == item.mask.sum() > 0
            assert cut[0].any() and cut[-1].any() and cut[:, 0].any() and cut[:, -1].any()


def test_a_clipped_sprite_lies_where_it_says() -> None:
    placed = arrange((480, 512), np.random.default_rng(1))[0]
    inks, (top, left, bottom, right) = clip(placed, (480, 512))
    assert inks.shape == (bottom - top, right - left)
    assert 0 <= top < bottom <= 480 and 0 <= left < right <= 512


def test_every_category_occurs_under_its_official_number(many: list[Scene]) -> None:
    assert {item.category for one in many for item in one.items} == set(THING)
    assert len(THINGS) >= 16 and len({thing.id for thing in THINGS}) == len(THINGS)
    official = {"person": 1, "bicycle": 2, "car": 3, "airplane": 5, "bus": 6, "boat": 9,
                "traffic light": 10, "fire hydrant": 11, "stop sign": 13, "bench": 15, "bird": 16,
                "cat": 17, "dog": 18, "horse": 19, "sheep": 20, "zebra": 24, "umbrella": 28,
                "kite": 38, "cup": 47, "banana": 52, "apple": 53, "pizza": 59,
                "clock": 85}  # fmt: skip
    assert {thing.name: thing.id for thing in THINGS} == official


def test_a_scene_is_decided_by_seed_and_index() -> None:
    assert np.array_equal(scene(1, 2).pixels, scene(1, 2).pixels)
    assert captions(scene(1, 2)) == captions(scene(1, 2))
    assert not np.array_equal(scene(1, 7).pixels[:200, :200], scene(2, 7).pixels[:200, :200])


def test_the_same_scene_in_other_colours(many: list[Scene]) -> None:
    index = next(i for i, one in enumerate(many) if any(x.category == "cup" for x in one.items))
    seed = many[index].seed
    other = scene(seed, many[index].index, {"cup": {"body": "pink"}})
    for before, after in zip(many[index].items, other.items, strict=True):
        assert np.array_equal(before.mask, after.mask) and before.category == after.category
        if after.category == "cup":
            assert after.appearance.colours["body"] == "pink"
        else:
            assert after.appearance == before.appearance
    for wrong in ({"cup": {"body": "mauve"}}, {"cup": {"lid": "red"}}, {"cow": {"body": "red"}}):
        with pytest.raises(ValueError, match=r"no .* of '(cup|cow)'"):
            scene(seed, 0, wrong)


def test_parts_are_where_their_colour_is(many: list[Scene]) -> None:
    seen = 0
    for item in (item for one in many for item in one.items if item.category == "fire hydrant"):
        body, cap = item.part_mask("body"), item.part_mask("cap")
        assert not (body & cap).any() and not ((body | cap) & ~item.mask).any()
        assert ("cap" in item.parts) <= cap.any()
        if item.seen == 1:
            rows = [np.argwhere(part)[:, 0].mean() for part in (cap, body)]
            assert rows[0] < rows[1], "the cap is on top"
            assert cap.sum() < body.sum() < item.area
        seen += 1
    assert seen > 3
    assert not many[0].items[0].part_mask("no such part").any()
