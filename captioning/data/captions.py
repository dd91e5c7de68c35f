"""Photos with captions, read from COCO's or Flickr8k's layout of a folder."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vlcam.formats.vocabulary import words_of

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


def read_data(folder: Path, seed: int = 0, val_share: float = 0.05) -> Splits:
    """Read captioned photos; the layout is recognised by what the folder contains.

    - Flickr8k: ``captions.txt`` (CSV with columns image, caption), ``Images/``, and name lists
      ``trainImages.txt``, ``valImages.txt``, ``testImages.txt``.
    - COCO: ``annotations/captions*.json``, the photos in a folder named like the split
      (``annotations/captions_val2017.json`` -> ``val2017/``) or in ``images/``.

    Without lists (or with a single captions file) a share of the photos, chosen by ``seed``, is
    held out as ``val``. Raises ValueError naming the file that is missing or not as expected.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    if (folder / "captions.txt").is_file():
        splits = _read_flickr(folder)
    elif sorted(folder.glob("annotations/captions*.json")):
        splits = _read_coco(folder)
    else:
        raise ValueError(
            f"{folder}: neither captions.txt with Images/ (Flickr8k's layout) nor "
            "annotations/captions*.json (COCO's) is there"
        )
    if "val" not in splits:
        splits["train"], splits["val"] = hold_out(splits["train"], val_share, seed)
    return Splits(**{name: tuple(examples) for name, examples in splits.items()})


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


def _read_flickr(folder: Path) -> dict[str, list[Example]]:
    captions: dict[str, list[str]] = {}
    table = folder / "captions.txt"
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"image", "caption"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{table}: expected the columns image,caption")
        for row in rows:
            captions.setdefault(row["image"], []).append(row["caption"] or "")
    lists = {name: folder / f"{name}Images.txt" for name in ("train", "val", "test")}
    if not lists["train"].is_file():
        return {"train": _examples(folder / "Images", captions, source=table)}
    return {
        name: _examples(
            folder / "Images", captions, path.read_text("utf-8").split("\n"), source=path
        )
        for name, path in lists.items()
        if path.is_file()
    }


def _read_coco(folder: Path) -> dict[str, list[Example]]:
    splits: dict[str, list[Example]] = {}
    for path in sorted(folder.glob("annotations/captions*.json")):
        split = path.stem.removeprefix("captions").removeprefix("_")
        name = next((n for n in ("train", "val", "test") if split.startswith(n)), "train")
        photos = folder / split if split and (folder / split).is_dir() else folder / "images"
        splits.setdefault(name, []).extend(_coco_examples(path, photos))
    if "train" not in splits:
        splits["train"] = splits.pop("val" if "val" in splits else "test")
    return splits


def _coco_examples(path: Path, photos: Path) -> list[Example]:
    try:
        data = json.loads(path.read_text("utf-8"))
        names = {image["id"]: str(image["file_name"]) for image in data["images"]}
        captions: dict[str, list[str]] = {}
        for annotation in data["annotations"]:
            captions.setdefault(names[annotation["image_id"]], []).append(annotation["caption"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a COCO captions file ({error!r})") from error
    return _examples(photos, captions, source=path)


def _examples(
    photos: Path, captions: dict[str, list[str]], names: list[str] | None = None, *, source: Path
) -> list[Example]:
    """The captioned photos of those names (None: all). ``source``: the file that errors name."""
    if not photos.is_dir():
        raise ValueError(f"{photos}: no such folder of photos ({source} names some)")
    examples = []
    for name in filter(None, map(str.strip, captions if names is None else names)):
        if name not in captions:
            raise ValueError(f"{source}: {name} has no caption")
        if not (photos / name).is_file():
            raise ValueError(f"{photos / name}: no such photo ({source} names it)")
        words = tuple(tuple(words_of(caption)) for caption in captions[name])
        kept = tuple(caption for caption in words if caption)
        if kept:
            examples.append(Example(photos / name, kept))
    if not examples:
        raise ValueError(f"{source}: no captioned photo")
    return examples
