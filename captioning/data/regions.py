"""Region captions with their boxes: Visual Genome, DenseCap's results, Flickr30k Entities, COCO.

Whatever the format, a region is a text and boxes in pixels of the photo, edges counted from 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from vlcam.evaluation.entities import Entities, Marked
from vlcam.metrics.box_ratio import Box
from vlcam.photo.loading import size_of
from vlcam.utils.atomic import written

Read = TypeVar("Read")

_LONGEST = 720  # pixels of the longer side to which DenseCap scales photos, by default
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


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
    files = _pictures(photos)
    if path.is_dir() or path.suffix == ".zip":
        return _entities(path, files, names)
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON, or cut in the middle ({error})") from error
    problems: list[str] = []
    try:
        if isinstance(data, list):
            found = list(_visual_genome(data, files, problems))
        elif isinstance(data, dict) and "results" in data:
            found = list(_densecap(data, files, problems, top=top))
        elif isinstance(data, dict) and {"images", "annotations"} <= set(data):
            found = list(_coco(data, files, problems))
        else:
            raise TypeError
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a file of regions; expected region_descriptions.json of Visual Genome,"
            " results.json of DenseCap, or COCO's layout with captions and boxes"
        ) from error
    return Regions(tuple(found), tuple(problems))


def photos_of(folder: Path, names: Sequence[str] | None = None) -> Regions:
    """The photos of a folder and its sub-folders, those of some names or all, without any region.

    Raises:
        ValueError: there is no such folder.
    """
    files = _pictures(folder)
    chosen = [name for name in files if "." in name] if names is None else names
    known = [files[name] for name in chosen if name in files]
    problems = tuple(f"{name}: no photo" for name in chosen if name not in files)
    return Regions(tuple(Photo(path.stem, path, ()) for path in known), problems)


def _pictures(folder: Path) -> dict[str, Path]:
    """Photos by the names of their files, and by their numbers."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        for path in sorted(place.iterdir()):
            if path.suffix.lower() in _PICTURES:
                found.setdefault(path.name, path)
                if path.stem.isdigit():
                    found.setdefault(str(int(path.stem)), path)
    return found


def _visual_genome(data: list[Any], files: dict[str, Path], problems: list[str]) -> Iterator[Photo]:
    if data and not any(isinstance(one, dict) and "regions" in one for one in data):
        raise TypeError
    seen = set[int]()
    for place, image in enumerate(data):
        if not isinstance(image, dict) or not isinstance(image.get("id"), int):
            problems.append(f"entry {place}: no image with an id")
            continue
        number = image["id"]
        if number in seen:
            problems.append(f"image {number}: occurs twice")
        elif str(number) not in files:
            problems.append(f"image {number}: no photo")
        elif not isinstance(image.get("regions"), list):
            problems.append(f"image {number}: no list of regions")
        else:
            entries = image["regions"]
            sound = _sound(f"image {number}: region", entries, _genome_region, problems=problems)
            yield Photo(str(number), files[str(number)], tuple(sound))
        seen.add(number)


def _genome_region(entry: dict[str, Any]) -> Region:
    return _region(entry["phrase"], [entry[name] for name in ("x", "y", "width", "height")])


def _sound(
    kind: str, entries: Sequence[Any], read: Callable[[Any], Read], *, problems: list[str]
) -> Iterator[Read]:
    """What is read from the entries; ``problems`` gets a line for each that cannot be read."""
    for place, entry in enumerate(entries):
        try:
            yield read(entry)
        except KeyError as error:
            problems.append(f"{kind} {place}: no {error.args[0]}")
        except TypeError:
            problems.append(f"{kind} {place}: not of the format")
        except ValueError as error:
            problems.append(f"{kind} {place}: {error}")


