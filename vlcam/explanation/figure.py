"""An explanation as one picture: the photo, then one tile per word (the paper's Figures 10, 11)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, fontManager, get_font
from matplotlib.textpath import TextToPath
from PIL import Image

from vlcam.explanation import no_map
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
    unlikes,
)
from vlcam.explanation.result import Result

_TILE = 480  # pixels of a tile's longer side
_WIDTH = 12.0  # inches, of the widest figure
_TILE_AREA = 4.0  # square inches that a tile would like to have
_MOST = 120  # tiles of words: more make a picture of gigabytes, which nobody looks through
_HEADING, _NOTE = 12, 6  # lines that a text, and each of the small print, has room for
_TITLE, _LINE = 0.32, 0.2  # inches above each tile, and of each line of small print
# Lines that a tile's title has room for; inches of each further one.
_TITLES, _TITLE_LINE = 12, 0.19
_SPACING = 1.2  # of lines, in their font's size
_LABEL = 0.22  # inches of each line above a row of several
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
    titles = [_title(explanation, place - 1, width) for place in range(count)]
    above = [_above(titles[row * columns : (row + 1) * columns]) for row in range(rows)]
    heading = _wrapped(explanation.text, page_width, 13, _HEADING)
    notes = [_wrapped(line, page_width, 8, _NOTE) for line in _small_print(explanation)]
    top = 0.25 + 0.24 * (heading.count("\n") + 1)
    small = _LINE * sum(note.count("\n") + 1 for note in notes)
    bottom = 0.1 + small + _LEGEND
    page_height = top + rows * height + sum(above) + bottom
    figure = Figure(figsize=(page_width, page_height), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    _write(figure, 0.5, 1 - 0.12 / page_height, heading, size=13, ha="center", va="top")
    _write(figure, _GAP / page_width, 0.05 / page_height, "\n".join(notes), size=8, va="bottom")
    _legend(figure, explanation, (0.05 + small) / page_height)
    left = (page_width - columns * (width + _GAP) + _GAP) / 2
    for place in range(count):
        row, column = divmod(place, columns)
        x = left + column * (width + _GAP)
        y = bottom + (rows - 1 - row) * height + sum(above[row + 1 :])
        box = (x / page_width, y / page_height, width / page_width, height / page_height)
        _tile(_axes(figure, box), explanation, place - 1, photo)
        _write_title(figure, box, titles[place])
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
    why = [one.then for explanation in every for one in no_map.notes(explanation)]
    missing = [f"Where there is no map: {then}" for then in why[:1]]
    lines = [*unlikes(every), *scalings(every), *missing]
    notes = [_wrapped(line, page_width, 8, _NOTE) for line in lines]
    legends = _legends(every)
    labels = [label if same else f"{label}: {row[0].text}" for label, row in rows]
    labels = [_wrapped(label, page_width, 10, _HEADING) for label in labels]
    titles = [[_title(row[0], -1, width), *_titles(row, width)] for _, row in rows]
    above = [_above(some) for some in titles]
    heads = [
        _wrapped(name, count * (width + _GAP) - _GAP, 10, _HEADING, 0, weight="bold")
        for name, count in zip(columns, widest, strict=True)
    ]
    top = 0.15 + 0.24 * (heading.count("\n") + 1) * bool(heading)
    top += _LABEL * max(name.count("\n") + 1 for name in heads) * any(heads)
    small = _LINE * sum(note.count("\n") + 1 for note in notes)
    bottom = 0.1 + small + _LEGEND * len(legends)
    tall = [
        height + title + _LABEL * (label.count("\n") + 1)
        for title, label in zip(above, labels, strict=True)
    ]
    page_height = top + sum(tall) + bottom
    figure = Figure(figsize=(page_width, page_height), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    if heading:
        _write(figure, 0.5, 1 - 0.1 / page_height, heading, size=13, ha="center", va="top")
    _write(figure, _GAP / page_width, 0.05 / page_height, "\n".join(notes), size=8, va="bottom")
    for number, (one, about) in enumerate(reversed(legends)):
        _legend(figure, one, (0.05 + small + number * _LEGEND) / page_height, about)
    for name, start in zip(heads, starts, strict=True):
        x, y = _GAP + start * (width + _GAP), bottom + sum(tall)
        _write(figure, x / page_width, y / page_height, name, 10, "bold", va="bottom")
    for number, (_, row) in enumerate(rows):
        y = bottom + sum(tall[number + 1 :])
        over = (y + height + above[number]) / page_height
        _write(figure, _GAP / page_width, over, labels[number], size=10, va="bottom")
        places = [(0, -1, row[0])] + [
            (start + index, index, explanation)
            for start, explanation in zip(starts, row, strict=True)
            for index in range(_shown(explanation))
        ]
        for (place, index, explanation), title in zip(places, titles[number], strict=True):
            x = _GAP + place * (width + _GAP)
            box = (x / page_width, y / page_height, width / page_width, height / page_height)
            _tile(_axes(figure, box), explanation, index, photo)
            _write_title(figure, box, title)
    return figure


def _shown(explanation: Result) -> int:
    """How many tiles there are beside the photo's."""
    return min(len(explanation.items), _MOST)


