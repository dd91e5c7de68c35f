"""An explanation as one picture: the photo, then one tile per word (the paper's Figures 10, 11)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, fontManager, get_font
from matplotlib.textpath import TextToPath
from PIL import Image

from vlcam.explanation.display import (
    blend,
    chance,
    ends,
    fitted,
    palette,
    scaling,
    scalings,
    settings,
    shown_levels,
)
from vlcam.explanation.result import Result

_TILE = 480  # pixels of a tile's longer side
_WIDTH = 12.0  # inches, of the widest figure
_TILE_AREA = 4.0  # square inches that a tile would like to have
_MOST = 120  # tiles of words: more make a picture of gigabytes, which nobody looks through
_HEADING, _NOTE = 12, 6  # lines that a text, and each of the small print, has room for
_TITLE, _LINE = 0.32, 0.2  # inches above each tile, and of each line of small print
_LABEL = 0.22  # inches above a row of several
_GAP = 0.1
_LEGEND, _BAR = 0.22, 1.6  # inches: height of the legend's line, length of its bar


def draw(explanation: Result) -> Figure:
    """The photo and, for each word, its map over the photo with the word's probability.

    Every map is scaled by itself: colours compare places within one tile, never two tiles.
    """
    photo = _shrunk(explanation.image)
    count = 1 + _shown(explanation)
    columns, width, height = _layout(count, photo.shape[1] / photo.shape[0])
    rows = math.ceil(count / columns)
    page_width = max(4.0, columns * (width + _GAP) + _GAP)
    heading = _wrapped(explanation.text, page_width, 13, _HEADING)
    notes = [_wrapped(line, page_width, 8, _NOTE) for line in _small_print(explanation)]
    top = 0.25 + 0.24 * (heading.count("\n") + 1)
    small = _LINE * sum(note.count("\n") + 1 for note in notes)
    bottom = 0.1 + small + _LEGEND
    page_height = top + rows * (height + _TITLE) + bottom
    figure = Figure(figsize=(page_width, page_height), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    _write(figure, 0.5, 1 - 0.12 / page_height, heading, size=13, ha="center", va="top")
    _write(figure, _GAP / page_width, 0.05 / page_height, "\n".join(notes), size=8, va="bottom")
    _legend(figure, explanation, (0.05 + small) / page_height)
    left = (page_width - columns * (width + _GAP) + _GAP) / 2
    for place in range(count):
        row, column = divmod(place, columns)
        x, y = left + column * (width + _GAP), bottom + (rows - 1 - row) * (height + _TITLE)
        box = (x / page_width, y / page_height, width / page_width, height / page_height)
        _titled_tile(figure, box, explanation, place - 1, photo)
    return figure


def draw_rows(rows: Sequence[tuple[str, Result]]) -> Figure:
    """One photo, a row of maps an explanation: by several models or methods, or at several layers
    (as in the paper's Figures 12 and 22).

    Args:
        rows: what each row is called, and its explanation; at least one.
    """
    return draw_table([(label, [explanation]) for label, explanation in rows])


def draw_table(
    rows: Sequence[tuple[str, Sequence[Result]]], columns: Sequence[str] = ("",)
) -> Figure:
    """One photo, a row of explanations each of which has its maps side by side.

    Args:
        rows: what each row is called, and its explanations; at least one.
        columns: what is written above the first, second, ... explanation of the rows.
    """
    every = [explanation for _, row in rows for explanation in row]
    first = every[0]
    photo = _shrunk(first.image)
    widest = [max(_shown(row[column]) for _, row in rows) for column in range(len(columns))]
    starts = [1 + sum(widest[:column]) for column in range(len(columns))]
    tiles = 1 + sum(widest)
    ratio = photo.shape[1] / photo.shape[0]
    width = max(0.9, min(math.sqrt(_TILE_AREA * ratio), 2 * _WIDTH / tiles))
    height = min(max(width / ratio, 0.3), 6.0)
    page_width = max(4.0, tiles * (width + _GAP) + _GAP)
    same = len({explanation.text for explanation in every}) == 1
    heading = _wrapped(first.text, page_width, 13, _HEADING) if same else ""
    notes = [_wrapped(line, page_width, 8, _NOTE) for line in scalings(every)]
    legends = _legends(every)
    top = 0.15 + 0.24 * (heading.count("\n") + 1) * bool(heading) + _LABEL * any(columns)
    small = _LINE * sum(note.count("\n") + 1 for note in notes)
    bottom = 0.1 + small + _LEGEND * len(legends)
    tall = height + _TITLE + _LABEL
    page_height = top + len(rows) * tall + bottom
    figure = Figure(figsize=(page_width, page_height), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    if heading:
        _write(figure, 0.5, 1 - 0.1 / page_height, heading, size=13, ha="center", va="top")
    _write(figure, _GAP / page_width, 0.05 / page_height, "\n".join(notes), size=8, va="bottom")
    for number, (one, about) in enumerate(reversed(legends)):
        _legend(figure, one, (0.05 + small + number * _LEGEND) / page_height, about)
    for name, start, count in zip(columns, starts, widest, strict=True):
        bold: dict[str, Any] = {"size": 10, "weight": "bold"}
        name = _cut(name, count * (width + _GAP) - _GAP, **bold)
        x = (_GAP + start * (width + _GAP)) / page_width
        _write(figure, x, (bottom + len(rows) * tall) / page_height, name, va="bottom", **bold)
    for number, (label, row) in enumerate(rows):
        y = bottom + (len(rows) - 1 - number) * tall
        text = label if same else f"{label}: {row[0].text}"
        above = (y + height + _TITLE) / page_height
        text = _cut(text, page_width - 2 * _GAP, size=10)
        _write(figure, _GAP / page_width, above, text, size=10, va="bottom")
        places = [(0, -1, row[0])] + [
            (start + index, index, explanation)
            for start, explanation in zip(starts, row, strict=True)
            for index in range(_shown(explanation))
        ]
        for place, index, explanation in places:
            x = _GAP + place * (width + _GAP)
            box = (x / page_width, y / page_height, width / page_width, height / page_height)
            _titled_tile(figure, box, explanation, index, photo)
    return figure


def _shown(explanation: Result) -> int:
    """How many tiles there are beside the photo's."""
    return min(len(explanation.items), _MOST)


def _titled_tile(
    figure: Figure,
    box: tuple[float, float, float, float],
    explanation: Result,
    index: int,
    photo: np.ndarray,
) -> None:
    """A tile, with its word and probability above it; the box is in shares of the page."""
    page_width, page_height = figure.get_size_inches()
    axes = figure.add_axes(box, xticks=[], yticks=[], frame_on=False)
    name, probability = _tile(axes, explanation, index, photo)
    above = box[1] + box[3] + 0.05 / page_height
    quiet: dict[str, Any] = {"size": 9, "color": "#555555"}
    bold: dict[str, Any] = {"size": 11, "weight": "bold"}
    _write(figure, box[0] + box[2], above, probability, ha="right", va="bottom", **quiet)
    room = box[2] * page_width - _width(probability, 9) - (0.08 if probability else 0)
    how = bold if name else quiet
    _write(figure, box[0], above, _cut(name or "the photo", room, **how), va="bottom", **how)


def _tile(axes: Axes, explanation: Result, index: int, photo: np.ndarray) -> tuple[str, str]:
    """The photo itself (index -1), or under a word's map; its word and probability."""
    if index < 0:
        axes.imshow(photo)
        return "", ""
    word = explanation.items[index]
    if word.degenerate:
        axes.imshow(blend(photo, np.zeros(photo.shape[:2], np.uint8), _VEIL, 1.0))
        _write(axes, 0.5, 0.5, "no map", size=9, ha="center", va="center", transform=axes.transAxes)
    else:
        levels = shown_levels(explanation, index, (photo.shape[0], photo.shape[1]))
        axes.imshow(blend(photo, levels, palette(explanation.signed)))
    return word.text, chance(word)


_VEIL = np.full((256, 4), 235, np.uint8)  # over the photo of a word that has no map


def _legends(every: Sequence[Result]) -> list[tuple[Result, str]]:
    """One explanation for each kind of colours, and what methods these are of where it is not all
    of them."""
    kinds: dict[tuple[Any, ...], list[Result]] = {}
    for one in every:
        kinds.setdefault((*ends(one), one.signed), []).append(one)
    return [
        (some[0], ", ".join(dict.fromkeys(one.method for one in some)) if len(kinds) > 1 else "")
        for some in kinds.values()
    ]


def _legend(figure: Figure, explanation: Result, y: float, about: str = "") -> None:
    """A bar of the colours as they look over a grey photo, between what its ends stand for."""
    inches, thick = figure.get_size_inches()
    low, high = ends(explanation)
    low = f"{about}: {low}" if about else low
    grey = np.full((1, 256, 3), 138, np.uint8)
    colours = blend(grey, np.arange(256, dtype=np.uint8)[None], palette(explanation.signed))
    x = _GAP + _width(low, 8) + 0.08
    bar = (x / inches, y + 0.055 / thick, _BAR / inches, 0.09 / thick)
    figure.add_axes(bar, xticks=[], yticks=[], frame_on=False, label="legend").imshow(
        colours, aspect="auto"
    )
    for text, at in ((low, _GAP), (high, x + _BAR + 0.08)):
        _write(figure, at / inches, y + 0.1 / thick, text, size=8, va="center")


def _cut(text: str, inches: float, **how: Any) -> str:
    """A tile's name, cut to what its width has room for."""
    cut = text
    while len(cut) > 2 and _width(cut, **how) > inches:
        cut = f"{cut[:-2]}…"
    return cut


def _small_print(explanation: Result) -> list[str]:
    lines = [" · ".join(f"{name}: {value}" for name, value in settings(explanation))]
    lines.append(scaling(explanation))
    if _shown(explanation) < len(explanation.items):
        lines.append(f"The first {_MOST} of {len(explanation.items)} maps; the page has all")
    if explanation.caveat:
        lines.append(explanation.caveat)
    if explanation.unknown:
        lines.append(f"Not in the model's vocabulary: {', '.join(explanation.unknown)}")
    return lines


def _shrunk(image: np.ndarray) -> np.ndarray:
    height, width = fitted((image.shape[0], image.shape[1]), _TILE)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def _layout(count: int, ratio: float) -> tuple[int, float, float]:
    """Columns, and a tile's width and height in inches, for photos of width / height ``ratio``."""
    width = min(math.sqrt(_TILE_AREA * ratio), _WIDTH)
    width = max(width, 1.1)  # room for a word above a tall photo
    columns = max(1, min(count, int(_WIDTH / width)))
    columns = math.ceil(count / math.ceil(count / columns))  # rows of even length
    return columns, width, min(max(width / ratio, 0.3), 6.0)


def _wrapped(text: str, inches: float, points: float, most: int) -> str:
    """At most so many lines; cut where there would be more."""
    room = max(12, int(inches * 72 / points / 0.55))
    text = text[: 2 * most * room]  # more has no room anyway
    lines = textwrap.wrap(text, room)
    while room > 4 and any(_width(line, points) > inches - 2 * _GAP for line in lines):
        room = int(room * 0.9)
        lines = textwrap.wrap(text, room)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][:-1]}…"]
    return "\n".join(lines)