def _region(text: Any, box: Any) -> Region:
    """A phrase and its box x, y, width, height.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError("no word in its text")
    numbers = isinstance(box, list | tuple) and all(
        isinstance(n, int | float) and math.isfinite(n) for n in box
    )
    if not numbers or len(box) != 4:
        raise ValueError(f"its box is {box}, not four numbers")
    x, y, width, height = box
    return Region(text, ((x, y, x + width, y + height),))


def _densecap(
    data: dict[str, Any], files: dict[str, Path], problems: list[str], *, top: int
) -> Iterator[Photo]:
    longest = data.get("opt", {}).get("image_size", _LONGEST)
    seen = set[str]()
    results = list(_sound("result", data["results"], _densecap_result, problems=problems))
    if data["results"] and not results:
        raise TypeError
    for name, result in results:
        if name in seen or name not in files:
            problems.append(f"{name}: {'occurs twice' if name in seen else 'no photo'}")
            continue
        seen.add(name)
        path = files[name]
        try:
            # In pixels of the photo scaled so that its longer side is image_size, counted from 1.
            scale = max(size_of(path)) / longest
        except ValueError as error:
            problems.append(str(error))
            continue
        best = sorted(result, key=lambda scored: -scored[0])[:top]
        regions = (
            Region(one.text, tuple(_scaled(box, scale) for box in one.boxes)) for _, one in best
        )
        yield Photo(path.stem, path, tuple(regions))


def _densecap_result(entry: dict[str, Any]) -> tuple[str, list[tuple[float, Region]]]:
    """A photo's name and its regions with their scores."""
    columns = [entry[name] for name in ("scores", "captions", "boxes")]
    if len({len(column) for column in columns}) != 1:
        raise ValueError("not as many scores, captions and boxes")
    if not all(isinstance(score, int | float) for score in columns[0]):
        raise ValueError("scores that are no numbers")
    rows = zip(*columns, strict=True)
    return str(entry["img_name"]), [(score, _region(text, box)) for score, text, box in rows]


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
    path: Path, photos: Mapping[Path, tuple[tuple[int, int], Sequence[Scored]]]
) -> None:
    """Write regions as DenseCap writes them, for :func:`read`.

    Args:
        photos: by file, each one's (height, width) and regions, boxes in pixels of the photo.
    """
    results = []
    for photo, (size, found) in photos.items():
        scale = _LONGEST / max(size)
        boxes = [
            (x0 * scale + 1, y0 * scale + 1, (x1 - x0) * scale, (y1 - y0) * scale)
            for x0, y0, x1, y1 in (one.box for one in found)
        ]
        columns = {"captions": [one.text for one in found], "scores": [one.score for one in found]}
        results.append({"img_name": photo.name, **columns, "boxes": boxes})
    with written(path) as draft:
        draft.write_text(json.dumps({"opt": {"image_size": _LONGEST}, "results": results}), "utf-8")


def _coco(data: dict[str, Any], files: dict[str, Path], problems: list[str]) -> Iterator[Photo]:
    def region(entry: dict[str, Any]) -> tuple[int, Region]:
        return entry["image_id"], _region(entry["caption"], entry["bbox"])

    def image(entry: dict[str, Any]) -> tuple[int, str]:
        return entry["id"], str(entry["file_name"])

    by_image: dict[int, list[Region]] = {}
    for number, one in _sound("annotation", data["annotations"], region, problems=problems):
        by_image.setdefault(number, []).append(one)
    known = dict(_sound("image", data["images"], image, problems=problems))
    problems += [f"image {n}: not in the file's images" for n in by_image if n not in known]
    for number, name in known.items():
        if name not in files:
            problems.append(f"{name}: no photo")
        elif number in by_image:
            yield Photo(str(number), files[name], tuple(by_image[number]))


def _entities(path: Path, files: dict[str, Path], names: Sequence[str] | None) -> Regions:
    marked, problems, found = Entities(path), list[str](), list[Photo]()
    chosen = [name for name in files if "." in name] if names is None else names
    for name in chosen:
        if name not in files:
            problems.append(f"{name}: no photo")
            continue
        photo = files[name]
        try:
            sentences = marked.read(photo.stem.split("_")[0], size_of(photo))
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        found.append(Photo(photo.stem, photo, tuple(phrases(sentences))))
    return Regions(tuple(found), tuple(problems))


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
