"""Photos with captions, read from COCO's or Flickr8k's layout of a folder."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from vlcam.formats.vocabulary import words_of
from vlcam.utils.files.text_files import read_lines, read_text
from word_maps.entries import Entries, Id, NamedImage, Text, of_file_name, read_entries, sound

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Example:
    """One photo and the words of each of its captions."""

    photo: Path
    captions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Splits:
    """Photos to learn from, to choose by, and (where the data has them) to report on."""

    train: tuple[Example, ...]
    val: tuple[Example, ...]
    test: tuple[Example, ...] = ()
    skipped: tuple[str, ...] = ()


class Caption(msgspec.Struct, kw_only=True):
    """A caption of such an image."""

    id: Id | None = None
    image_id: Id
    caption: Text


class CaptionedImages(msgspec.Struct):
    """What is read of COCO's captions file."""

    images: Entries[NamedImage]
    annotations: Entries[Caption]


def read_data(folder: Path, seed: int = 0, val_share: float = 0.05) -> Splits:
    """Read captioned photos; the layout is recognised by what the folder contains.

    - Flickr8k: ``captions.txt`` (CSV with columns image, caption), ``Images/``, and name lists
      ``trainImages.txt``, ``valImages.txt``, ``testImages.txt``.
    - COCO: ``annotations/captions*.json``, the photos in a folder named like the split
      (``annotations/captions_val2017.json`` -> ``val2017/``) or in ``images/``.

    Without lists (or with a single captions file) a share of the photos, chosen by ``seed``, is
    held out as ``val``. What is odd is left out, with a line in ``skipped``: a row or entry that is
    not of the format, a caption without a word, a name that leads out of the folder of photos.

    Raises:
        ValueError: naming the file that is missing or not as expected, or the photo that is not
            there.
    """
    skipped: list[str] = []
    read = _read_flickr if layout(folder) == "Flickr8k" else _read_coco
    splits = read(folder, skipped)
    if "val" not in splits:
        try:
            splits["train"], splits["val"] = hold_out(splits["train"], val_share, seed)
        except ValueError as error:
            raise ValueError("; ".join([f"{folder}: {error}", *skipped[:3]])) from error
    examples = {name: tuple(some) for name, some in splits.items()}
    return Splits(**examples, skipped=tuple(skipped))


