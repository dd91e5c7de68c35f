"""Figures: one tile per word, its probability, legible text, colours that mean what they say."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import vlcam
from tests.samples import by_hand
from tests.samples.tiny import TinyCaptioner, photo
from vlcam.explanation.explanation import Explanation
from vlcam.explanation.figure import draw_rows


def tiles(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_label() != "legend"]


def picture(axes: Axes) -> np.ndarray:
    (image,) = axes.images
    return np.asarray(image.get_array()).astype(int)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def above(figure: Figure, axes: Axes) -> list[Text]:
    """The texts right above a tile, from left to right."""
    box = axes.get_position()
    near = [
        text
        for text in figure.texts
        if text.get_text()
        and 0 < (text.get_position()[1] - box.y1) * figure.get_figheight() < 0.25
        and box.x0 - 1e-6 <= text.get_position()[0] <= box.x1 + 1e-6
    ]
    return sorted(near, key=lambda text: text.get_position()[0])


def check_legible(figure: Figure) -> None:
    """No text runs into another, out of the figure, or over a picture; no picture over another."""
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    written = [text for text in figure.texts if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in written]
    pictures = [axes.get_window_extent(renderer) for axes in figure.axes]
    for i, box in enumerate(boxes):
        name = written[i].get_text()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, name
        for j in range(i):
            assert not box.overlaps(boxes[j]), (name, written[j].get_text())
        assert not any(box.overlaps(other) for other in pictures), name
    for i, box in enumerate(pictures):
        assert not any(box.overlaps(other) for other in pictures[:i])


def test_there_is_a_tile_for_the_photo_and_each_word() -> None:
    found = by_hand.explanation(["a", "red", "dog", "photo"], size=(60, 80))
    figure = found.figure()
    assert [[t.get_text() for t in above(figure, axes)] for axes in tiles(figure)] == [
        ["the photo"],
        ["a", "98 %"],
        ["red", "50 %"],
        ["dog", "9 %"],
        ["photo", "<0.1 %"],
    ]
    assert np.array_equal(picture(tiles(figure)[0]), found.image)
    assert "a red dog photo" in texts(figure)
    small = "\n".join(texts(figure))
    for value in (
        found.model,
        found.layer,
        found.method,
        found.target,
        "scaled by its own maximum",
    ):
        assert value in small
    check_legible(figure)


def test_the_strongest_place_is_brightest() -> None:
    found = by_hand.explanation(["a", "red", "dog"], grey=True)
    for word, axes in zip(found.words, tiles(found.figure())[1:], strict=True):
        row, column = divmod(int(picture(axes).sum(2).argmax()), 120)
        assert (column, row) == word.peak


def test_the_order_is_that_of_reading() -> None:
    found = by_hand.explanation([f"word{i}" for i in range(11)])
    figure = found.figure()
    places = [(-round(axes.get_position().y0, 3), axes.get_position().x0) for axes in tiles(figure)]
    assert len(places) == 12 and places == sorted(places)
    assert len({y for y, _ in places}) == 3
    check_legible(figure)


def test_a_signed_method_is_red_for_and_blue_against() -> None:
    found = by_hand.explanation(["a", "dog"], signed=True, grey=True, method="grad-cam-no-relu")
    figure = found.figure()
    for index, axes in enumerate(tiles(figure)[1:]):
        drawn, raw = picture(axes), found.photo_map(index)
        red, blue = drawn[..., 0] - drawn[..., 2], drawn[..., 2] - drawn[..., 0]
        assert red.flat[raw.argmax()] > 60 and blue.flat[raw.argmin()] > 60
        assert np.abs(drawn[raw == 0] - 128).max() < 20
    assert {"against", "for"} <= set(texts(figure))
    (legend,) = (axes for axes in figure.axes if axes.get_label() == "legend")
    bar = picture(legend)[0]
    assert bar[0, 2] - bar[0, 0] > 60 and bar[-1, 0] - bar[-1, 2] > 60


def test_a_signed_method_end_to_end() -> None:
    found = vlcam.explain(
        TinyCaptioner(), photo(40, 24), "a red dog sees grass", method="grad-cam-no-relu"
    )
    assert (found.maps < 0).any()
    assert "against" in texts(found.figure())


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("grad-cam", {"no support", "most support"}),
        ("counterfactual", {"not against", "most against"}),
    ],
)
def test_the_legend_says_what_the_colours_mean(method: str, names: set[str]) -> None:
    figure = by_hand.explanation(method=method).figure()
    assert names <= set(texts(figure))
    (legend,) = (axes for axes in figure.axes if axes.get_label() == "legend")
    bar = picture(legend)[0].sum(1)
    assert bar[-1] - bar[0] > 200


def test_a_word_without_a_map_says_so() -> None:
    found = by_hand.explanation(["a", "red", "dog"], flat=[1])
    figure = found.figure()
    said = [[text.get_text() for text in axes.texts] for axes in tiles(figure)]
    why = "no cell of layer4 speaks for it, so that the ReLU left nothing"
    assert [[" ".join(one.split()) for one in some] for some in said] == [
        [], [], [f"no map {why}"], []
    ]  # fmt: skip
    small = " ".join(" ".join(texts(figure)).split())
    assert f"No map of “red”: {why}. Try --method grad-cam-no-relu" in small
    rows = draw_rows([("one", found), ("other", found)])
    assert "no map: Try --method grad-cam-no-relu" in " ".join(" ".join(texts(rows)).split())
    veiled = picture(tiles(figure)[2])
    assert veiled.min() > 180 and np.ptp(veiled, axis=2).max() < 40


LONG = ["red rather than green and yellow", "a", "no, it is not in front of the house", "W" * 60]


@pytest.mark.parametrize("size", [(300, 400), (400, 100)])
def test_titles_keep_their_end(size: tuple[int, int]) -> None:
    found = by_hand.explanation(LONG, size=size)
    named = replace(found, caption="and on and on " * 20)
    for figure in (found.figure(), draw_rows([("one", found), ("a name " * 20, named)])):
        check_legible(figure)
        written = ["".join(text.split()) for text in texts(figure)]
        assert all("".join(name.split()) in written for name in LONG)
        assert not any("…" in text for text in written)
    assert "".join(f"{'a name ' * 20}: {named.caption}".split()) in written


def test_words_that_the_model_does_not_know_are_listed() -> None:
    figure = by_hand.explanation(["a", "dog"], unknown=["axolotl", "quokka"]).figure()
    assert any("vocabulary: axolotl, quokka" in text for text in texts(figure))
    assert len(tiles(figure)) == 3


def test_of_a_book_the_first_words_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 tiles took 9.7 GB."""
    monkeypatch.setattr("vlcam.explanation.figure._MOST", 5)
    found = by_hand.explanation(2000 * ["word"], unknown=2000 * ["axolotl"], size=(60, 80))
    for figure, rows in ((found.figure(), 1), (draw_rows([("one", found), ("other", found)]), 2)):
        assert len(tiles(figure)) == rows * 6
        assert figure.get_figheight() < 20
        check_legible(figure)
    assert any("first 5 of 2000 maps" in text for text in texts(found.figure()))


