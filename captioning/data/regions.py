"""Region captions with their boxes: Visual Genome, DenseCap's results, Flickr30k Entities, COCO.

Whatever the format, a region is a text and boxes in pixels of the photo, edges counted from 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from captioning.data.region_files import (
    LAYOUTS,
    LONGEST,
    CocoBox,
    CocoFile,
    CocoRegion,
    DenseCapFile,
    GenomeRegion,
    Image,
    Result,
)
from vlcam.evaluation.entities import Entities, Marked
from vlcam.formats.world import Likeness
from vlcam.metrics.box_ratio import Box
from vlcam.photo.loading import is_picture, size_of
from vlcam.utils.files.atomic import written
from word_maps.entries import Entries, NamedImage, read_entries, sound


@dataclass(frozen=True)
class Region:
    """A phrase about a part of a photo.

    Attributes:
        text: the phrase.
        boxes: where that part is (x0, y0, x1, y1); one, but for phrases about several things.
        sentence: the words of the sentence the phrase is from, where there is one.
        start, stop: the phrase is ``sentence[start:stop]``.
    """

    text: str
    boxes: tuple[Box, ...]
    sentence: tuple[str, ...] = ()
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Photo:
    """A photo with its regions; ``name`` as records have it."""

    name: str
    path: Path
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Regions:
    """Photos with regions, and a line for each that cannot be used."""

    photos: tuple[Photo, ...]
    problems: tuple[str, ...] = ()


def read(path: Path, photos: Path, names: Sequence[str] | None = None, top: int = 5) -> Regions:
    """Region captions of any of the formats, recognised by the content.

    Args:
        path: ``region_descriptions.json`` of Visual Genome, DenseCap's ``results.json``, a file
            like COCO's whose annotations have ``caption`` and ``bbox``, or Flickr30k Entities
            (folder or zip).
        photos: the folder of the photos, which may be in sub-folders of it.
        names: of Flickr30k's photos, those to read; None: all in ``photos``.
        top: how many of DenseCap's regions of a photo, the most confident first.

    Raises:
        ValueError: a file or folder is missing or of none of these formats.
    """
    lines: list[str] = []
    files = _pictures(photos, lines)
    if path.is_dir() or path.suffix == ".zip":
        return _regions(_entities(path, files, names, lines), lines)
    data, problems = read_entries(path, Entries[Image], DenseCapFile, CocoFile, what=LAYOUTS)
    told: list[str] = []
    if isinstance(data, DenseCapFile):
        found = list(_densecap(data, files, told, top=top))
    elif isinstance(data, CocoFile):
        found = list(_coco(data, files, told))
    else:
        found = list(_visual_genome(data, files, told))
    if problems and not found and not told:
        raise ValueError(f"{path}: not {LAYOUTS} ({problems[0]})")
    lines += [*problems, *(f"{path.name}: {line}" for line in told)]
    return _regions(found, lines)


def photos_of(folder: Path, names: Sequence[str] | None = None) -> Regions:
    """The photos of a folder and its sub-folders, those of some names or all, without any region.

    Raises:
        ValueError: there is no such folder.
    """
    lines: list[str] = []
    files = _pictures(folder, lines)
    found = (Photo(path.stem, path, ()) for path in _chosen(files, names, lines))
    return _regions(found, lines)


def _regions(photos: Iterable[Photo], lines: list[str]) -> Regions:
    """Photos of which no two have one name, as records have it."""
    found: dict[str, Photo] = {}
    for photo in photos:
        if found.setdefault(photo.name, photo) is not photo:
            lines.append(f"{photo.path}: {found[photo.name].path} has the name {photo.name}, too")
    return Regions(tuple(found.values()), tuple(lines))


def _pictures(folder: Path, lines: list[str]) -> dict[str, Path]:
    """Photos in a folder and its sub-folders, by the names of their files."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        for path in sorted(p for p in place.iterdir() if is_picture(p)):
            if re.search("[\ud800-\udfff]", path.name):  # what stands for bytes that are no UTF-8
                lines.append(f"{str(path)!r}: the name is not UTF-8")
            elif found.setdefault(path.name, path) is not path:
                lines.append(f"{path}: {found[path.name]} has that name, too")
    return found


def _chosen(
    files: Mapping[str, Path], names: Sequence[str] | None, lines: list[str]
) -> Iterator[Path]:
    """The photos of some names, or all."""
    for name in files if names is None else names:
        if name in files:
            yield files[name]
        else:
            lines.append(f"{name}: no photo")


def _visual_genome(
    images: Sequence[Image], files: Mapping[str, Path], lines: list[str]
) -> Iterator[Photo]:
    by_number = {int(p.stem): p for p in files.values() if re.fullmatch("[0-9]+", p.stem)}

    def of_image(image: Image) -> str | None:
        return None if image.id in by_number else "no photo"

    def of_region(region: GenomeRegion) -> str | None:
        return _of_text(region.phrase)

    for image in sound(images, "image", attrgetter("id"), of_image, lines):
        kind = f"image {image.id}: regions"
        kept = sound(image.regions, kind, attrgetter("region_id"), of_region, lines)
        regions = (Region(r.phrase, (_edges((r.x, r.y, r.width, r.height)),)) for r in kept)
        yield Photo(str(image.id), by_number[image.id], tuple(regions))


