"""Tables in pandas, which is optional: of an explanation, a row for each word or answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlcam.explanation.result import Answer, Result, Word

if TYPE_CHECKING:
    import pandas


def frame(result: Result) -> pandas.DataFrame:
    """A row for each word or answer, in the order of the maps; always of the same columns, so that
    tables of several explanations fit under each other.

    Columns are ``photo``, ``model``, ``layer``, ``method``, ``target``, ``question`` (None of a
    caption), ``caption`` (the text whose words are explained, else None), ``text`` (the word or
    answer), ``score`` (what is explained, as ``target`` says), which is a ``log_probability``
    (nats), a ``logit`` or a difference (NaN in the columns of what it is not), ``probability``
    (0..1), ``x`` and ``y`` (the peak, in photo pixels; NaN where the map has none) and
    ``degenerate``.

    Raises:
        ValueError: pandas is not installed.
    """
    rows = [_row(result, item) for item in result.explained]
    table = frame_of(rows, [*_about(result), *_COLUMNS])
    return table.astype({name: "float64" for name in _NUMBERS} | {"degenerate": bool})


def frame_of(
    rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None
) -> pandas.DataFrame:
    """Rows of values by column; ``columns`` None: those of the rows.

    Raises:
        ValueError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ValueError(f"a table needs pandas ({error}): pip install pandas") from error
    return pandas.DataFrame(rows, columns=columns)


_NUMBERS = ("score", "log_probability", "logit", "probability", "x", "y")
_COLUMNS = ("text", *_NUMBERS, "degenerate")


def _about(result: Result) -> dict[str, Any]:
    """What all rows share."""
    shared = ("photo", "model", "layer", "method", "target", "question")
    return {name: getattr(result, name) for name in shared} | {"caption": result.caption or None}


def _row(result: Result, item: Word | Answer) -> dict[str, Any]:
    x, y = (None, None) if item.degenerate else item.peak
    kind = result.score_kind.replace("-", "_")
    numbers = {"score": item.score, "probability": item.probability, "x": x, "y": y}
    if kind in _NUMBERS:
        numbers[kind] = item.score
    return _about(result) | {"text": item.text, "degenerate": item.degenerate} | numbers