UNUSUAL = [
    "<b>bold</b>",
    "a&b",
    '"quoted"',
    "$x^2$",
    "\\alpha_{",
    "🐕",
    "כלב",
    "دراجة",
    "狗在草地上跑",
    "caf\udce9",
    "W" * 60,
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "a%s{0}",
]


def test_unusual_text_is_drawn_as_it_stands() -> None:
    """Warnings (of characters no font has, say) are errors here."""
    found = by_hand.explanation(
        UNUSUAL, unknown=["$\\frac$", "猫"], model="models/$my_model$/" + "long" * 60
    )
    figure = found.figure()
    for text in ("<b>bold</b>", "a&b", '"quoted"', "$x^2$", "\\alpha_{", "a%s{0}"):
        assert text in texts(figure)
    check_legible(figure)
    figure.savefig(io.BytesIO())


@pytest.mark.parametrize("size", [(1, 1), (20, 900), (900, 20), (3, 5), (400, 2000), (2000, 400)])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_photos_of_any_shape(size: tuple[int, int], count: int) -> None:
    words = ["a", "WWWWWWWWWWWWWW", "dog"] * 3
    found = by_hand.explanation(words[:count], size=size, flat=[2], caption="W" * 90)
    figure = found.figure()
    assert len(tiles(figure)) == 1 + count
    if count == 0 or size[1] > 100:  # "no map" is wider than some tall photos
        check_legible(figure)
    width, height = figure.get_size_inches()
    assert 3 < width < 15 and 1 < height < 40
    for axes in tiles(figure):
        drawn = picture(axes).shape
        assert abs(drawn[1] / drawn[0] / (size[1] / size[0]) - 1) < 0.2
        assert axes.get_aspect() in (1, "equal")


def test_a_whole_caption_is_one_tile() -> None:
    found = vlcam.explain(TinyCaptioner(), photo(), "a red dog sees the cat", target="caption")
    figure = found.figure()
    assert len(tiles(figure)) == 2
    check_legible(figure)


def test_a_png_of_it_looks_like_it() -> None:
    found = by_hand.explanation(["a", "dog"], size=(60, 80))
    figure = found.figure()
    file = io.BytesIO()
    figure.savefig(file)
    image = Image.open(file)
    assert image.size == tuple(np.rint(figure.get_size_inches() * figure.dpi).astype(int))
    pixels = np.asarray(image.convert("RGB"))
    assert (pixels[0] == 255).all() and pixels.std() > 20


def test_drawing_leaves_pyplot_alone() -> None:
    """No figure is kept open behind the caller's back."""
    before = pyplot.get_fignums()
    by_hand.explanation().figure()
    assert pyplot.get_fignums() == before


def test_drawing_changes_nothing() -> None:
    found = by_hand.explanation(["a", "dog"], flat=[0])
    before = found.maps.clone(), found.image.copy()
    copy: Explanation = replace(found)
    copy.figure()
    assert np.array_equal(before[0], found.maps) and np.array_equal(before[1], found.image)
