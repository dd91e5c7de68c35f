"""Reading COCO's ``instances`` and ``captions`` files: what is wrong is left out and reported."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from word_maps import segmentation

Entry = dict[str, Any]


@dataclass(frozen=True)
class Instances:
    """An ``instances`` file.

    Attributes:
        coco: its sound images, categories and annotations.
        problems: a line for each of the others.
    """

    coco: COCO
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Captions:
    """A ``captions`` file: captions by image id, in its order, and what could not be used."""

    by_image: dict[int, tuple[str, ...]]
    problems: tuple[str, ...]


def read_instances(path: Path) -> Instances:
    """An ``instances`` file. Left out are entries whose id occurred before, that lack what they
    need, annotations of images or categories that are not in the file, and segmentations that
    cannot be drawn or have no area.

    Raises:
        ValueError: the file is missing, cut, or of another kind.
    """
    data = _read(path, ("images", "categories", "annotations"))
    problems: list[str] = []

    def sound(kind: str, check: Callable[[Entry], str | None]) -> list[Entry]:
        return list(_sound(data[kind], kind, check, problems))

    images = sound("images", _image)
    categories = sound("categories", lambda entry: None if "name" in entry else "no name")
    sizes = {entry["id"]: (entry["height"], entry["width"]) for entry in images}
    names = {entry["id"] for entry in categories}

    def annotation(entry: Entry) -> str | None:
        if entry.get("image_id") not in sizes:
            return f"no image {entry.get('image_id')}"
        if entry.get("category_id") not in names:
            return f"no category {entry.get('category_id')}"
        return segmentation.problem(entry.get("segmentation"), sizes[entry["image_id"]])

    coco = COCO()
    coco.dataset = {
        "images": images,
        "categories": categories,
        "annotations": sound("annotations", annotation),
    }
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools' chatter
        coco.createIndex()
    return Instances(coco, tuple(f"{path.name}: {line}" for line in problems))


def read_captions(path: Path) -> Captions:
    """A ``captions`` file. Left out are captions whose id occurred before or that have no word.

    Raises:
        ValueError: the file is missing, cut, or of another kind.
    """
    data = _read(path, ("annotations",))
    problems: list[str] = []
    found: dict[int, list[str]] = {}
    for entry in _sound(data["annotations"], "captions", _caption, problems):
        found.setdefault(entry["image_id"], []).append(entry["caption"])
    by_image = {image: tuple(texts) for image, texts in found.items()}
    return Captions(by_image, tuple(f"{path.name}: {line}" for line in problems))


def _read(path: Path, lists: tuple[str, ...]) -> dict[str, list[Any]]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON, or cut in the middle ({error})") from error
    if not isinstance(data, dict) or not all(isinstance(data.get(name), list) for name in lists):
        raise ValueError(f"{path}: not a COCO file with lists of {', '.join(lists)}")
    return data


def _sound(
    entries: list[Any], kind: str, check: Callable[[Entry], str | None], problems: list[str]
) -> Iterator[Entry]:
    """The entries that pass a check (None, or what is wrong); a line for each of the others."""
    seen = set[int]()
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or "id" not in entry:
            problems.append(f"{kind}[{place}]: no id")
        elif not isinstance(entry["id"], int):
            problems.append(f"{kind}[{place}]: the id {entry['id']!r} is no whole number")
        elif entry["id"] in seen:
            problems.append(f"{kind} {entry['id']}: occurs twice")
        elif wrong := check(entry):
            problems.append(f"{kind} {entry['id']}: {wrong}")
        else:
            seen.add(entry["id"])
            yield entry


def _image(entry: Entry) -> str | None:
    size = entry.get("height"), entry.get("width")
    if not all(isinstance(side, int) and side > 0 for side in size):
        return f"height and width are {size[0]} and {size[1]}"
    return None if isinstance(entry.get("file_name"), str) else "no file_name"


def _caption(entry: Entry) -> str | None:
    if not isinstance(entry.get("image_id"), int):
        return "no image_id"
    text = entry.get("caption")
    return None if isinstance(text, str) and text.strip() else "no word in it"
