"""Running an experiment in one process: photos are read ahead, encoded in batches, explained
together and scored, several batches at once where that can be; records are written as they come.

Parts, and the batches in them, are the same however often a run is interrupted and whatever engine
runs it, so that the same records come out, bit for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from threading import Event, Lock
from typing import Any

import pyarrow as arrow
import torch

from vlcam.adapters.adapter import Adapter, FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import Prepared, encode_photos, prepare
from vlcam.attribution.gradients import explain_all_at_layer
from vlcam.attribution.maps import TargetMaps, alike, explain_targets_by
from vlcam.evaluation.experiment import Asked, Experiment, Item, Thing
from vlcam.evaluation.records import Columns, Record
from vlcam.evaluation.store import Part, Store
from vlcam.photo.loading import load_photo
from vlcam.utils.messages.errors import one_line
from vlcam.utils.terminal import progress

PART = 64
"""Photos of a part, whose records are written together: a kill loses those of one at most."""

_AT_ONCE = 4  # batches: more would only wait for each other, as Python runs one thread at a time
_AT_ONCE_GPU = 2  # one is scored, by the processors, while another is encoded


@dataclass(frozen=True)
class Work:
    """What to do with each photo: an experiment's questions, by some methods; ``part``: photos of a
    part."""

    experiment: Experiment[Any]
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
    with progress.of("photos", count, unit="photo", done=count - left) as told:
        for number, part in measured(work, model, missing, told.advance):
            store.write(number, part)


def measure(work: Work, model: Adapter, items: Sequence[Item]) -> Part:
    """The records of some photos."""
    return next((part for _, part in measured(work, model, {0: items})), Part([], []))


def measured(
    work: Work,
    model: Adapter,
    parts: Mapping[int, Sequence[Item]],
    done: Callable[[int], object] = lambda photos: None,
) -> Iterator[tuple[int, Part]]:
    """Parts, one after the other, by their numbers.

    Photos are read ahead. Where the model allows it, several batches are computed at once, each in
    a thread with its share of the processors: that keeps them busier than one batch on all of them.
    A model on a GPU encodes one batch after the other. The records depend on how many threads
    PyTorch may use, and on nothing else.

    Args:
        done: called with the number of further photos whose records are made.
    """
    size = work.experiment.batch
    batches = [
        _Batch(number, items[start : start + size], start + size >= len(items))
        for number, items in parts.items()
        for start in range(0, len(items), size)
    ]
    records: list[Record] = []
    skipped: list[str] = []
    for batch, found in _in_threads(work, model, batches):
        records += found.records
        skipped += found.skipped
        done(len(batch.items))
        if batch.last:
            yield batch.part, Part(records, skipped)
            records, skipped = [], []


@dataclass(frozen=True)
class _Batch:
    """Photos that are encoded together; ``last`` of its part?"""

    part: int
    items: Sequence[Item]
    last: bool


def _in_threads(
    work: Work, model: Adapter, batches: Sequence[_Batch]
) -> Iterator[tuple[_Batch, Part]]:
    """The batches with their records, in their order."""
    processors = torch.get_num_threads()
    at_once = _batches_at_once(work, model, processors)
    turns = nullcontext() if _on_cpu(model) else Lock()
    share = partial(torch.set_num_threads, max(1, processors // at_once))
    alone = partial(torch.set_num_threads, 1)
    waiting: deque[tuple[_Batch, Future[Part]]] = deque()
    over = Event()
    readers = ThreadPoolExecutor(max(2, processors // 2), initializer=alone)
    workers = ThreadPoolExecutor(at_once, initializer=share)
    try:
        for batch in batches:
            photos = [readers.submit(_read, model, item) for item in batch.items]
            begun = workers.submit(_measured, work, model, batch, photos, turns, over)
            waiting.append((batch, begun))
            if len(waiting) > at_once + 1:
                ready, found = waiting.popleft()
                yield ready, found.result()
        for ready, found in waiting:
            yield ready, found.result()
    finally:
        over.set()
        for pool in (workers, readers):
            pool.shutdown(cancel_futures=True)
        torch.set_num_threads(processors)  # of threads to come; this one's was never another


def _batches_at_once(work: Work, model: Adapter, processors: int) -> int:
    if not model.thread_safe:
        return 1
    if _on_cpu(model):
        return max(n for n in range(1, _AT_ONCE + 1) if processors % n == 0)  # none is left over
    return 1 if work.experiment.scores_by_model else _AT_ONCE_GPU


def _on_cpu(model: Adapter) -> bool:
    return all(parameter.is_cpu for parameter in model.module.parameters())


def _measured(
    work: Work,
    model: Adapter,
    batch: _Batch,
    photos: Sequence[Future[Prepared | str]],
    turns: AbstractContextManager[object],
    over: Event,
) -> Part:
    """The records of a batch; the model encodes it when it is its turn."""
    read = [photo.result() for photo in photos]
    with turns:
        explained = _explain(work, model, batch.items, read, over)
    return _score(work, model, explained, over)


def _until(over: Event, things: Sequence[Thing]) -> Iterator[Thing]:
    """The things of a batch; CancelledError once the run is interrupted."""
    for thing in things:
        if over.is_set():
            raise CancelledError
        yield thing


def _read(model: Adapter, item: Item) -> Prepared | str:
    try:
        return prepare(model, str(item.photo), load_photo(item.photo))
    except (ValueError, OSError) as error:
        return one_line(error)


@dataclass(frozen=True)
class _Explained:
    """What was asked of a photo, with the maps by each method; or what is wrong with it."""

    asked: Asked | None = None
    maps: tuple[TargetMaps, ...] = ()
    problem: str = ""


def _explain(
    work: Work,
    model: Adapter,
    items: Sequence[Item],
    photos: Sequence[Prepared | str],
    over: Event,
) -> list[_Explained]:
    """Encode a batch, ask, and explain."""
    seen = encode_photos(model, [photo for photo in photos if isinstance(photo, Prepared)])
    written = zip(seen, work.experiment.write(model, seen), strict=True)
    found: list[_Explained] = []
    for item, read in zip(_until(over, items), photos, strict=True):
        if isinstance(read, str):
            found.append(_Explained(problem=f"{item.name}: {read}"))
            continue
        photo, own = next(written)
        try:
            found.append(_Explained(work.experiment.ask(model, item, photo, own)))
        except ValueError as error:
            found.append(_Explained(problem=f"{item.name}: {one_line(error)}"))
    ready = [one.asked for one in found if one.asked]
    every = iter(_maps(model, ready, work.methods, over))
    return [replace(one, maps=next(every)) if one.asked else one for one in found]


def _score(work: Work, model: Adapter, explained: Sequence[_Explained], over: Event) -> Part:
    """The records of a batch."""
    records: list[Record] = []
    skipped: list[str] = []
    experiment = work.experiment
    for one in _until(over, explained):
        if one.asked is None:
            skipped.append(one.problem)
            continue
        records += experiment.baselines(model, one.asked)
        for method, found in zip(work.methods, one.maps, strict=True):
            records += experiment.score(model, one.asked, method.name, found)
        skipped += one.asked.skipped
    return Part(records, skipped)


def _maps(
    model: Adapter, photos: Sequence[Asked], by: Sequence[methods.Method], over: Event
) -> list[tuple[TargetMaps, ...]]:
    """Each photo's maps, method by method; by those at the layer all photos' in one pass, where
    they fit."""
    sizes = {one.photo.pixels.shape for one in photos}
    fits = not model.encode_reads_prompt and len(sizes) == 1
    together = [group for group in alike(by) if fits and group[0].at == "layer"]
    found: list[dict[str, TargetMaps]] = [{} for _ in photos]
    for group in together:
        for method, maps in zip(group, _together(model, photos, group), strict=True):
            for own, one in zip(found, maps, strict=True):
                own[method.name] = one
    rest = [method for method in by if not any(method in group for group in together)]
    for own, asked in zip(found, _until(over, photos), strict=True):
        own_maps = explain_targets_by(model, asked.photo, asked.targets, rest)
        own |= {method.name: each for method, each in zip(rest, own_maps, strict=True)}
    return [tuple(own[method.name] for method in by) for own in found]


def _together(
    model: Adapter, photos: Sequence[Asked], group: Sequence[methods.Method]
) -> list[list[TargetMaps]]:
    """By each method of a group the photos' maps."""
    cells = [model.cells(one.photo.pixels, one.photo.placement) for one in photos]
    targets = [target for one in photos for target in one.targets]
    rows = [row for row, one in enumerate(photos) for _ in one.targets]
    scores, maps = torch.zeros(0), [torch.zeros(0, *cells[0].size)] * len(group)
    if targets:
        features = FeatureMaps.of([one.photo.seen(model) for one in photos])
        scores, maps = explain_all_at_layer(model, features, targets, group, images=rows)
    counts = [len(one.targets) for one in photos]
    return [
        [
            TargetMaps(some, of_them.float(), grid)
            for some, of_them, grid in zip(
                scores.split(counts), own.split(counts), cells, strict=True
            )
        ]
        for own in maps
    ]


def read_all(work: Work, store: Store) -> tuple[Columns, list[str]]:
    """All records, in the items' order, and a line for each photo that could not be used.

    Raises:
        ValueError: a part is missing or damaged.
    """
    found = [store.read(number) for number in range(len(work.parts))]
    lines = [line for _, skipped in found for line in skipped]
    return Columns.of(arrow.concat_tables([table for table, _ in found])), lines
