"""An evaluation as a web page, in a real browser."""

from __future__ import annotations

import re
from itertools import pairwise
from urllib.parse import quote

import numpy as np
import pytest

from tests.tools.browser import DESK, PHONE, Browser
from vlcam.evaluation import report
from vlcam.evaluation.gallery import KINDS, Picture
from vlcam.evaluation.report import _ticks
from vlcam.evaluation.summary import Cell, Summary, Table
from vlcam.metrics.estimates import mean

_SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="360" height="240"/>'
_GREY = f"data:image/svg+xml,{quote(_SVG)}"


def table(rows: int, columns: int, name: str = "row", **more: str) -> Table:
    """Of shares; every third of a single photo, the fourth of none."""
    rng = np.random.default_rng(0)
    cells: list[tuple[Cell, ...]] = []
    for row in range(rows):
        photos = [0] * 8 if row % 3 == 2 else list(range(8))
        figures = [mean(rng.integers(0, 2, 8), photos) for _ in range(columns)]
        figures = [mean([], [])] * columns if row == 3 else figures
        cells.append((f"{name} {row}", *figures, row))
    head = ("map", *(f"what is in column {i}" for i in range(columns)), "number")
    return Table(f"A table of {rows} rows", head, tuple(cells), note="A note.", **more)  # type: ignore[arg-type]


ABOUT = {
    "settings": {"data": "/a/rather/long/path/" * 6, "limit": None, "words": []},
    "model": "by-hand",
    "methods": ["grad-cam", "layercam"],
    "versions": {"python": "3.11.7", "torch": "2.9"},
}


def html() -> str:
    """A report of tables as they come: few rows, as many categories as COCO has, long names."""
    tables = (
        table(5, 4), table(80, 1, "category"), table(3, 2, "a long name of a map, longer yet"),
        table(6, 2, unit="figure"),
    )  # fmt: skip
    shown = [Picture(kind, f"“bus” on photo 23: {kind}", _GREY) for kind in KINDS for _ in "123"]
    return report.page(Summary(tables), "T" * 90, ABOUT, ["x" * 300], shown, "What they are.")


def test_it_can_be_read_on_any_screen(browser: Browser) -> None:
    for screen in (PHONE, DESK):
        browser.look(screen)
        browser.open(html(), "report.html")
        # A page that is too wide makes a phone zoom out: the window itself grows.
        assert browser.js("innerWidth") == screen[0]
        assert browser.js("document.documentElement.scrollWidth") <= screen[0]
        # Cells are not broken into lines: a table that is too wide scrolls in its own frame.
        lines = browser.js(
            "[...document.querySelectorAll('th, td')].map(cell => { const style ="
            " getComputedStyle(cell); return (cell.clientHeight - parseFloat(style.paddingTop)"
            " - parseFloat(style.paddingBottom)) / parseFloat(style.lineHeight); })"
        )
        assert len(lines) > 300 and max(lines) < 1.5
        plots = [plot.rect for plot in browser.all("svg")]
        assert len(plots) == 9
        assert {round(plot["width"]) for plot in plots} == {358 if screen == PHONE else 384}
        heights = [plot["height"] for plot in plots]
        assert max(heights) < 4 * min(heights)
        shown = browser.js(
            "[...document.querySelectorAll('svg text, svg circle')].every(one => {"
            " const own = one.getBoundingClientRect(),"
            " all = one.ownerSVGElement.getBoundingClientRect();"
            " return own.left >= all.left && own.right <= all.right && own.bottom <= all.bottom })"
        )
        assert shown


def test_names_in_plots_keep_their_end_and_long_tables_say_what_is_plotted() -> None:
    text = html()
    drawn = "".join(re.findall(r"class='name'>([^<]*)<", text)).replace(" ", "")
    assert drawn.count("alongnameofamap,longeryet2") == 2
    assert "what is in column 0: the first 16 of 79 rows, the table has all" in text
    assert "What they are." in text


def test_a_single_photo_has_no_error_and_nothing_is_nan() -> None:
    text = html()
    assert "nan" not in text.replace("name", "").casefold()
    assert text.count("(one photo: no error)") > 20 and "none measured" in text
    assert "95 %: one photo: no error; 8 items of 1 images" in text
    alone = Table("One", ("map", "hits"), (("a", mean([1.0], [7])), ("b", mean([0.0], [7]))))
    page = report.page(Summary((alone,)), "One", {}, [])
    assert page.count("<circle") == 2 and page.count("class='grid'") == 4


def test_settings_are_told_one_by_one() -> None:
    text = html()
    for name, value in (("settings, limit", "none"), ("versions, torch", "2.9")):
        assert f"<tr><th>{name}</th><td>{value}</td></tr>" in text
    assert "<td>grad-cam, layercam</td>" in text and "{" not in text.partition("Settings</h2>")[2]


@pytest.mark.parametrize(
    ("low", "high", "share", "expected"),
    [
        (0, 0.83, True, [0, 0.25, 0.5, 0.75, 1]),
        (0, 1, True, [0, 0.25, 0.5, 0.75, 1]),
        (0, 0.08, True, [0, 0.02, 0.04, 0.06, 0.08, 0.1]),
        (-0.3, 0.6, True, [-0.5, -0.25, 0, 0.25, 0.5, 0.75]),
        (0, 1, False, [0, 0.25, 0.5, 0.75, 1, 1.25]),
        (-2.4, 0, False, [-3, -2, -1, 0]),
        (0, 1234, False, [0, 500, 1000, 1500]),
        (0, 0, False, [0, 0.25]),
        (0, 2.45, True, [0, 1, 2, 3]),
    ],
)
def test_scales_are_round_and_go_on_behind_the_last_point(
    low: float, high: float, share: bool, expected: list[float]
) -> None:
    assert _ticks(low, high, share) == pytest.approx(expected)


def test_scales_of_any_numbers() -> None:
    rng = np.random.default_rng(1)
    for low, high in 10.0 ** rng.uniform(-6, 6, (200, 2)) * [[-1, 1]]:
        for least, most in ((low, high), (0.0, high), (low, 0.0)):
            ticks = _ticks(least, most, share=False)
            assert ticks[0] <= least and most <= ticks[-1] and 0 in np.round(ticks, 12)
            assert (ticks[0] < least or not least) and (most < ticks[-1] or not most)
            assert 3 <= len(ticks) <= 8
            assert len({round((b - a) / (ticks[1] - ticks[0]), 6) for a, b in pairwise(ticks)}) == 1