def layout(folder: Path) -> Literal["Flickr8k", "COCO"]:
    """The layout of a folder, by the files that are there.

    Raises:
        ValueError: there is no such folder, or it has neither.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    if (folder / "captions.txt").is_file():
        return "Flickr8k"
    if any(folder.glob("annotations/captions*.json")):
        return "COCO"
    raise ValueError(
        f"{folder}: neither captions.txt with Images/ (Flickr8k's layout) nor "
        "annotations/captions*.json (COCO's) is there"
    )


def hold_out(examples: Sequence[Thing], share: float, seed: int) -> tuple[list[Thing], list[Thing]]:
    """Examples in two parts: most of them, and a share chosen by ``seed``; at least one in each.

    Raises:
        ValueError: there are too few.
    """
    if len(examples) < 2:
        raise ValueError(f"{len(examples)} captioned photos: too few to hold one out")
    count = min(max(1, round(len(examples) * share)), len(examples) - 1)
    held = set(random.Random(seed).sample(range(len(examples)), count))
    return (
        [example for i, example in enumerate(examples) if i not in held],
        [example for i, example in enumerate(examples) if i in held],
    )


def _read_flickr(folder: Path, skipped: list[str]) -> dict[str, list[Example]]:
    table, photos = folder / "captions.txt", folder / "Images"
    captions = _table(table, skipped)
    lists = {name: folder / f"{name}Images.txt" for name in ("train", "val", "test")}
    if not lists["train"].is_file():
        return {"train": _examples(photos, captions, captions, source=table, skipped=skipped)}
    return {
        name: _examples(photos, captions, read_lines(path), source=path, skipped=skipped)
        for name, path in lists.items()
        if path.is_file()
    }


def _table(path: Path, skipped: list[str]) -> dict[str, list[str]]:
    """The captions of each photo in a table with the columns image and caption, a row a line."""
    head, *lines = read_text(path).split("\n")
    columns = next(csv.reader([head]), [])
    if not {"image", "caption"} <= set(columns):
        raise ValueError(f"{path}: expected the columns image,caption")
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            row = dict(zip(columns, _fields(line.rstrip(), columns), strict=True))
        except ValueError as error:
            skipped.append(f"{path.name}: line {number}: {error}")
        else:
            captions.setdefault(row["image"].strip(), []).append(row["caption"])
    return captions


def _fields(line: str, columns: Sequence[str]) -> list[str]:
    """The fields of one row. The caption, where it is the last, may hold commas without quotes
    around it: the first commas are those that separate.

    Raises:
        ValueError: a quote does not close, or there are not as many fields as columns.
    """
    *others, last = line.split(",", len(columns) - 1)
    plain = '"' not in "".join(others) and not last.startswith('"') and last.count('"') % 2 == 0
    if plain and columns[-1] == "caption" and len(others) == len(columns) - 1:
        return [*others, last]
    try:
        fields = next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(f"its quotes do not close, or text follows them ({error})") from error
    if len(fields) != len(columns):
        raise ValueError(f"{len(fields)} fields for {len(columns)} columns")
    return fields


def _read_coco(folder: Path, skipped: list[str]) -> dict[str, list[Example]]:
    splits: dict[str, list[Example]] = {}
    for path in sorted(folder.glob("annotations/captions*.json")):
        split = path.stem.removeprefix("captions").removeprefix("_")
        name = next((n for n in ("train", "val", "test") if split.startswith(n)), "train")
        photos = folder / split if split and (folder / split).is_dir() else folder / "images"
        captions = _coco_captions(path, skipped)
        examples = _examples(photos, captions, captions, source=path, skipped=skipped)
        splits.setdefault(name, []).extend(examples)
    if "train" not in splits:
        splits["train"] = splits.pop("val" if "val" in splits else "test")
    return splits


def _coco_captions(path: Path, skipped: list[str]) -> dict[str, list[str]]:
    """The captions of each photo in a file of COCO's."""
    data, problems = read_entries(path, CaptionedImages, what="a COCO captions file")
    lines: list[str] = []
    names: dict[int, str] = {}
    for image in sound(data.images, "images", attrgetter("id"), lambda _: None, lines):
        names[image.id] = image.file_name

    def of_caption(entry: Caption) -> str | None:
        return None if entry.image_id in names else f"no image {entry.image_id}"

    captions: dict[str, list[str]] = {}
    for entry in sound(data.annotations, "annotations", attrgetter("id"), of_caption, lines):
        captions.setdefault(names[entry.image_id], []).append(entry.caption)
    skipped += [*problems, *(f"{path.name}: {line}" for line in lines)]
    return captions


def _examples(
    photos: Path,
    captions: dict[str, list[str]],
    names: Iterable[str],
    *,
    source: Path,
    skipped: list[str],
) -> list[Example]:
    """The captioned photos of those names. ``source``: the file that errors name."""
    if not photos.is_dir():
        raise ValueError(f"{photos}: no such folder of photos ({source} names some)")
    examples, seen = [], set[str]()
    for name in names:
        words = [tuple(words_of(caption)) for caption in captions.get(name, ())]
        wrong = of_file_name(name) or ("occurs twice" if name in seen else None)
        seen.add(name)
        if wrong or not any(words):
            skipped.append(f"{source.name}: {name}: {wrong or 'no caption with a word in it'}")
            continue
        if not (photos / name).is_file():
            raise ValueError(f"{photos / name}: no such photo ({source} names it)")
        if empty := words.count(()):
            skipped.append(f"{source.name}: {name}: {empty} captions without a word")
        examples.append(Example(photos / name, tuple(filter(None, words))))
    if not examples:
        raise ValueError("; ".join([f"{source}: no captioned photo", *skipped[:3]]))
    return examples
