"""Reading COCO's ``instances`` and ``captions`` files: what is wrong is left out and reported."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Annotated, Literal, NotRequired, TypedDict

import msgspec
from pycocotools.coco import COCO

from word_maps import segmentation
from word_maps.entries import Entries, FileName, Id, Text, of_file_name, read_entries, sound

_MOST_PIXELS = 2**28
"""Of an image; a mask of it takes as many bytes."""

Side = Annotated[int, msgspec.Meta(gt=0, le=_MOST_PIXELS)]


class Image(TypedDict):
    """An image of an ``instances`` file; a dictionary, as pycocotools wants it."""

    id: Id
    file_name: FileName
    height: Side
    width: Side


class Category(TypedDict):
    """A category of an ``instances`` file."""

    id: Id
    name: Text


class Annotation(TypedDict):
    """Where one thing is in an image."""

    id: Id
    image_id: Id
    category_id: Id
    segmentation: segmentation.Segmentation
    iscrowd: NotRequired[Literal[0, 1] | bool]


class InstancesFile(msgspec.Struct):
    """What is read of an ``instances`` file."""

    images: Entries[Image]
    categories: Entries[Category]
    annotations: Entries[Annotation]


class Caption(msgspec.Struct):
    """A caption of an image."""

    id: Id
    image_id: Id
    caption: Text


class CaptionsFile(msgspec.Struct):
    """What is read of a ``captions`` file."""

    annotations: Entries[Caption]


@dataclass(frozen=True)
class Instances:
    """An ``instances`` file.

    Attributes:
        coco: its sound images, categories and annotations, with what word maps need of them.
        problems: a line for each of the others.
    """

    coco: COCO
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Captions:
    """A ``captions`` file: captions by image id, in its order, and what could not be used."""

    by_image: dict[int, tuple[str, ...]]
    problems: tuple[str, ...]


def annotation_file(data: Path, kind: str, split: str = "") -> Path:
    """Where COCO's layout has its ``instances`` or ``captions``:
    ``annotations/instances_val2017.json``; without a name of the split where there is none."""
    return data / "annotations" / (f"{kind}_{split}.json" if split else f"{kind}.json")


def read_instances(path: Path) -> Instances:
    """An ``instances`` file. Left out are entries that are not of the format or whose id occurred
    before, annotations of images or categories that are not in the file, and segmentations that
    cannot be drawn or have no area.

    Raises:
        ValueError: the file is missing, cut, or of another kind.
    """
    data, problems = read_entries(path, InstancesFile, what="a COCO instances file")
    lines: list[str] = []
    by_id = itemgetter("id")
    images = list(sound(data.images, "images", by_id, _of_image, lines))
    categories = list(sound(data.categories, "categories", by_id, _of_category, lines))
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    names = {category["id"] for category in categories}

    def of_annotation(entry: Annotation) -> str | None:
        if entry["image_id"] not in sizes:
            return f"no image {entry['image_id']}"
        if entry["category_id"] not in names:
            return f"no category {entry['category_id']}"
        return segmentation.problem(entry["segmentation"], sizes[entry["image_id"]])

    coco = COCO()
    coco.dataset = {
        "images": images,
        "categories": categories,
        "annotations": list(sound(data.annotations, "annotations", by_id, of_annotation, lines)),
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools' chatter
        coco.createIndex()
    return Instances(coco, (*problems, *(f"{path.name}: {line}" for line in lines)))


def read_captions(path: Path) -> Captions:
    """A ``captions`` file. Left out are captions that are not of the format, whose id occurred
    before, or that have no word.

    Raises:
        ValueError: the file is missing, cut, or of another kind.
    """
    data, problems = read_entries(path, CaptionsFile, what="a COCO captions file")
    lines: list[str] = []
    found: dict[int, list[str]] = {}
    for entry in sound(data.annotations, "captions", attrgetter("id"), _of_caption, lines):
        found.setdefault(entry.image_id, []).append(entry.caption)
    by_image = {image: tuple(texts) for image, texts in found.items()}
    return Captions(by_image, (*problems, *(f"{path.name}: {line}" for line in lines)))


def _of_image(entry: Image) -> str | None:
    if entry["height"] * entry["width"] > _MOST_PIXELS:
        return f"{entry['width']} x {entry['height']} pixels, more than {_MOST_PIXELS}"
    return of_file_name(entry["file_name"])


def _of_category(entry: Category) -> str | None:
    return None if entry["name"].strip() else "no name"


def _of_caption(entry: Caption) -> str | None:
    return None if entry.caption.strip() else "no word in it"
