"""An evaluation as a web page: one file, which opens from disk."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from vlcam.evaluation.gallery import Picture
from vlcam.evaluation.summary import Cell, Summary, Table
from vlcam.metrics.estimates import Estimate

_WIDTH, _ROW, _NAMES, _MARGIN = 640, 22, 190, 20  # pixels of a plot


def page(
    summary: Summary,
    title: str,
    about: dict[str, Any],
    skipped: Sequence[str],
    shown: Sequence[Picture] = (),
) -> str:
    """Tables, plots with intervals, pictures, what could not be used, and the settings."""
    parts = [_table(table) + _plots(table) for table in summary.tables]
    notes = "".join(f"<p>{escape(note)}</p>" for note in summary.notes)
    lines = "".join(f"<li>{escape(line)}</li>" for line in skipped)
    settings = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in about.items()
    )
    template = files("vlcam.evaluation").joinpath("report.html").read_text("utf-8")
    return Template(template).substitute(
        title=escape(title),
        tables="".join(parts),
        gallery=_gallery(shown),
        notes=notes,
        skipped=f"<details><summary>{len(skipped)} things</summary><ul>{lines}</ul></details>"
        if skipped
        else "<p>Everything could be used.</p>",
        settings=settings,
    )


def _gallery(shown: Sequence[Picture]) -> str:
    parts = []
    for kind in dict.fromkeys(picture.kind for picture in shown):
        figures = "".join(
            f"<figure><img src='{one.data}' alt='{escape(one.caption, quote=True)}'>"
            f"<figcaption>{escape(one.caption)}</figcaption></figure>"
            for one in shown
            if one.kind == kind
        )
        parts.append(f"<h3>{kind.capitalize()}</h3><div class='gallery'>{figures}</div>")
    return f"<section><h2>Maps</h2>{''.join(parts)}</section>" if parts else ""


def _table(table: Table) -> str:
    percent = ", %" if table.unit == "share" else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell, table)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return (
        f"<section><h2>{escape(table.title)}{percent}</h2><div class='wide'>{body}</div>"
        f"<p>{escape(table.note)}</p></section>"
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
            plot = _plot(figures, table)
            found.append(f"<figure><figcaption>{escape(name)}</figcaption>{plot}</figure>")
    return f"<div class='plots'>{''.join(found)}</div>" if found else ""


def _plot(figures: Sequence[tuple[str, Estimate]], table: Table) -> str:
    """Dots with their 95 % as a picture (SVG), on a scale from 0, or from below it."""
    low = min(0.0, *(cell.interval[0] for _, cell in figures))
    high = max(0.0, *(cell.interval[1] for _, cell in figures))
    span = (high - low) or 1.0

    def x(value: float) -> str:
        return f"{_NAMES + (value - low) / span * (_WIDTH - _NAMES - _MARGIN):.1f}"

    parts = [f"<line x1='{x(0)}' x2='{x(0)}' y1='0' y2='{_ROW * len(figures)}' class='zero'/>"]
    for row, (label, cell) in enumerate(figures):
        y = _ROW * row + _ROW // 2
        start, stop = cell.interval
        parts.append(
            f"<text x='{_NAMES - 8}' y='{y + 4}' text-anchor='end'>{escape(label)}</text>"
            f"<line x1='{x(start)}' x2='{x(stop)}' y1='{y}' y2='{y}'/>"
            f"<circle cx='{x(cell.value)}' cy='{y}' r='4'><title>{escape(label)}: "
            f"{escape(table.shown(cell))}</title></circle>"
        )
    height = _ROW * (len(figures) + 1)
    factor = 100 if table.unit == "share" else 1
    for value in dict.fromkeys((low, 0.0, high)):
        parts.append(
            f"<text x='{x(value)}' y='{height - 6}' text-anchor='middle' class='tick'>"
            f"{factor * value:.3g}</text>"
        )
    return f"<svg viewBox='0 0 {_WIDTH} {height}' role='img'>{''.join(parts)}</svg>"
