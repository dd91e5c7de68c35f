"""How maps become colours: scaling, palettes, blending, other sizes, and numbers as text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.samples import by_hand
from vlcam.explanation.display import (
    at_pixels,
    blend,
    ends,
    fitted,
    levels,
    palette,
    percent,
    scaling,
    shown_levels,
    shown_map,
)
from vlcam.geometry.grid import Grid, Placement


def test_levels_go_from_none_to_the_strongest() -> None:
    raw = np.array([[-4.0, 0.0], [1.0, 2.0]])
    assert levels(raw, signed=False).tolist() == [[0, 0], [128, 255]]
    assert levels(raw, signed=True).tolist() == [[0, 128], [159, 191]]
    assert levels(-raw, signed=True)[0, 0] == 255


@pytest.mark.parametrize("speckled", [False, True])
def test_a_map_without_support_stays_dark(speckled: bool) -> None:
    for raw in (np.zeros((3, 4)), np.full((3, 4), -1.0)):
        assert (levels(raw, False, speckled) == 0).all()
    assert (levels(np.zeros((3, 4)), True, speckled) == 128).all()


def test_scale_does_not_matter() -> None:
    raw = np.random.default_rng(0).normal(size=(9, 9)).astype(np.float32)
    for signed in (False, True):
        assert np.array_equal(levels(raw, signed), levels(raw * 1e-30, signed))


def test_single_pixels_do_not_outshine_all_others() -> None:
    raw = np.full((40, 40), 0.25)
    raw[:20] = 1.0
    raw[0, 0] = 1000.0
    assert set(levels(raw, False)[:20].ravel()) == {0, 255}
    assert set(levels(raw, False, speckled=True)[:20].ravel()) == {255}
    assert set(levels(raw, False, speckled=True)[20:].ravel()) == {128}  # the root of a quarter
    lonely = np.zeros((40, 40))
    lonely[3, 4] = 5.0
    assert levels(lonely, False, speckled=True)[3, 4] == 255


def luminance(colours: np.ndarray) -> np.ndarray:
    return colours[..., :3] @ np.array([0.2126, 0.7152, 0.0722])


def test_stronger_is_brighter_over_any_photo() -> None:
    colours = palette(signed=False)
    assert colours.shape == (256, 4) and colours.dtype == np.uint8
    ramp = np.arange(256, dtype=np.uint8)[None]
    for shade in (0, 128, 255):
        seen = luminance(blend(np.full((1, 256, 3), shade, np.uint8), ramp, colours))[0]
        assert (np.diff(seen[::8]) > 0).all(), shade


def test_signed_colours_are_blue_against_red_for_and_clear_between() -> None:
    colours = palette(signed=True).astype(int)
    assert colours[0, 2] > colours[0, 0] + 100 and colours[255, 0] > colours[255, 2] + 100
    assert colours[128, 3] < 40 < 200 < min(colours[0, 3], colours[255, 3])
    assert np.ptp(colours[128, :3]) < 10


def test_blending_goes_from_the_photo_to_the_colours() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    indices = np.arange(30, dtype=np.uint8).reshape(5, 6)
    solid = palette(signed=False).copy()
    solid[:, 3] = 255
    assert np.array_equal(blend(photo, indices, solid, 0.0), photo)
    assert np.array_equal(blend(photo, indices, solid, 1.0), solid[indices][..., :3])
    half = (photo.astype(float) + solid[indices][..., :3]) / 2
    assert np.abs(blend(photo, indices, solid, 0.5) - half).max() <= 0.5


CROPPED = Placement.resized((60, 240), (60, 240), (60, 80), corner=(0, 80))
PLACEMENTS = {"stretched": None, "cropped": CROPPED}


@pytest.mark.parametrize("name", PLACEMENTS)
def test_a_map_keeps_its_place_at_any_size(name: str) -> None:
    """Against pixel centres by hand: pixel k of n lies at (k + 1/2) / n of the photo."""
    placement = PLACEMENTS[name]
    size = placement.photo_size if placement else (90, 120)
    found = by_hand.explanation(["a", "dog"], size=size, placement=placement)
    assert np.array_equal(shown_map(found, 1, size), found.photo_map(1))
    y, x = found.placement.to_photo(*found.grid.center(*by_hand.CELLS[1]))
    for h, w in ((45, 60), (31, 107), (270, 360)):
        drawn = shown_map(found, 1, (h, w))
        assert drawn.shape == (h, w)
        row, column = np.unravel_index(drawn.argmax(), drawn.shape)
        assert abs((row + 0.5) / h - (y + 0.5) / size[0]) <= 0.5 / h + 1e-9
        assert abs((column + 0.5) / w - (x + 0.5) / size[1]) <= 0.5 / w + 1e-9
    if placement:
        assert (shown_map(found, 1, (30, 120))[:, :40] == 0).all()
        assert shown_map(found, 1, (30, 120))[:, 40:80].any()


def test_only_maps_that_are_shown_make_colours_signed() -> None:
    found = by_hand.explanation(["a", "dog"])
    assert not found.signed and ends(found) == ("no support", "most support")
    assert by_hand.explanation(["a", "dog"], signed=True).signed
    broken = found.maps.clone()
    broken[0, 2, 2] = -float("inf")
    words = (replace(found.words[0], degenerate=True), found.words[1])
    assert not replace(found, maps=broken, words=words).signed
    assert not by_hand.explanation([]).signed


def test_the_ends_of_the_colours_say_what_they_mean() -> None:
    assert ends(by_hand.explanation(signed=True, method="grad-cam-no-relu")) == ("against", "for")
    assert ends(by_hand.explanation(method="counterfactual")) == ("not against", "most against")


def test_maps_made_at_pixels_are_told_apart() -> None:
    cells = by_hand.explanation(["dog"])
    pixels = replace(cells, maps=torch.rand(1, 60, 80) ** 9, grid=Grid.pixels((60, 80)))
    assert not at_pixels(cells) and "maximum" in scaling(cells)
    assert at_pixels(pixels) and "99.5th percentile" in scaling(pixels)
    raw = shown_map(pixels, 0, (90, 120))
    assert np.array_equal(shown_levels(pixels, 0, (90, 120)), levels(raw, False, speckled=True))


def test_sizes_are_made_to_fit() -> None:
    assert fitted((30, 40), 100) == (30, 40)
    assert fitted((300, 400), 100) == (75, 100)
    assert fitted((4000, 3), 100) == (100, 1)


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.0, "<0.1 %"),
        (0.0009, "<0.1 %"),
        (0.001, "0.1 %"),
        (0.0094, "0.9 %"),
        (0.01, "1 %"),
        (0.5, "50 %"),
        (0.994, "99 %"),
        (0.9951, ">99 %"),
        (1.0, "100 %"),
    ],
)
def test_percent(probability: float, text: str) -> None:
    assert percent(probability) == text
