"""Pointing with the visual words of captions on COCO's layout (section 8.1.1 of the paper).

Does the peak of a word's map lie in the segmentation of what the word names? A caption's words are
mapped to COCO's categories (``word_maps``), a category to the union of its segmentations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from pycocotools.coco import COCO
from torch import Tensor

import word_maps
from captioning.language.captioner import Captioner, TokenizedWord, reading
from vlcam.adapters.adapter import Adapter, Reading, Unit
from vlcam.attribution import targets
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import TargetMaps
from vlcam.evaluation import tables
from vlcam.evaluation.baselines import ACTIVATION, UNIFORM, summed_activation
from vlcam.evaluation.experiment import Asked, Experiment, Item, sample
from vlcam.evaluation.records import Column, Columns, Record
from vlcam.evaluation.summary import Cell, Summary, Table, difference, differences
from vlcam.geometry.grid import place
from vlcam.geometry.peaks import Peak, peaks
from vlcam.metrics.estimates import mean, mean_by_class
from vlcam.metrics.pointing import Mask, centre, hit, near, points_at
from vlcam.utils.messages.errors import one_line
from vlcam.utils.untouched import untouched
from word_maps.coco import annotation_file, read_captions, read_instances

Captions = Literal["reference", "first", "generated"]
CENTRE, RANDOM, CHANCE = "photo's centre", "random point", "random point, expected"
BASELINES = (CENTRE, RANDOM, CHANCE, ACTIVATION, UNIFORM)
PAPER = "Selvaraju et al. (2019), section 8.1.1: 30.0 % on 1,000 COCO photos, Show and Tell."
_NOT_SCORED = {
    "absent": "not in the photo",
    "unknown": "not in the vocabulary",
    "silent": "no caption written",
    "nothing": "captions without a visual word",
}
_SIZES: dict[str, Callable[[Column, Column], Column]] = {
    "small": lambda area, categories: area < 1 / 16,
    "medium": lambda area, categories: (area >= 1 / 16) & (area < 1 / 4),
    "large": lambda area, categories: area >= 1 / 4,
}
_DIFFICULTIES: dict[str, Callable[[Column, Column], Column]] = {
    "alone in the photo": lambda area, categories: categories == 1,
    "one of several": lambda area, categories: categories > 1,
    "difficult": lambda area, categories: (area < 1 / 16) & (categories > 1),
}


@dataclass(frozen=True)
class Segment:
    """Where a category is in a photo: its segmentation, the pixels near it, and their shares of the
    photo."""

    mask: Mask
    near: Mask
    area: float
    near_area: float

    @classmethod
    def of(cls, mask: Mask, tolerance: float) -> Segment:
        around = near(mask, tolerance)
        areas = (np.count_nonzero(some) / some.size for some in (mask, around))
        return cls(mask, around, *areas)


@dataclass(frozen=True)
class VisualWord:
    """A word or compound of a caption that names a category."""

    text: str
    category: str
    where: Segment
    categories: int  # in the photo


class _Shown:
    """The categories in a photo; the mask of each is made once."""

    def __init__(self, coco: COCO, image: int, tolerance: float) -> None:
        self.coco, self.image, self.tolerance = coco, image, tolerance
        self.present = word_maps.present(coco, image)
        self._segments: dict[str, Segment] = {}

    def word(self, text: str, category: str) -> VisualWord:
        if category not in self._segments:
            mask = word_maps.word_map(self.coco, self.image, category)
            self._segments[category] = Segment.of(mask, self.tolerance)
        return VisualWord(text, category, self._segments[category], len(self.present))


@dataclass(frozen=True)
class AskedWords(Asked):
    """The visual words of a photo's captions, one per target, and records of those that cannot be
    pointed with."""

    words: list[VisualWord]
    missing: list[Record]


class Words(Experiment[AskedWords]):
    """Pointing of visual words.

    Args:
        data: COCO's layout: ``annotations/instances_SPLIT.json``, ``captions_SPLIT.json``, and the
            photos in ``SPLIT/``; without a split plain names, and ``images/``.
        captions: ``reference``: all there are of a photo; ``first``: the first; ``generated``: the
            model's own.
        limit: so many photos, chosen by ``seed``.
        tolerance: pixels from which a peak counts as near (Zhang et al., 2016: 15).
        beam: width of the beam of generated captions.
        table: a file of words to be added to the table of visual words.

    Raises:
        ValueError: a file is missing or not as expected.
    """

    name: ClassVar = "words"
    title = "Word pointing"
    kind: ClassVar = "captioner"
    columns: ClassVar = {
        "image": str, "target": int, "word": str, "category": str, "map": str, "reason": str,
        "x": int, "y": int, "degenerate": bool, "hit": float, "near": float, "inside": float,
        "area": float, "categories": int,
    }  # fmt: skip
    worth: ClassVar = "inside"
    worth_says: ClassVar = "{:.0%} of the map lies inside the outline"

    def __init__(
        self,
        data: Path,
        *,
        split: str = "",
        captions: Captions = "reference",
        limit: int | None = None,
        seed: int = 0,
        tolerance: float = 15.0,
        beam: int = 1,
        table: Path | None = None,
    ) -> None:
        self.data, self.split, self.captions = data, split, captions
        self.limit, self.seed, self.tolerance, self.beam = limit, seed, tolerance, beam
        self.table = word_maps.extended(table) if table else word_maps.table()
        self._instances = read_instances(annotation_file(data, "instances", split))
        self._captions = read_captions(annotation_file(data, "captions", split))

    def settings(self) -> dict[str, Any]:
        own = sorted(self.table.own)
        names = ("split", "captions", "limit", "seed", "tolerance", "beam")
        return {"data": str(self.data), "own words": own, **{n: getattr(self, n) for n in names}}

    @property
    def skipped(self) -> Sequence[str]:
        coco = self._instances.coco
        strangers = [n for n in self._captions.by_image if n not in coco.imgs]
        lines = [f"captions of image {n}: not in the instances file" for n in strangers]
        return [*self._instances.problems, *self._captions.problems, *lines]

    @cached_property
    def items(self) -> Sequence[Item]:
        """The photos that have captions, by their ids."""
        images = self._instances.coco.imgs
        numbers = sorted(n for n in images if n in self._captions.by_image)
        folder = self.data / (self.split or "images")
        return [
            Item(str(n), folder / images[n]["file_name"])
            for n in sample(numbers, self.limit, self.seed)
        ]

    def write(self, model: Adapter, photos: Sequence[Encoded]) -> Sequence[Any]:
        """The model's own captions, where they are asked for."""
        if self.captions != "generated":
            return super().write(model, photos)
        with untouched(model.module), torch.no_grad():
            return cast(Captioner, model).generate_all([p.seen(model) for p in photos], self.beam)

    def ask(self, model: Adapter, item: Item, photo: Encoded, written: Any) -> AskedWords:
        image, coco = int(item.name), self._instances.coco
        height, width = coco.imgs[image]["height"], coco.imgs[image]["width"]
        if (height, width) != photo.placement.photo_size:
            true = photo.placement.photo_size
            raise ValueError(
                f"{item.photo.name} is {true[1]} x {true[0]}, the file says {width} x {height}"
            )
        shown = _Shown(coco, image, self.tolerance)
        words, asked, missing = list[VisualWord](), list[targets.Target](), list[Record]()
        readings, skipped = self._readings(cast(Captioner, model), image, written)
        if not readings and not skipped:
            missing.append(self._record(item, reason="silent"))
        for read in readings:
            texts = [unit.text for unit in read.units]
            visual = word_maps.visual_words(_with_marks(read), self.table)
            if not visual:
                missing.append(self._record(item, read.text, reason="nothing"))
            for start, stop, category in visual:
                text, units = " ".join(texts[start:stop]), read.units[start:stop]
                columns = tuple(c for unit in units if not unit.unknown for c in unit.scores)
                if category in shown.present and columns:
                    words.append(shown.word(text, category))
                    asked.append(targets.unit(read, Unit(text, columns)))
                else:
                    reason = "unknown" if category in shown.present else "absent"
                    missing.append(self._record(item, text, category, reason=reason))
        lines = tuple(f"{image}: {line}" for line in skipped)
        return AskedWords(item, photo, asked, words, missing, skipped=lines)

    def _readings(
        self, model: Captioner, image: int, own: Sequence[TokenizedWord]
    ) -> tuple[list[Reading], list[str]]:
        """A photo's captions, and a line for each that cannot be read."""
        if self.captions == "generated":
            return ([reading(" ".join(word.text for word in own), own)] if own else []), []
        texts = self._captions.by_image[image]
        read, skipped = list[Reading](), list[str]()
        for text in texts[:1] if self.captions == "first" else texts:
            try:
                read.append(model.read(text))
            except ValueError as error:
                skipped.append(one_line(error))
        return read, skipped

    def score(
        self, model: Adapter, asked: AskedWords, method: str, found: TargetMaps
    ) -> Iterator[Record]:
        words = asked.words
        if not words:
            return
        where = found.grid, asked.photo.placement
        support = place(found.maps, *where).clamp_(min=0)
        inside = _inside(support, [word.where.mask for word in words])
        rows = zip(words, peaks(found.maps, *where), inside, strict=True)
        for which, (word, peak, share) in enumerate(rows):
            about = self._of(asked.item, which, word)
            yield about | _pointed(method, word, peak) | {"inside": share}

    def label(self, record: Record) -> str:
        return str(record["word"])

    def outline(self, asked: AskedWords, which: int) -> Mask | None:
        return asked.words[which].where.mask

    def baselines(self, model: Adapter, asked: AskedWords) -> Iterator[Record]:
        item, photo, words = asked.item, asked.photo, asked.words
        yield from asked.missing
        size = photo.placement.photo_size
        rng = np.random.default_rng([self.seed, int(item.name)])
        middle = Peak(centre(size), degenerate=False)
        if not words:
            return
        (active,) = peaks(*summed_activation(model, photo), photo.placement)
        for which, word in enumerate(words):
            anywhere = Peak((int(rng.integers(size[1])), int(rng.integers(size[0]))), False)
            about = self._of(item, which, word)
            yield about | _pointed(CENTRE, word, middle)
            yield about | _pointed(RANDOM, word, anywhere)
            yield about | _pointed(ACTIVATION, word, active)
            yield about | _pointed(UNIFORM, word, Peak(middle.point, degenerate=True))
            area, near_area = word.where.area, word.where.near_area
            yield about | {"map": CHANCE, "hit": area, "near": near_area, "inside": area}

    def _of(self, item: Item, which: int, word: VisualWord) -> Record:
        """A record of a word, before any map has pointed at it."""
        found: Record = {
            "target": which, "area": word.where.area, "categories": word.categories
        }  # fmt: skip
        return self._record(item, word.text, word.category) | found

    @staticmethod
    def _record(item: Item, word: str = "", category: str = "", reason: str = "") -> Record:
        """A record without results; ``reason``: why there will be none."""
        point: Record = {"x": -1, "y": -1, "degenerate": False, "hit": 0.0, "near": 0.0}
        about: Record = {"image": item.name, "target": -1, "word": word, "category": category}
        kind: Record = {"map": "", "reason": reason, "inside": 0.0, "area": 0.0, "categories": 0}
        return about | point | kind

    def summarise(self, records: Columns) -> Summary:
        reasons = records["reason"]
        scored = records.rows(reasons == "").by("map")
        methods = [name for name in scored if name not in BASELINES]
        names = [*methods, *(name for name in BASELINES if name in scored)]
        tolerance = f"within {self.tolerance:g} px"
        head = ("map", "hits", "95 %", tolerance, "by category", "less the centre", "degenerate")
        main = Table(
            "Pointing with visual words",
            (*head, "words"),
            tuple(self._row(scored, name) for name in names),
            note="A hit: the peak lies in the segmentation of what the word names. By category: the"
            " mean over categories. Less the centre: of the same words, paired. A degenerate map"
            " is a miss.",
        )
        splits = Table(
            "Hits by the segmentation's size and the number of categories in the photo",
            ("map", *_SIZES, *_DIFFICULTIES),
            tuple(self._kinds({name: scored[name] for name in names})),
            note="Small, medium, large: less than 1/16, less than 1/4, and more of the photo."
            " Difficult: small, with other categories in the photo.",
        )
        counts = Table(
            "What could not be pointed with",
            ("reason", "number"),
            tuple((text, int((reasons == reason).sum())) for reason, text in _NOT_SCORED.items()),
            "figure",
        )
        by_category = self._by_category(scored, methods[:1])
        return Summary(
            (main, *self._differences(scored, methods), splits, *by_category, counts), (PAPER,)
        )

    @staticmethod
    def _differences(scored: dict[str, Columns], names: Sequence[str]) -> tuple[Table, ...]:
        """Of hits, between methods."""
        sums = {name: (scored[name]["hit"], np.ones(len(scored[name]))) for name in names}
        return differences(sums, scored[names[0]]["image"] if names else (), "hits")

    @staticmethod
    def _by_category(scored: dict[str, Columns], names: Sequence[str]) -> Iterator[Table]:
        """Hits of some maps, category by category."""
        for name in names:
            parts = sorted(scored[name].by("category").items(), key=lambda part: -len(part[1]))
            rows = [(text, mean(some["hit"], some["image"]), len(some)) for text, some in parts]
            yield Table(f"Hits by category: {name}", ("category", "hits", "words"), tuple(rows))

    def _row(self, scored: dict[str, Columns], name: str) -> tuple[Cell, ...]:
        some = scored[name]
        hits, images = some["hit"], some["image"]
        estimate = mean(hits, images)
        return (
            name,
            estimate,
            tables.interval(estimate, 1, 100),
            mean(some["near"], images),
            f"{100 * mean_by_class(hits, some['category']):.1f}",
            difference(hits, scored[CENTRE]["hit"], images) if name != CENTRE else "",
            int(some["degenerate"].sum()),
            len(some),
        )

    @staticmethod
    def _kinds(scored: dict[str, Columns]) -> Iterator[tuple[Cell, ...]]:
        """A row of each map's hits by kind of word."""
        columns = []
        for chosen in (*_SIZES.values(), *_DIFFICULTIES.values()):
            # All maps of one kind of word in a row: means over the same photos share their
            # bootstrap samples (vlcam/metrics/estimates.py).
            every = [
                part.rows(chosen(part["area"], part["categories"])) for part in scored.values()
            ]
            columns.append([mean(one["hit"], one["image"]) if len(one) else "" for one in every])
        return zip(scored, *columns, strict=True)