def _of_text(text: str) -> str | None:
    """What is wrong with a region's text; None: nothing."""
    return None if text.strip() else "no word in its text"


def _edges(box: CocoBox) -> Box:
    x, y, width, height = box
    return x, y, x + width, y + height


def _densecap(
    data: DenseCapFile, files: Mapping[str, Path], lines: list[str], *, top: int
) -> Iterator[Photo]:
    def of_result(result: Result) -> str | None:
        if result.img_name not in files:
            return "no photo"
        if len({len(result.scores), len(result.captions), len(result.boxes)}) != 1:
            return "not as many scores, captions and boxes"
        return next(filter(None, map(_of_text, result.captions)), None)

    for result in sound(data.results, "results", attrgetter("img_name"), of_result, lines):
        path = files[result.img_name]
        try:
            # In pixels of the photo scaled so that its longer side is image_size, counted from 1.
            scale = max(size_of(path)) / data.opt.image_size
        except ValueError as error:
            lines.append(f"results {result.img_name}: {error}")
            continue
        rows = zip(result.scores, result.captions, result.boxes, strict=True)
        best = sorted(rows, key=lambda row: -row[0])[:top]
        regions = (Region(text, (_scaled(_edges(box), scale),)) for _, text, box in best)
        yield Photo(path.stem, path, tuple(regions))


def _scaled(box: Box, scale: float) -> Box:
    """A box in pixels of the photo, counted from 0; the given one is counted from 1."""
    x0, y0, x1, y1 = box
    return (x0 - 1) * scale, (y0 - 1) * scale, (x1 - 1) * scale, (y1 - 1) * scale


class Scored(Protocol):
    """A region as a dense captioner describes it."""

    @property
    def text(self) -> str: ...
    @property
    def box(self) -> Box: ...
    @property
    def score(self) -> float: ...


def write_densecap(
    path: Path,
    photos: Mapping[Path, tuple[tuple[int, int], Sequence[Scored]]],
    likenesses: Mapping[Path, Likeness] = MappingProxyType({}),
) -> None:
    """Write regions as DenseCap writes them, for :func:`read`.

    Args:
        photos: by file, each one's (height, width) and regions, boxes in pixels of the photo.
        likenesses: of photos whose model says how like its training photos they are.
    """
    results = []
    for photo, (size, found) in photos.items():
        scale = LONGEST / max(size)
        boxes = [
            (x0 * scale + 1, y0 * scale + 1, (x1 - x0) * scale, (y1 - y0) * scale)
            for x0, y0, x1, y1 in (one.box for one in found)
        ]
        columns = {"captions": [one.text for one in found], "scores": [one.score for one in found]}
        more = {"likeness": likenesses[photo].to_json()} if photo in likenesses else {}
        results.append({"img_name": photo.name, **columns, "boxes": boxes, **more})
    with written(path) as draft:
        draft.write_text(
            json.dumps({"opt": {"image_size": LONGEST}, "results": results}, allow_nan=False),
            "utf-8",
        )


def _coco(data: CocoFile, files: Mapping[str, Path], lines: list[str]) -> Iterator[Photo]:
    by_id = attrgetter("id")

    def of_image(image: NamedImage) -> str | None:
        return None if image.file_name in files else f"no photo {image.file_name!r}"

    images = list(sound(data.images, "images", by_id, of_image, lines))
    known = {image.id for image in data.images}
    by_image: dict[int, list[Region]] = {}

    def of_region(region: CocoRegion) -> str | None:
        return (
            _of_text(region.caption) if region.image_id in known else f"no image {region.image_id}"
        )

    for one in sound(data.annotations, "annotations", by_id, of_region, lines):
        by_image.setdefault(one.image_id, []).append(Region(one.caption, (_edges(one.bbox),)))
    for image in images:
        if image.id in by_image:
            yield Photo(str(image.id), files[image.file_name], tuple(by_image[image.id]))


def _entities(
    path: Path, files: Mapping[str, Path], names: Sequence[str] | None, lines: list[str]
) -> Iterator[Photo]:
    marked = Entities(path)
    for photo in _chosen(files, names, lines):
        try:
            sentences = marked.read(photo.stem.split("_")[0], size_of(photo))
        except ValueError as error:
            lines.append(f"{photo.name}: {error}")
        else:
            yield Photo(photo.stem, photo, tuple(phrases(sentences)))


def phrases(marked: Marked) -> Iterator[Region]:
    """The phrases with boxes of a photo's sentences."""
    for sentence in marked.sentences:
        words: list[str] = []
        found = []
        for part in sentence:
            start = len(words)
            words += [part] if isinstance(part, str) else part.words
            if not isinstance(part, str) and part.entity in marked.boxes:
                found.append((start, len(words), marked.boxes[part.entity]))
        for start, stop, boxes in found:
            yield Region(
                " ".join(words[start:stop]), boxes, sentence=tuple(words), start=start, stop=stop
            )