def _write(
    where: Figure | Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    weight: str = "normal",
    **how: Any,
) -> None:
    """Text as it stands (no mathematics in dollars), in fonts that have its characters."""
    text, font = _font(text, size, weight)
    where.text(x, y, text, fontproperties=font, parse_math=False, usetex=False, **how)


def _width(text: str, size: float, weight: str = "normal", **_: Any) -> float:
    """Of a line of text, in inches."""
    text, font = _font(text, size, weight)
    width, *_height = TextToPath().get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def _font(text: str, size: float, weight: str) -> tuple[str, FontProperties]:
    text, families = _drawable(text)
    if len(families) > 1:
        weight = "normal"  # the others rarely have a bold face
    return text, FontProperties(family=families, size=size, weight=weight)


_BASE = "DejaVu Sans"  # comes with matplotlib


@lru_cache(maxsize=256)
def _drawable(text: str) -> tuple[str, list[str]]:
    """The text with what no installed font can draw replaced by a box, and the fonts it needs."""
    base = next(entry for entry in fontManager.ttflist if _plain(entry) and entry.name == _BASE)
    families = [base]
    drawn = []
    for letter in text:
        if letter != "\n" and not any(_has(entry, letter) for entry in families):
            found = next((e for e in fontManager.ttflist if _plain(e) and _has(e, letter)), None)
            if found is None:
                letter = "\N{WHITE SQUARE}"
            else:
                families.append(found)
        drawn.append(letter)
    return "".join(drawn), [entry.name for entry in families]


def _plain(entry: FontEntry) -> bool:
    """A regular face; "Last Resort" has a placeholder for every character and draws none."""
    regular = entry.style == "normal" and str(entry.weight) in ("400", "normal", "regular")
    return regular and not entry.name.startswith("Last Resort")


def _has(entry: FontEntry, letter: str) -> bool:
    return ord(letter) in _letters(entry.fname)


@lru_cache(maxsize=64)
def _letters(path: str) -> frozenset[int]:
    return frozenset(get_font(path).get_charmap())
