"""What a comparison of layers and methods found, as plain data, a table and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlcam.choosing.means import Mean, shown
from vlcam.choosing.recommending import Recommendation
from vlcam.evaluation.tables import table
from vlcam.explanation.frame import frame_of
from vlcam.utils.files.atomic import folder_written

if TYPE_CHECKING:
    import pandas

PIXELS, ATTENTION = "pixels", "all layers of attention"
"""What stands for the layer of methods that need none."""

FILES = ("scores.md", "scores.json")
"""What :meth:`Choice.save` writes."""

_HEAD = ("layer", "method", "cells", "faithfulness", "occlusion", "insertion", "redrawn", "flat")

_LEGEND = (
    "faithfulness: the mean of the next two, of each photo's words or answers, then of the photos."
    " occlusion: rank correlation with the occlusion map. insertion: the mean score where only the"
    " pixels are shown that the map ranks first, less the mean score where these are removed, in"
    " units of the range of all scores seen. All are 1 at most; of a map that knows nothing about"
    " 0. redrawn: rank correlation of the map with that of the model whose weights behind the layer"
    " are drawn anew; what stays near 1 does not show what the model learned. flat: maps that are"
    " the same everywhere; they count as 0."
)


@dataclass(frozen=True)
class Row:
    """One method at one layer.

    Attributes:
        layer: its name; :data:`PIXELS` or :data:`ATTENTION` of methods that need none.
        method: its name.
        cells: (rows, columns) of its maps; None: they differ from photo to photo.
        faithfulness: the mean of ``occlusion`` and ``insertion``.
        occlusion: rank correlation with the occlusion map.
        insertion: insertion less deletion, in units of the range of scores.
        redrawn: rank correlation with the map of the model that has forgotten what it learned
            behind the layer; None: not measured.
        flat: how many maps are the same everywhere.
        maps: how many there are.
        by_photo: the faithfulness on each photo.
        remark: why ``redrawn`` is missing, or why it is not recommended; empty: nothing is to say.
    """

    layer: str
    method: str
    cells: tuple[int, int] | None
    faithfulness: Mean
    occlusion: Mean
    insertion: Mean
    redrawn: Mean | None
    flat: int
    maps: int
    by_photo: tuple[float, ...]
    remark: str = ""


@dataclass(frozen=True)
class Unmeasured:
    """A method at a layer of which there are no maps, and why."""

    layer: str
    method: str
    why: str


@dataclass(frozen=True, repr=False)
class Choice:
    """Which layer and method are the most faithful for a model on some photos. Made by
    :func:`vlcam.choose`.

    Attributes:
        recommendation: what to take, and how sure that is.
        rows: a method at a layer each, the most faithful first.
        centre: the same of a map of the photo's centre, whatever the model: what has to be beaten.
        unmeasured: what could not be measured.
        model: its name.
        photos: their names.
        asked: of each photo the words or answers.
        about: the settings.
    """

    recommendation: Recommendation
    rows: tuple[Row, ...]
    centre: Row
    unmeasured: tuple[Unmeasured, ...]
    model: str
    photos: tuple[str, ...]
    asked: tuple[tuple[str, ...], ...]
    about: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Choice of {len(self.rows)}: {self.recommendation.text}>"

    def __str__(self) -> str:
        return self.markdown()

    @property
    def layer(self) -> str | None:
        """The recommended one, as :func:`vlcam.explain` takes it; None: there is none, or the
        method needs none."""
        layer = self.recommendation.layer
        return None if layer in (PIXELS, ATTENTION) else layer

    @property
    def method(self) -> str | None:
        """The recommended one; None: there is none."""
        return self.recommendation.method

    def markdown(self) -> str:
        """The table, the recommendation, and what to know when reading them."""
        notes = [f"{row.method} at {row.layer}: {row.remark}." for row in self.rows if row.remark]
        missing = [f"{o.method} at {o.layer} was not measured: {o.why}." for o in self.unmeasured]
        listed = "\n".join(f"- {note}" for note in dict.fromkeys([*notes, *missing]))
        parts = [self._table(), self.recommendation.text, listed, self._settings(), _LEGEND]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _table(self) -> str:
        return table(_HEAD, [_cells(row) for row in (*self.rows, self.centre)])

    def _settings(self) -> str:
        count = len(self.photos)
        errors = "± is the standard error over photos. " if count > 1 else ""
        targets = sum(map(len, self.asked))
        return (
            f"{errors}{self.model}, {shown(count, 'photo')}, {shown(targets, 'word or answer')},"
            f" a patch of {self.about['patch']['size']} pixels at stride"
            f" {self.about['patch']['stride']}, {self.about['steps']} steps of deletion and"
            f" insertion, {self.about['draws']} draws of weights."
        )

    def data(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        found: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return found

    def to_frame(self) -> pandas.DataFrame:
        """A table in pandas, a row for each method at a layer.

        Raises:
            ValueError: pandas is not installed.
        """
        return frame_of([_flat(row) for row in self.rows])

    def save(self, folder: str | Path) -> None:
        """Write ``scores.md`` and ``scores.json``, both or neither; what else is there stays."""
        title = f"# Layers and methods of {self.model}"
        with folder_written(folder) as draft:
            (draft / FILES[0]).write_text(f"{title}\n\n{self.markdown()}", "utf-8")
            text = json.dumps(self.data(), indent=1, ensure_ascii=False)
            (draft / FILES[1]).write_text(f"{text}\n", "utf-8")


def _cells(row: Row) -> Sequence[str]:
    size = "" if row.cells is None else f"{row.cells[0]} x {row.cells[1]}"
    redrawn = "" if row.redrawn is None else str(row.redrawn)
    figures = (str(row.faithfulness), str(row.occlusion), str(row.insertion), redrawn)
    return (row.layer, row.method, size, *figures, f"{row.flat} of {row.maps}")


def _flat(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"layer": row.layer, "method": row.method}
    for name in ("faithfulness", "occlusion", "insertion", "redrawn"):
        one: Mean | None = getattr(row, name)
        found[name] = None if one is None else one.value
        found[f"{name}_error"] = None if one is None else one.error
    return found | {"flat": row.flat, "maps": row.maps, "remark": row.remark}
