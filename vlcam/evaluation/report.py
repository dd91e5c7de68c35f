"""An evaluation as a web page: one file, which opens from disk."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from vlcam.evaluation.gallery import Picture
from vlcam.evaluation.summary import Cell, Summary, Table, line
from vlcam.metrics.estimates import Estimate

_WIDTH, _ROW, _LINE, _NAMES, _MARGIN = 384, 22, 14, 140, 24  # pixels of a plot, unscaled
_LETTERS = 19  # of a row's name on a line
_MOST = 16  # rows of a plot: the table beside it has all


def page(
    summary: Summary,
    title: str,
    about: dict[str, Any],
    skipped: Sequence[str],
    shown: Sequence[Picture] = (),
    about_shown: str = "",
) -> str:
    """Tables, plots with intervals, pictures and what they are, what could not be used, and the
    settings."""
    parts = [_table(table) for table in summary.tables]
    notes = "".join(f"<p>{escape(note)}</p>" for note in summary.notes)
    lines = "".join(f"<li>{escape(line)}</li>" for line in skipped)
    settings = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in _plain_settings(about)
    )
    template = files("vlcam.evaluation").joinpath("report.html").read_text("utf-8")
    return Template(template).substitute(
        title=escape(title),
        tables="".join(parts),
        gallery=_gallery(shown, about_shown),
        notes=notes,
        skipped=f"<details><summary>{len(skipped)} things</summary><ul>{lines}</ul></details>"
        if skipped
        else "<p>Everything could be used.</p>",
        settings=settings,
    )


def _plain_settings(about: dict[str, Any], of: str = "") -> Iterator[tuple[str, str]]:
    """A line for each plain value, also of settings within settings."""
    for name, value in about.items():
        if isinstance(value, dict):
            yield from _plain_settings(value, f"{of}{name}, ")
        else:
            yield f"{of}{name}", line(value)


def _gallery(shown: Sequence[Picture], about: str) -> str:
    parts = []
    for kind in dict.fromkeys(picture.kind for picture in shown):
        figures = "".join(
            f"<figure><img src='{one.data}' alt='{escape(one.caption, quote=True)}'>"
            f"<figcaption>{escape(one.caption)}</figcaption></figure>"
            for one in shown
            if one.kind == kind
        )
        parts.append(f"<h3>{kind.capitalize()}</h3><div class='gallery'>{figures}</div>")
    told = f"<p>{escape(about)}</p>" if about else ""
    return f"<section><h2>Maps</h2>{told}{''.join(parts)}</section>" if parts else ""


def _table(table: Table) -> str:
    percent = ", %" if table.unit == "share" else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell, table)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<section><h2>{escape(table.title)}{percent}</h2><div class='wide'>{body}</div>{note}"
        f"{_plots(table)}</section>"
    )


def _cell(cell: Cell, table: Table) -> str:
    if not isinstance(cell, Estimate):
        return escape(str(cell))
    told = f"95 %: {table.interval(cell)}; {cell.items} items of {cell.images} images"
    return f"<span title='{escape(told)}'>{escape(table.shown(cell))}</span>"


def _plots(table: Table) -> str:
    """A plot for each column of figures, where there are several rows."""
    found = []
    for place, name in enumerate(table.head):
        rows = [(str(row[0]), row[place]) for row in table.rows]
        figures = [(label, cell) for label, cell in rows if isinstance(cell, Estimate)]
        figures = [(label, cell) for label, cell in figures if cell.value == cell.value]
        if len(figures) > 1:
            text = name
            if len(figures) > _MOST:
                text = f"{name}: the first {_MOST} of {len(figures)} rows, the table has all"
            plot = _plot(figures[:_MOST], table, name)
            found.append(f"<figure><figcaption>{escape(text)}</figcaption>{plot}</figure>")
    return f"<div class='plots'>{''.join(found)}</div>" if found else ""


def _plot(figures: Sequence[tuple[str, Estimate]], table: Table, title: str) -> str:
    """Dots with their 95 % as a picture (SVG), on a scale of round numbers that goes on behind the
    last of them. Of a single photo there is no interval."""
    known = [x for _, cell in figures for x in (cell.value, *cell.interval) if x == x]
    ticks = _ticks(min(0.0, *known), max(0.0, *known), share=table.unit == "share")
    low, high = ticks[0], ticks[-1]

    def x(value: float) -> str:
        return f"{_NAMES + (value - low) / (high - low) * (_WIDTH - _NAMES - _MARGIN):.1f}"

    rows, top = [], 0
    for label, cell in figures:
        names = textwrap.wrap(label, _LETTERS) or [""]
        height = _ROW + _LINE * (len(names) - 1)
        middle = top + height / 2
        for place, name in enumerate(names):
            y = middle + 4 + _LINE * (place - (len(names) - 1) / 2)
            rows.append(f"<text x='{_NAMES - 10}' y='{y:g}' class='name'>{escape(name)}</text>")
        start, stop = cell.interval
        if start == start:
            rows.append(f"<line x1='{x(start)}' x2='{x(stop)}' y1='{middle:g}' y2='{middle:g}'/>")
        rows.append(
            f"<circle cx='{x(cell.value)}' cy='{middle:g}' r='4'><title>{escape(label)}: "
            f"{escape(table.shown(cell))}</title></circle>"
        )
        top += height
    factor = 100 if table.unit == "share" else 1
    scale = "".join(
        f"<line x1='{x(tick)}' x2='{x(tick)}' y1='0' y2='{top}' class='{_kind(tick)}'/>"
        f"<text x='{x(tick)}' y='{top + 16}' class='tick'>{round(factor * tick, 9):g}</text>"
        for tick in ticks
    )
    return (
        f"<svg viewBox='0 0 {_WIDTH} {top + _ROW}' role='img' aria-label='{escape(title)}'>"
        f"{scale}{''.join(rows)}</svg>"
    )


def _kind(tick: float) -> str:
    return "zero" if tick == 0 else "grid"


def _ticks(low: float, high: float, share: bool) -> list[float]:
    """Round numbers, some five, from below ``low``, or 0, to above ``high``, or 0; of shares none
    beyond 1, behind which nothing can lie."""
    least = ((high - low) or 1.0) / 4
    power = 10.0 ** math.floor(math.log10(least))
    step = next(many * power for many in (1, 2, 2.5, 5, 10) if many * power >= least * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9) - 1 if low < 0 else 0
    last = math.floor(high / step + 1e-9) + 1 if high > 0 or not first else 0
    ticks = [place * step for place in range(first, last + 1)]
    if share and max(-low, high) <= 1:
        ticks = [tick for tick in ticks if abs(tick) <= 1 + 1e-9]
    return ticks
