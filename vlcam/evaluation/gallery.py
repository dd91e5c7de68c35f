"""The best, median and worst maps of an evaluation, drawn over their photos."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

from vlcam.adapters.adapter import Adapter
from vlcam.attribution.encoding import Encoded, look
from vlcam.attribution.maps import TargetMaps, explain_targets
from vlcam.attribution.methods import Method
from vlcam.evaluation.experiment import Experiment
from vlcam.evaluation.records import Columns, Record
from vlcam.explanation.display import blend, fitted, is_at_pixels, levels, palette
from vlcam.geometry.grid import place
from vlcam.metrics.pointing import Mask

KINDS = ("best", "median", "worst")
_SIDE = 360  # pixels of a picture's longer side
_EDGE = (90, 255, 150)  # of what the map should have been on


@dataclass(frozen=True)
class Picture:
    """A map over its photo.

    Attributes:
        kind: one of :data:`KINDS`.
        caption: what it shows, and its worth.
        data: a JPEG as a ``data:`` address.
    """

    kind: str
    caption: str
    data: str


def pictures(
    experiment: Experiment, model: Adapter, method: Method, records: Columns, each: int = 4
) -> Iterator[Picture]:
    """Some of one method's maps, each of another photo where there are enough."""
    own = records.rows((records["map"] == method.name) & (records["target"] != -1))
    order = np.argsort(own[experiment.worth], kind="stable")
    half = max(0, len(order) // 2 - 2 * each)
    runs = {"best": order[::-1], "median": order[half:], "worst": order}
    by_name = {item.name: item for item in experiment.items}
    shown: set[tuple[str, int]] = set()
    for kind in KINDS:
        for record in _of_several_photos(own, runs[kind], each):
            key = str(record["image"]), cast(int, record["target"])
            if key in shown:
                continue
            shown.add(key)
            item = by_name[key[0]]
            photo = look(model, item.photo)
            asked = experiment.ask(model, item, photo, experiment.write(model, [photo])[0])
            if key[1] >= len(asked.targets):
                continue  # written by itself, a caption that hung in the balance is another one
            found = explain_targets(model, photo, [asked.targets[key[1]]], method)
            over = _drawn(photo, found, experiment.outline(asked, key[1]))
            worth = f"{experiment.worth} {cast(float, record[experiment.worth]):.2f}"
            yield Picture(kind, f"{experiment.label(record)} - {item.name}, {worth}", _jpeg(over))


def _of_several_photos(records: Columns, order: np.ndarray, count: int) -> list[Record]:
    seen: dict[str, int] = {}
    for row in order.tolist():
        seen.setdefault(records["image"][row], row)
        if len(seen) == count:
            break
    return [records.record(row) for row in seen.values()]


def _drawn(photo: Encoded, found: TargetMaps, mask: Mask | None) -> np.ndarray:
    """The one map over the photo, with what it should have been on outlined."""
    placed = place(found.maps, found.grid, photo.placement)[0].cpu().numpy()
    signed = bool((placed < 0).any())
    speckled = is_at_pixels(found.grid)
    picture = np.asarray(photo.image)
    if placed.min() != placed.max():
        picture = blend(picture, levels(placed, signed, speckled), palette(signed))
    height, width = fitted((picture.shape[0], picture.shape[1]), _SIDE)
    small = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
    if mask is not None:
        inside = np.asarray(
            Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), bool
        )
        small[_edge(inside)] = _EDGE
    return small


def _edge(mask: Mask) -> Mask:
    """The pixels of a mask that have a neighbour outside."""
    inner = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(mask, step, axis)
    edge: Mask = mask & ~inner
    return edge


def _jpeg(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
