"""What is read of files of regions: Visual Genome's, DenseCap's, and those like COCO's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from word_maps.entries import Entries, FileName, Id, Length, NamedImage, Number, Text

LONGEST = 720
"""Pixels of the longer side to which DenseCap scales photos, by default."""

LAYOUTS = (
    "a file of regions; expected region_descriptions.json of Visual Genome, results.json of"
    " DenseCap, or COCO's layout with captions and boxes"
)

GENOME = "region_descriptions.json"
"""Visual Genome's file."""


def genome_file(folder: Path) -> Path:
    """Visual Genome's file of regions in a folder, or in ``annotations/`` there.

    Raises:
        ValueError: there is none.
    """
    places = [folder / GENOME, folder / "annotations" / GENOME]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ValueError(f"{folder}: neither {GENOME} nor annotations/{GENOME} is there")
    return file


CocoBox = tuple[Number, Number, Length, Length]
"""Left, top, width, height."""


class GenomeRegion(msgspec.Struct, kw_only=True):
    """A region of Visual Genome."""

    region_id: Id | None = None
    phrase: Text
    x: Number
    y: Number
    width: Length
    height: Length


class Image(msgspec.Struct):
    """An image of Visual Genome with its regions."""

    id: Id
    regions: Entries[GenomeRegion]


class DenseCapOptions(msgspec.Struct):
    """``image_size``: pixels of the longer side to which photos were scaled."""

    image_size: Annotated[float, msgspec.Meta(gt=0, le=1e9)] = LONGEST


class Result(msgspec.Struct):
    """What DenseCap found in a photo: so many scores, captions and boxes x, y, width, height."""

    img_name: FileName
    scores: list[Number]
    captions: list[Text]
    boxes: list[CocoBox]


class DenseCapFile(msgspec.Struct):
    """DenseCap's ``results.json``."""

    results: Entries[Result]
    opt: DenseCapOptions = msgspec.field(default_factory=DenseCapOptions)


class CocoRegion(msgspec.Struct, kw_only=True):
    """A region of such an image."""

    id: Id | None = None
    image_id: Id
    caption: Text
    bbox: CocoBox


class CocoFile(msgspec.Struct):
    """A file like COCO's whose annotations have captions and boxes."""

    images: Entries[NamedImage]
    annotations: Entries[CocoRegion]
