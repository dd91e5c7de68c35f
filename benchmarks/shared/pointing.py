"""Word pointing (section 8.1.1): does the peak of a word's map lie in what the word names?"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pycocotools.coco import COCO

import word_maps
from vlcam.adapters.adapter import Adapter, Reading, Unit
from vlcam.attribution import methods
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import explain_targets
from vlcam.attribution.targets import Target, unit
from vlcam.evaluation.tables import share, table
from vlcam.geometry.grid import Grid
from vlcam.geometry.peaks import peaks
from vlcam.metrics.estimates import mean, mean_by_class
from vlcam.metrics.pointing import Mask, centre, hit, near, points_at

TOLERANCE = 15.0  # pixels, of the pointing game's usual protocol


@dataclass(frozen=True)
class VisualWord:
    """A word or compound of a caption that names a category; its target is None where the model
    knows no part of it."""

    text: str
    category: str
    target: Target | None


def visual_words(reading: Reading) -> list[VisualWord]:
    """The visual words of a caption as the model reads it."""
    found = []
    for start, stop, category in word_maps.visual_words([u.text for u in reading.units]):
        units = reading.units[start:stop]
        text = " ".join(u.text for u in units)
        known = tuple(column for u in units if not u.unknown for column in u.scores)
        target = unit(reading, Unit(text, known)) if known else None
        found.append(VisualWord(text, category, target))
    return found


@dataclass(frozen=True)
class Pointing:
    """One visual word's peak under one method. ``hits``: by geometry and tolerance."""

    image: int
    source: str
    word: str
    category: str
    method: str
    degenerate: bool
    hits: dict[tuple[str, float], bool]


@dataclass(frozen=True)
class Baseline:
    """What needs no map, for one visual word: a random point's chance and the photo's centre, by
    tolerance."""

    image: int
    source: str
    category: str
    chance: dict[float, float]
    centre: dict[float, bool]


@dataclass
class Results:
    """All that was found: visual words by source and what became of them, peaks, baselines."""

    counts: Counter[tuple[str, str]]
    points: list[Pointing]
    baselines: list[Baseline]

    @classmethod
    def empty(cls) -> Results:
        return cls(Counter(), [], [])


class Masks:
    """The word maps of one photo, each made once."""

    def __init__(self, coco: COCO, image: int) -> None:
        self.coco, self.image = coco, image
        self.present = word_maps.present(coco, image)
        self._made: dict[str, tuple[Mask, Mask]] = {}

    def __call__(self, category: str) -> tuple[Mask, Mask]:
        """A category's mask, and the pixels less than ``TOLERANCE`` away from it."""
        if category not in self._made:
            mask = word_maps.word_map(self.coco, self.image, category)
            self._made[category] = mask, near(mask, TOLERANCE)
        return self._made[category]


def point(
    model: Adapter,
    encoded: Encoded,
    readings: Sequence[tuple[str, Reading]],
    *,
    masks: Masks,
    names: Sequence[str],
    results: Results,
) -> None:
    """Point with all visual words of a photo's captions at once, by every method.

    Args:
        readings: captions as (source, reading).
        masks: of the photo.
        names: of methods.
        results: what is found is added to them.
    """
    size = encoded.placement.photo_size
    asked: list[tuple[str, VisualWord, Target]] = []
    for source, reading in readings:
        for word in visual_words(reading):
            results.counts[source, "visual words"] += 1
            if word.category not in masks.present:
                results.counts[source, "absent"] += 1
            elif word.target is None:
                results.counts[source, "unknown"] += 1
            else:
                results.counts[source, "asked"] += 1
                asked.append((source, word, word.target))
    if not asked:
        return
    for source, word, _ in asked:
        mask, wide = masks(word.category)
        results.baselines.append(
            Baseline(
                masks.image,
                source,
                word.category,
                chance={0.0: float(mask.mean()), TOLERANCE: float(wide.mean())},
                centre={t: points_at(mask, centre(size), t) for t in (0.0, TOLERANCE)},
            )
        )
    for name in names:
        method = methods.get(name)
        found = explain_targets(model, encoded, [t for _, _, t in asked], method)
        maps, grid = found.maps, found.grid
        grids = {"true": grid}
        if method.at == "layer":
            grids["stretched"] = Grid.stretched(grid.size, encoded.placement.input_size)
        found_at = {kind: peaks(maps, g, encoded.placement) for kind, g in grids.items()}
        for i, (source, word, _) in enumerate(asked):
            mask, _ = masks(word.category)
            hits = {
                (kind, t): hit(mask, *found_at[kind][i], t)
                for kind in grids
                for t in (0.0, TOLERANCE)
            }
            results.points.append(
                Pointing(
                    masks.image,
                    source,
                    word=word.text,
                    category=word.category,
                    method=name,
                    degenerate=found_at["true"][i].degenerate,
                    hits=hits,
                )
            )


def instances(path: Path) -> COCO:
    """An ``instances`` file, without pycocotools' chatter."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def captions(path: Path) -> dict[int, list[str]]:
    """Captions by image id, in the file's order."""
    found: dict[int, list[str]] = {}
    for entry in json.loads(path.read_text("utf-8"))["annotations"]:
        found.setdefault(entry["image_id"], []).append(entry["caption"])
    return found


def tables(results: Results, sources: dict[str, set[str]]) -> str:
    """What became of the visual words, and pointing by method, each source in its own columns.

    Args:
        sources: a column's title to the sources that it unites.
    """
    kinds = ("visual words", "absent", "unknown", "asked")
    counts = [
        (title, *(sum(results.counts[s, kind] for s in parts) for kind in kinds))
        for title, parts in sources.items()
    ]
    head = ("captions", "visual words", "not in the photo", "not in vocabulary", "pointed with")
    parts = [table(head, counts)]
    for title, names in sources.items():
        bases = [b for b in results.baselines if b.source in names]
        images = [b.image for b in bases]
        rows: list[tuple[object, ...]] = []
        for name, strict, wide in (
            ("random point", [b.chance[0.0] for b in bases], [b.chance[TOLERANCE] for b in bases]),
            (
                "photo's centre",
                [b.centre[0.0] for b in bases],
                [b.centre[TOLERANCE] for b in bases],
            ),
        ):
            shares = [share(mean(values, images)) for values in (strict, wide)]
            rows.append((name, *shares, "", "", ""))
        for method in dict.fromkeys(p.method for p in results.points):
            rows.append(_row(method, [p for p in results.points
                                      if p.source in names and p.method == method]))  # fmt: skip
        columns = ("method", "strict %", f"within {TOLERANCE:.0f} px %", "by category %",
                "stretched instead of true grid, difference", "degenerate")  # fmt: skip
        parts.append(f"### {title.capitalize()}\n\n" + table(columns, rows))
    return "\n\n".join(parts)


def _row(method: str, points: Sequence[Pointing]) -> tuple[object, ...]:
    images = [p.image for p in points]
    strict = [float(p.hits["true", 0.0]) for p in points]
    wide = [float(p.hits["true", TOLERANCE]) for p in points]
    paired = ""
    if points and ("stretched", 0.0) in points[0].hits:
        paired = share(
            mean([p.hits["stretched", 0.0] - float(p.hits["true", 0.0]) for p in points], images)
        )
    return (
        method,
        share(mean(strict, images)),
        share(mean(wide, images)),
        f"{100 * mean_by_class(strict, [p.category for p in points]):.1f}",
        paired,
        sum(p.degenerate for p in points),
    )