def _with_marks(read: Reading) -> list[str]:
    """A caption's words with the punctuation marks behind them, which many models do not read: a
    laptop, keyboard and mouse is no laptop keyboard."""
    text, words, end = read.text.lower(), [], 0
    for unit in read.units:
        start = text.find(unit.text.lower(), end)
        end = end if start < 0 else start + len(unit.text)
        mark = text[end:].lstrip()[:1]
        words.append(unit.text + mark if start >= 0 and mark in set(",;:!?)") else unit.text)
    return words


def _pointed(name: str, word: VisualWord, peak: Peak) -> Record:
    """The record of a map of that name with that peak."""
    point, flat = peak
    return {
        "map": name,
        "x": -1 if flat else point[0],
        "y": -1 if flat else point[1],
        "degenerate": flat,
        "hit": float(hit(word.where.mask, point, flat)),
        "near": float(not flat and points_at(word.where.near, point)),
    }


def _inside(support: Tensor, masks: Sequence[Mask]) -> list[float]:
    """The share of each map's values, none of them negative, that lies in its mask; 0 where all
    are zero."""
    different = list({id(mask): mask for mask in masks}.values())
    own = [next(i for i, one in enumerate(different) if one is mask) for mask in masks]
    weights = torch.from_numpy(np.stack(different)).flatten(1).to(support.device, support.dtype)
    support = support.flatten(1)
    inside, totals = (support @ weights.T)[range(len(own)), own], support.sum(1)
    shares = (inside / totals).clamp(max=1)  # the two are added up in different orders
    return shares.where(totals > 0, 0).tolist()
