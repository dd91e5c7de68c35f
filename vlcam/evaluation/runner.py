"""Running an experiment in one process: photos are read ahead, encoded in batches, and explained
together; records are written as they come.

Parts, and the batches in them, are the same however often a run is interrupted and whatever engine
runs it, so that the same records come out, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from vlcam import methods
from vlcam.adapter import Adapter, FeatureMaps
from vlcam.engine import explain_at_layer
from vlcam.evaluation.experiment import Asked, Experiment, Item, Record
from vlcam.evaluation.store import Part, Store
from vlcam.explaining import Encoded, TargetMaps, explain_targets, look_at
from vlcam.messages import one_line
from vlcam.photo import load as load_photo

PART = 64
"""Photos of a part: what a kill costs at most."""

_BATCH = 16  # photos encoded together


@dataclass(frozen=True)
class Work:
    """What to do with each photo: an experiment's questions, by some methods."""

    experiment: Experiment
    methods: tuple[methods.Method, ...]


def parts(count: int) -> list[range]:
    """Which items each part is of."""
    return [range(i, min(i + PART, count)) for i in range(0, count, PART)]


def run(work: Work, model: Adapter, store: Store) -> None:
    """Make the parts that are missing."""
    items = work.experiment.items
    every, done = parts(len(items)), store.done()
    missing = {number: some for number, some in enumerate(every) if number not in done}
    if not missing:
        return
    left = sum(map(len, missing.values()))
    bar: tqdm[Any]
    with tqdm(total=len(items), initial=len(items) - left, desc="photos", unit="photo") as bar:
        for number, places in missing.items():
            store.write(number, measure(work, model, [items[i] for i in places], bar))


def measure(
    work: Work, model: Adapter, items: Sequence[Item], bar: tqdm[Any] | None = None
) -> Part:
    """The records of some photos."""
    records: list[Record] = []
    skipped: list[str] = []
    for some, images in _read_ahead(items):
        seen = [(i, x) for i, x in zip(some, images, strict=True) if isinstance(x, Image.Image)]
        skipped += [
            f"{i.name}: {x}" for i, x in zip(some, images, strict=True) if isinstance(x, str)
        ]
        for found, lines in _measured(work, model, seen):
            records += found
            skipped += lines
        if bar is not None:
            bar.update(len(some))
    return Part(records, skipped)


def _read_ahead(items: Sequence[Item]) -> Iterator[tuple[Sequence[Item], list[Image.Image | str]]]:
    """Batches of items with their photos (or what is wrong with them), the next ones being read
    while these are looked at."""
    starts = range(0, len(items), _BATCH)
    with ThreadPoolExecutor(2) as pool:
        ahead = [pool.submit(_photo, item) for item in items[:_BATCH]]
        for start in starts:
            now, ahead = (
                ahead,
                [pool.submit(_photo, item) for item in items[start + _BATCH : start + 2 * _BATCH]],
            )
            yield items[start : start + _BATCH], [future.result() for future in now]


def _photo(item: Item) -> Image.Image | str:
    try:
        return load_photo(item.photo)
    except (ValueError, OSError) as error:
        return one_line(error)


def _measured(
    work: Work, model: Adapter, photos: Sequence[tuple[Item, Image.Image]]
) -> Iterator[tuple[list[Record], list[str]]]:
    """Records and problems of each photo of a batch, in order."""
    experiment = work.experiment
    encoded = look_at(model, [(str(item.photo), image) for item, image in photos])
    asked: list[Asked | str] = []
    for (item, _), photo in zip(photos, encoded, strict=True):
        try:
            asked.append(experiment.ask(model, photo, item))
        except ValueError as error:
            asked.append(f"{item.name}: {one_line(error)}")
    ready = [
        (photo, one) for photo, one in zip(encoded, asked, strict=True) if isinstance(one, Asked)
    ]
    maps = [iter(_explained(model, ready, method)) for method in work.methods]
    for (item, _), photo, one in zip(photos, encoded, asked, strict=True):
        if isinstance(one, str):
            yield [], [one]
            continue
        records = list(experiment.baselines(model, item, photo, one))
        for method, found in zip(work.methods, maps, strict=True):
            records += experiment.score(model, item, photo, one, method.name, next(found))
        yield records, list(one.skipped)


def _explained(
    model: Adapter, photos: Sequence[tuple[Encoded, Asked]], method: methods.Method
) -> list[TargetMaps]:
    """Each photo's maps; of methods at the layer all photos' in one pass, where they fit."""
    sizes = {photo.pixels.shape for photo, _ in photos}
    together = method.at == "layer" and not model.encode_reads_prompt and len(sizes) == 1
    if not together or not photos:
        return [explain_targets(model, photo, one.targets, method) for photo, one in photos]
    features = FeatureMaps.of([photo.seen(model) for photo, _ in photos])
    targets = [target for _, one in photos for target in one.targets]
    rows = [row for row, (_, one) in enumerate(photos) for _ in one.targets]
    grid = model.grid((photos[0][0].pixels.shape[2], photos[0][0].pixels.shape[3]))
    if not targets:
        empty = torch.zeros(0, *grid.size)
        return [TargetMaps(torch.zeros(0), empty, grid) for _ in photos]
    scores, maps = explain_at_layer(model, features, targets, method, rows)
    counts = [len(one.targets) for _, one in photos]
    return [
        TargetMaps(some, of_them.float(), grid)
        for some, of_them in zip(scores.split(counts), maps.split(counts), strict=True)
    ]


def read_all(store: Store, count: int) -> Part:
    """All records and problems, in the items' order.

    Raises:
        ValueError: a part is missing or damaged.
    """
    found = [store.read(number) for number in range(len(parts(count)))]
    return Part(
        [record for part in found for record in part.records],
        [line for part in found for line in part.skipped],
    )
