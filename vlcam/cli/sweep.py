"""One photo explained at many layers: how maps change with the depth of the network (Figure 22)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlcam.adapters.adapter import Adapter
from vlcam.attribution import methods
from vlcam.explaining import Request, explain_request
from vlcam.explanation import saving
from vlcam.explanation.explanation import Explanation
from vlcam.utils.files.atomic import folder_written
from vlcam.utils.terminal import progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILES = 12
"""In a row, beside the photo's."""


def sweep(
    at: Callable[[str], Adapter],
    layers: Sequence[str],
    photo: str,
    by: Sequence[str] = ("grad-cam",),
    **asked: Any,
) -> list[list[Explanation]]:
    """Explanations of one photo: for each layer, one by each method. It is encoded once for each
    layer.

    Args:
        at: the model, to be explained at a layer.
        layers: names, at least one.
        by: methods whose maps live at the layer.
        asked: what :func:`vlcam.explain` takes: a caption, or a question and answers.

    Raises:
        ValueError: as by :func:`vlcam.explain`; or the maps of a method do not live at the layer.
    """
    for method in by:
        methods.at_layer(method)
    found: list[list[Explanation]] = []
    for layer in progress.each(layers, "layers", unit="layer"):
        model = at(layer)
        explanations = explain_request(model, photo, Request(methods=tuple(by), **asked))
        if not found:  # what the model says itself does not depend on the layer: say it once
            asked = asked | _again(explanations[0])
        found.append(explanations)
    return found


def _again(explanation: Explanation) -> dict[str, Any]:
    """What asks the same once more."""
    if explanation.question is None:
        return {"caption": explanation.caption}
    if explanation.target.startswith("difference") or not explanation.answers:
        return {}  # an answer that the model wrote it writes again
    return {"answers": [answer.text for answer in explanation.answers]}


def write(found: Sequence[Sequence[Explanation]], folder: Path) -> None:
    """``layers.png``, and a folder with ``explanation.json`` and ``maps.npz`` for each layer: of
    several methods in ``<method>/<layer>/``.

    Args:
        found: what :func:`sweep` gives.
    """
    with folder_written(folder) as draft:
        for row in found:
            for explanation in row:
                above = draft / explanation.method if len(row) > 1 else draft
                (above / explanation.layer).mkdir(parents=True, exist_ok=True)
                saving.write(explanation, above / explanation.layer)
        draw(found).savefig(draft / "layers.png", format="png")


def draw(found: Sequence[Sequence[Explanation]]) -> Figure:
    """Rows of layers by columns of methods; where these would be too many tiles in a row, rows of
    a layer and a method each."""
    from vlcam.explanation.figure import draw_rows, draw_table

    names = [explanation.method for explanation in found[0]]
    if len(names) == 1:
        return draw_rows([(_title(row[0]), row[0]) for row in found])
    if sum(len(explanation.items) for explanation in found[0]) <= _TILES:
        return draw_table([(_title(row[0]), row) for row in found], names)
    return draw_rows([(f"{one.method}, {_title(one)}", one) for row in found for one in row])


def _title(explanation: Explanation) -> str:
    rows, columns = explanation.grid.size
    return f"{explanation.layer}, {rows} x {columns} cells"
