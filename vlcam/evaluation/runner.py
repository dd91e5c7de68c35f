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


@dataclass(frozen=True)
class Work:
    """What to do with each photo: an experiment's questions, by some methods; ``part``: photos of a
    part."""

    experiment: Experiment
    methods: tuple[methods.Method, ...]
    part: int = PART

    @property
    def parts(self) -> list[Sequence[Item]]:
        """The items of each part."""
        items = self.experiment.items
        return [items[i : i + self.part] for i in range(0, len(items), self.part)]


def run(work: Work, model: Adapter, store: Store) -> None:
    """Make the parts that are missing."""
    every, done = work.parts, store.done()
    missing = {number: some for number, some in enumerate(every) if number not in done}
    if not missing:
        return
    count, left = sum(map(len, every)), sum(map(len, missing.values()))
    bar: tqdm[Any]
    with tqdm(total=count, initial=count - left, desc="photos", unit="photo") as bar:
        for number, some in missing.items():
            store.write(number, measure(work, model, some, bar))


def measure(
    work: Work, model: Adapter, items: Sequence[Item], bar: tqdm[Any] | None = None
) -> Part:
    """The records of some photos."""
    records: list[Record] = []
    skipped: list[str] = []

    def done(photos: int = 1) -> None:
        if bar is not None:
            bar.update(photos)

    for some, images in _read_ahead(items, work.experiment.batch):
        pairs = list(zip(some, images, strict=True))
        problems = [f"{item.name}: {image}" for item, image in pairs if isinstance(image, str)]
        skipped += problems
        done(len(problems))
        seen = [(item, image) for item, image in pairs if isinstance(image, Image.Image)]
        for found, lines in _measured(work, model, seen):
            records += found
            skipped += lines
            done()
    return Part(records, skipped)


def _read_ahead(
    items: Sequence[Item], batch: int
) -> Iterator[tuple[Sequence[Item], list[Image.Image | str]]]:
    """Batches of items with their photos (or what is wrong with them), the next ones being read
    while these are looked at."""
    with ThreadPoolExecutor(2) as pool:
        ahead = [pool.submit(_photo, item) for item in items[:batch]]
        for start in range(0, len(items), batch):
            now = ahead
            ahead = [pool.submit(_photo, one) for one in items[start + batch : start + 2 * batch]]
            yield items[start : start + batch], [future.result() for future in now]


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
    maps = [_explained(model, ready, method) for method in work.methods]
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
) -> Iterator[TargetMaps]:
    """Each photo's maps; of methods at the layer all photos' in one pass, where they fit."""
    sizes = {photo.pixels.shape for photo, _ in photos}
    if method.at == "layer" and not model.encode_reads_prompt and len(sizes) == 1:
        yield from _together(model, photos, method)
    else:
        for photo, one in photos:
            yield explain_targets(model, photo, one.targets, method)


def _together(
    model: Adapter, photos: Sequence[tuple[Encoded, Asked]], method: methods.Method
) -> Iterator[TargetMaps]:
    grid = model.grid((photos[0][0].pixels.shape[2], photos[0][0].pixels.shape[3]))
    targets = [target for _, one in photos for target in one.targets]
    rows = [row for row, (_, one) in enumerate(photos) for _ in one.targets]
    scores, maps = torch.zeros(0), torch.zeros(0, *grid.size)
    if targets:
        features = FeatureMaps.of([photo.seen(model) for photo, _ in photos])
        scores, maps = explain_at_layer(model, features, targets, method, rows)
    counts = [len(one.targets) for _, one in photos]
    for some, of_them in zip(scores.split(counts), maps.split(counts), strict=True):
        yield TargetMaps(some, of_them.float(), grid)


def read_all(work: Work, store: Store) -> Part:
    """All records and problems, in the items' order.

    Raises:
        ValueError: a part is missing or damaged.
    """
    found = [store.read(number) for number in range(len(work.parts))]
    return Part(
        [record for part in found for record in part.records],
        [line for part in found for line in part.skipped],
    )
