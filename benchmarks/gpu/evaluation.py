"""An evaluation in which one batch is encoded on the GPU while the one before is scored."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from PIL import Image

import captioning
import vlcam
from benchmarks.gpu.check import Checks, Section, Settings
from vlcam.adapters.adapter import Adapter
from vlcam.attribution import methods, targets
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import TargetMaps
from vlcam.evaluation import runner
from vlcam.evaluation.experiment import Asked, Experiment, Item
from vlcam.evaluation.records import Columns, Record
from vlcam.evaluation.summary import Summary
from vlcam.geometry.grid import place

_CAPTION = "a red car next to a bus"
_METHODS = ("grad-cam", "guided-grad-cam")
_LIMIT = 1e-2  # of the mean of a map, relative to its greatest value: float32, TF32 off


class Means(Experiment[Asked]):
    """One caption for every photo; of each word's map at photo size the mean over the greatest
    value, and the rank that the processors take their time for."""

    name, title, kind = "means", "Means", "captioner"
    columns: ClassVar[dict[str, type]] = {
        "image": str, "map": str, "target": int, "mean": float, "rank": float,
    }  # fmt: skip
    worth = "mean"

    def __init__(self, photos: Sequence[Path]) -> None:
        self.photos = photos

    @property
    def items(self) -> Sequence[Item]:
        return [Item(photo.name, photo) for photo in self.photos]

    def settings(self) -> dict[str, Any]:
        return {}

    def ask(self, model: Any, item: Item, photo: Encoded, written: Any) -> Asked:
        return Asked(item, photo, targets.units(model.read(_CAPTION)))

    def score(
        self, model: Adapter, asked: Asked, method: str, found: TargetMaps
    ) -> Iterator[Record]:
        placed = place(found.maps, found.grid, asked.photo.placement).cpu().numpy()
        for row, one in enumerate(placed):
            rank = np.argsort(one, axis=None).argmax() / one.size
            mean = float(one.mean() / max(one.max(), 1e-12))
            yield {
                "image": asked.item.name, "map": method, "target": row, "mean": mean,
                "rank": float(rank),
            }  # fmt: skip

    def baselines(self, model: Adapter, asked: Asked) -> Iterator[Record]:
        return iter(())

    def summarise(self, records: Columns) -> Summary:
        raise NotImplementedError


def overlapping(settings: Settings) -> tuple[str, bool]:
    """Seconds with two batches under way against one at a time, and the same records."""
    count, by = (2, _METHODS[:1]) if settings.quick else (256, _METHODS)
    with tempfile.TemporaryDirectory() as folder:
        photos = _photos(Path(folder), count)
        model: Any = captioning.load("scenes")
        expected = _records(model, photos[:8], by, at_once=1)[0]
        model.module.to(settings.device)
        _records(model, photos[:8], by, at_once=2)  # for warming up
        one, alone = _records(model, photos, by, at_once=1)
        two, overlapped = _records(model, photos, by, at_once=2)
    same = one == two
    worst = max(
        abs(float(a["mean"]) - float(b["mean"]))
        for a, b in zip(two, expected, strict=False)
        if a["map"] == "grad-cam"
    )
    text = (
        f"{count / overlapped:.0f} photos/s, one batch at a time {count / alone:.0f};"
        f" {len(two)} records{'' if same else ' NOT'} the same in both;"
        f" against the CPU {worst:.0e}"
    )
    return text, same and worst <= _LIMIT


def _photos(folder: Path, count: int) -> list[Path]:
    """Coloured blocks: of noise each word's map would be next to nothing."""
    random = np.random.default_rng(0)
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    for path in paths:
        blocks = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((640, 480), Image.Resampling.BICUBIC).save(path)
    return paths


def _records(
    model: Any, photos: Sequence[Path], by: Sequence[str], at_once: int
) -> tuple[list[Record], float]:
    work = runner.Work(Means(photos), tuple(methods.get(name) for name in by))
    parts = dict(enumerate(work.parts))
    with (
        mock.patch.object(runner, "_AT_ONCE_GPU", at_once),
        mock.patch.object(runner, "_AT_ONCE", at_once),
    ):
        begun = time.perf_counter()
        found = [
            record for _, part in runner.measured(work, model, parts) for record in part.records
        ]
        return found, time.perf_counter() - begun


def devices_of_workers(settings: Settings) -> tuple[str, bool]:
    """A model that was moved stays where it is, and its maps come to the processors."""
    model = vlcam.load("scenes", kind="captioner", device=str(settings.device))
    found = {parameter.device.type for parameter in model.module.parameters()}
    explanation = vlcam.explain(model, Image.new("RGB", (64, 48), "red"), _CAPTION)
    here = explanation.maps.device.type
    if not settings.quick:  # it takes seconds, and matplotlib
        explanation.figure().clf()
    return f"weights on {', '.join(found)}, maps on {here}", found == {settings.device.type}


def _checks(settings: Settings) -> Checks:
    torch.manual_seed(0)
    yield "two batches under way", partial(overlapping, settings)
    yield "vlcam.explain, and its figure", partial(devices_of_workers, settings)


SECTIONS = (
    Section(
        "Evaluation",
        "The bundled captioner on made photos, Grad-CAM and Guided Grad-CAM of every word of one"
        " caption.",
        _checks,
        60,
    ),
)