@dataclass(frozen=True)
class _Title:
    """What stands above a tile.

    Attributes:
        name: the word or answer, in lines.
        probability: of it, at the right.
        beside: whether the probability has room beside the name; else it goes below.
        how: the name's font.
    """

    name: str
    probability: str
    beside: bool
    how: dict[str, Any]

    @property
    def height(self) -> float:
        """In inches."""
        return _TITLE + _TITLE_LINE * (self.name.count("\n") + (not self.beside))


_QUIET: dict[str, Any] = {"size": 9, "color": "#555555"}
_BOLD: dict[str, Any] = {"size": 11, "weight": "bold"}


def _title(explanation: Result, index: int, width: float) -> _Title:
    """Of a tile so many inches wide: of the photo itself (index -1), or of an item."""
    if index < 0:
        return _Title(_wrapped("the photo", width, most=1, gap=0, **_QUIET), "", True, _QUIET)
    item = explanation.items[index]
    probability = chance(item)
    room = width - _width(probability, 9) - 0.08
    if _width(item.text, **_BOLD) <= room:
        return _Title(item.text, probability, True, _BOLD)
    name = _wrapped(item.text, width, most=_TITLES, gap=0, **_BOLD)
    return _Title(name, probability, False, _BOLD)


def _titles(row: Sequence[Result], width: float) -> Iterator[_Title]:
    """Of the maps of some explanations side by side."""
    for explanation in row:
        for index in range(_shown(explanation)):
            yield _title(explanation, index, width)


def _above(titles: Sequence[_Title]) -> float:
    """Inches that a row of tiles needs for its titles."""
    return max(title.height for title in titles)


def _write_title(figure: Figure, box: tuple[float, float, float, float], title: _Title) -> None:
    """The title of a tile, whose box is in shares of the page."""
    page_height = figure.get_figheight()
    above = box[1] + box[3] + 0.05 / page_height
    _write(figure, box[0] + box[2], above, title.probability, ha="right", va="bottom", **_QUIET)
    above += 0 if title.beside else _TITLE_LINE / page_height
    _write(figure, box[0], above, title.name, va="bottom", **title.how)


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    return figure.add_axes(box, xticks=[], yticks=[], frame_on=False)


def _tile(axes: Axes, explanation: Result, index: int, photo: np.ndarray) -> None:
    """The photo itself (index -1), or under an item's map; why there is none."""
    if index < 0:
        axes.imshow(photo)
    elif explanation.items[index].degenerate:
        axes.imshow(blend(photo, np.zeros(photo.shape[:2], np.uint8), _VEIL, 1.0))
        box, dpi = axes.get_window_extent(), axes.figure.dpi
        room = int(box.height / dpi * 72 / 8 / _SPACING) - 1  # lines below "no map"
        why = no_map.no_map(explanation, index).why
        lines = ["no map"] + [_wrapped(why, box.width / dpi, 8, room)] * (room > 0)
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
        _write(axes, 0.5, 0.5, "\n".join(lines), size=8, linespacing=_SPACING, **middle)
    else:
        levels = shown_levels(explanation, index, (photo.shape[0], photo.shape[1]))
        axes.imshow(blend(photo, levels, palette(explanation.signed)))


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


def _small_print(explanation: Result) -> list[str]:
    lines = [explanation.unlike] if explanation.unlike else []
    lines.append(" · ".join(f"{name}: {value}" for name, value in settings(explanation)))
    lines.append(scaling(explanation))
    if _shown(explanation) < len(explanation.items):
        lines.append(f"The first {_MOST} of {len(explanation.items)} maps; the page has all")
    if explanation.caveat:
        lines.append(explanation.caveat)
    lines += map(str, no_map.notes(explanation))
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


def _wrapped(
    text: str, inches: float, size: float, most: int, gap: float = _GAP, **how: Any
) -> str:
    """At most so many lines, with a gap at either side; cut where there would be more."""
    room = max(12, int(inches * 72 / size / 0.55))
    text = text[: 2 * most * room]  # more has no room anyway
    lines = textwrap.wrap(text, room)
    while room > 4 and any(_width(line, size, **how) > inches - 2 * gap for line in lines):
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
