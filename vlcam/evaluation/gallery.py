"""The best, median and worst maps of an evaluation, drawn over their photos."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

from vlcam.adapters.adapter import Adapter
from vlcam.attribution.encoding import Encoded, look
from vlcam.attribution.maps import TargetMaps, explain_targets
from vlcam.attribution.methods import Method
from vlcam.evaluation.experiment import Experiment, Item
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
            yield Picture(kind, _caption(experiment, record, item), _jpeg(over))


def about(experiment: Experiment, method: Method) -> str:
    """What the pictures are, and how they were chosen."""
    by = " ".join(re.sub(r"\{.*?\}", "…", experiment.says).split())
    outlined = type(experiment).outline is not Experiment.outline
    line = " The green line surrounds what the map should be on." if outlined else ""
    return (
        f"Maps by {method.name} over their photos, each scaled by its own maximum: the best, some"
        f" in the middle and the worst, by “{by}”.{line}"
    )


def _caption(experiment: Experiment, record: Record, item: Item) -> str:
    """Of what a map is, on which photo, and what it is worth, in words."""
    worth = experiment.says.format(cast(float, record[experiment.worth]))
    return f"“{experiment.label(record)}” on photo {item.name}: {worth}"


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
        from skimage.segmentation import find_boundaries  # slow to import

        inside = np.asarray(
            Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), bool
        )
        small[find_boundaries(inside, mode="inner")] = _EDGE
    return small


def _jpeg(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
