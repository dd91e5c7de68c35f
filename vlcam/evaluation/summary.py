"""Summaries: tables of figures with their uncertainty, as JSON, Markdown and LaTeX."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vlcam.evaluation import tables
from vlcam.metrics.estimates import Estimate, Sums, Values, difference_of_ratios, mean

FigureUnit = Literal["share", "figure"]
Cell = str | int | Estimate


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Attributes:
        title: above it.
        head: of the columns; the first is that of the rows' names.
        rows: each with a cell a column.
        unit: of the estimates: ``share`` (0..1, shown in percent) or ``figure`` (as it is).
        note: below it.
        digits: of figures, behind the point.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    unit: FigureUnit = "share"
    note: str = ""
    digits: int = 2

    def shown(self, cell: Cell) -> str:
        """A cell as text: an estimate with its standard error."""
        if not isinstance(cell, Estimate):
            return str(cell)
        return tables.share(cell) if self.unit == "share" else tables.figure(cell, self.digits)

    def interval(self, cell: Estimate) -> str:
        """The bounds of an estimate's 95 %."""
        if self.unit == "share":
            return tables.interval(cell, 1, 100)
        return tables.interval(cell, self.digits)


@dataclass(frozen=True)
class Summary:
    """What an evaluation found.

    Attributes:
        tables: the figures.
        notes: what to know when reading them, a sentence or two each.
    """

    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


def difference(ours: Values, theirs: Values, images: Iterable[Hashable]) -> Estimate:
    """The mean difference of two maps' values on the same things."""
    return mean([a - b for a, b in zip(ours, theirs, strict=True)], images)


def differences(
    scores: Mapping[str, Sums],
    images: Iterable[Hashable],
    of: str,
    unit: FigureUnit = "share",
    digits: int = 2,
) -> tuple[Table, ...]:
    """What each method's map has more of something than each other's, on the same things, paired.

    Args:
        scores: by method, of each thing what is above and below a ratio of sums; all ones below
            give means.
        images: which each thing is of.
        of: what is compared.

    Returns:
        A table; none where there is a single method.
    """
    names, images = list(scores), list(images)
    if len(names) < 2:
        return ()
    rows: list[tuple[Cell, ...]] = []
    for count, ours in enumerate(names[1:], start=1):  # each pair once
        less = [
            difference_of_ratios(scores[ours], scores[theirs], images) for theirs in names[:count]
        ]
        rows.append((ours, *less, *[""] * (len(names) - 1 - count)))
    head = ("map", *(f"less {name}" for name in names[:-1]))
    title = f"Differences between methods: {of}"
    return (Table(title, head, tuple(rows), unit=unit, note="Paired.", digits=digits),)


def to_json(summary: Summary, about: dict[str, Any], skipped: Sequence[str]) -> str:
    """All figures, unrounded; ``about``: of what they are."""
    found = [
        {
            "title": table.title,
            "unit": table.unit,
            "rows": [
                {name: _plain(cell) for name, cell in zip(table.head, row, strict=True)}
                for row in table.rows
            ],
        }
        for table in summary.tables
    ]
    content = {**about, "tables": found, "notes": summary.notes, "skipped": list(skipped)}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _plain(cell: Any) -> Any:
    """A cell as JSON has it, which knows no nan (of a single image there is no standard error)."""
    if isinstance(cell, Estimate):
        return {name: _plain(value) for name, value in asdict(cell).items()}
    if isinstance(cell, tuple):
        return [_plain(value) for value in cell]
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def to_markdown(summary: Summary, title: str, about: dict[str, Any], skipped: Sequence[str]) -> str:
    """The tables, ready to paste, and what they are of."""
    parts = [f"# {title}"]
    for table in summary.tables:
        rows = [[table.shown(cell) for cell in row] for row in table.rows]
        percent = ", %" if table.unit == "share" else ""
        parts.append(f"## {table.title}{percent}")
        parts.append(tables.table(table.head, rows))
        parts += [table.note] if table.note else []
    parts += [*summary.notes, _ERRORS, f"Could not be used: {len(skipped)}."]
    settings = "; ".join(f"{name}: {line(value)}" for name, value in about.items())
    parts.append(f"<sub>{settings}</sub>")
    return "\n\n".join(parts) + "\n"


def line(value: Any) -> str:
    """A setting in a line."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {line(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


_ERRORS = (
    "± is the standard error, images being the independent draws, of which one alone tells nothing."
)


def to_latex(summary: Summary) -> str:
    """The tables as LaTeX ``tabular`` (packages: booktabs)."""
    return "\n".join(_latex(table) for table in summary.tables)


def _latex(table: Table) -> str:
    columns = "l" + "r" * (len(table.head) - 1)
    rows = [" & ".join(_escaped(table.shown(cell)) for cell in row) + r" \\" for row in table.rows]
    percent = r" (\%)" if table.unit == "share" else ""
    return "\n".join(
        [
            rf"% {table.title}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(_escaped, table.head)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            rf"\end{{tabular}}  % {_escaped(table.title)}{percent}",
            "",
        ]
    )


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$",
}  # fmt: skip


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
