"""Annotation files with one thing odd in them, and what our readers make of each.

A reader gives what it gives for the sound file, or tells what it leaves out, or refuses the file in
one line that names it. Nothing else: no other error, and nothing that turned into something else.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as masks

import word_maps
from captioning.data import captions, regions
from tests.samples.photos import photo
from vqa.data import questions
from word_maps.coco import read_captions, read_instances
from word_maps.coverage import read_captions as read_texts

ODD = {
    "null": "null",
    "true": "true",
    "a number": "3",
    "one as a float": "1.0",
    "negative": "-1",
    "NaN": "NaN",
    "infinite": "1e400",
    "a large number": str(10**30),
    "a number of 5,000 digits": "1" * 5000,
    "text": '"1"',
    "no text": '" "',
    "half of a surrogate pair": '"\\ud800 dog"',
    "a long text": json.dumps("dog " * 50_000),
    "a list": "[]",
    "a list of a list": "[[1]]",
    "an object": "{}",
    "nested 1,000 deep": "[" * 1000 + "]" * 1000,
    "nested 100,000 deep": "[" * 100_000 + "]" * 100_000,
}
"""What stands in the place of a value, in JSON."""

_NUMBERS = ("a number", "one as a float", "negative", "a large number")
_ALIKE = {
    int: _NUMBERS,
    float: _NUMBERS,
    str: ("text",),
    list: ("a list",),
}
"""What may be sound in the place of a value of each type."""

_OPTIONAL = ("answer_type", "region_id", "opt", "image_size", "iscrowd")
_MARK = "the place of it"

Found = tuple[Any, Sequence[str]]
"""What a reader found, and the lines about what it left out."""


@dataclass(frozen=True)
class Reader:
    """A reader, and a sound file for it.

    Attributes:
        file: its path in the folder of the data.
        sound: its content: bytes, or what JSON can write.
        read: reads the folder.
        beside: other files of the folder.
    """

    file: str
    sound: Any
    read: Callable[[Path], Found]
    beside: Any = None


def _image(number: int) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number:012}.jpg", "height": 20, "width": 40}


_IMAGES = [_image(number) for number in (1, 2, 3)]
_CAPTIONS = {
    "info": {"year": 2014},
    "images": _IMAGES,
    "annotations": [{"id": n, "image_id": n, "caption": f"a dog , number {n}"} for n in (1, 2, 3)],
}
_POLYGON = {"segmentation": [[0, 0, 20, 0, 20, 15.5]], "iscrowd": 0}
_RUNS = {"segmentation": {"size": [20, 40], "counts": [100, 50, 650]}, "iscrowd": 1}
_PACKED = {
    "segmentation": {
        "size": [20, 40],
        "counts": masks.encode(np.asfortranarray(np.eye(20, 40, dtype=np.uint8)))[
            "counts"
        ].decode(),
    }
}
_INSTANCES = {
    "images": _IMAGES,
    "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
    "annotations": [
        {"id": n, "image_id": n, "category_id": 18, **shape}
        for n, shape in enumerate((_POLYGON, _RUNS, _PACKED), 1)
    ],
}
_QUESTIONS = {
    "questions": [{"question_id": n, "image_id": n, "question": "what?"} for n in (1, 2, 3)]
}
_ANSWERS = {
    "annotations": [
        {"question_id": n, "answers": [{"answer": "red"}, {"answer": "blue"}], "answer_type": "o"}
        for n in (1, 2, 3)
    ]
}
_PLACE = {"x": 4, "y": 2, "width": 10, "height": 10.5}
_GENOME = [
    {"id": n, "regions": [{"region_id": 10 * n + m, "phrase": "a dog", **_PLACE} for m in (1, 2)]}
    for n in (1, 2)
]
_DENSECAP = {
    "opt": {"image_size": 720},
    "results": [
        {"img_name": f"{n:012}.jpg", "boxes": [[1, 1, 9, 9]], "scores": [0.5], "captions": ["a"]}
        for n in (1, 2)
    ],
}
_REGIONS = {
    "images": _IMAGES,
    "annotations": [
        {"id": n, "image_id": n, "caption": "a dog", "bbox": [4, 2, 10, 10]} for n in (1, 2)
    ],
}
_TABLE = b'image,caption\r\n1.jpg,A dog .\n2.jpg,"A dog , ""here"" ."\n3.jpg,a cat , and a dog\n'
_SENTENCES = b"[/EN#5/animals A dog] runs on [/EN#6/other the grass] .\nA second one .\n"
_BOXES = (
    b"<annotation><size><width>40</width><height>20</height><depth>3</depth></size><object>"
    b"<name>5</name><bndbox><xmin>5</xmin><ymin>3</ymin><xmax>14</xmax><ymax>12</ymax></bndbox>"
    b"</object><object><name>6</name><nobndbox>1</nobndbox></object></annotation>"
)


def _instances(folder: Path) -> Found:
    found = read_instances(folder / "annotations" / "a.json")
    names = [category["name"] for category in found.coco.cats.values()]
    maps = {
        (number, name): word_maps.word_map(found.coco, number, name).sum()
        for number in found.coco.imgs
        for name in names
    }
    return {key: int(count) for key, count in maps.items()}, found.problems


def _captions(folder: Path) -> Found:
    found = read_captions(folder / "annotations" / "a.json")
    return found.by_image, found.problems


def _training(folder: Path) -> Found:
    found = captions.read_data(folder)
    return sorted(
        (one.photo.name, one.captions) for one in (*found.train, *found.val)
    ), found.skipped


def _questions(folder: Path) -> Found:
    found = questions.read_data(folder)
    return sorted(map(str, (*found.train, *found.val))), found.skipped


def _regions(folder: Path) -> Found:
    found = regions.read(folder / "annotations" / "a.json", folder)
    return found.photos, found.problems


def _entities(folder: Path) -> Found:
    found = regions.read(folder / "marked", folder, ["1.jpg", "2.jpg"])
    return found.photos, found.problems


_VQA = {"annotations/questions.json": _QUESTIONS, "annotations/annotations.json": _ANSWERS}
_MARKED = {
    **{f"marked/Sentences/{n}.txt": _SENTENCES for n in (1, 2)},
    **{f"marked/Annotations/{n}.xml": _BOXES for n in (1, 2)},
}
_FLICKR = {
    "captions.txt": _TABLE,
    "trainImages.txt": b"1.jpg\r\n2.jpg\n",
    "valImages.txt": b"3.jpg",
}

READERS = {
    "instances": Reader("annotations/a.json", _INSTANCES, _instances),
    "captions": Reader("annotations/a.json", _CAPTIONS, _captions),
    "coverage": Reader(
        "annotations/a.json", _CAPTIONS, lambda f: read_texts(f / "annotations" / "a.json")
    ),
    "training": Reader("annotations/captions.json", _CAPTIONS, _training),
    "table": Reader("captions.txt", _TABLE, _training, _FLICKR),
    "names": Reader("trainImages.txt", _FLICKR["trainImages.txt"], _training, _FLICKR),
    "questions": Reader("annotations/questions.json", _QUESTIONS, _questions, _VQA),
    "answers": Reader("annotations/annotations.json", _ANSWERS, _questions, _VQA),
    "Visual Genome": Reader("annotations/a.json", _GENOME, _regions),
    "DenseCap": Reader("annotations/a.json", _DENSECAP, _regions),
    "regions": Reader("annotations/a.json", _REGIONS, _regions),
    "sentences": Reader("marked/Sentences/1.txt", _SENTENCES, _entities, _MARKED),
    "boxes": Reader("marked/Annotations/1.xml", _BOXES, _entities, _MARKED),
}


def prepared(reader: Reader, folder: Path) -> Path:
    """Write a reader's folder, with photos; the path of its file."""
    for place in ("images", "Images"):
        for number in (1, 2, 3):
            photo(
                folder / place / f"{number:012}.jpg"
                if place == "images"
                else folder / place / f"{number}.jpg",
                (40, 20),
            )
    for name, content in {**(reader.beside or {}), reader.file: reader.sound}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder / reader.file


def outcome(reader: Reader, folder: Path, clean: Found, *, alike: bool) -> str | None:
    """What is wrong with what a reader makes of a file; None: nothing.

    Args:
        clean: what it makes of the sound one.
        alike: whether the odd file may well be another sound one.
    """
    try:
        found, told = reader.read(folder)
    except ValueError as error:
        text = str(error)
        if (
            "\n" in text
            or len(text) > 2000
            or not any(Path(n).name in text for n in {**(reader.beside or {}), reader.file: 0})
        ):
            return f"an error that is not one line with the file's name: {text[:300]!r}"
        return None
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if any("\n" in line or len(line) > 2000 for line in told):
        return f"lines that are none: {str(told)[:300]}"
    return None if alike or told or found == clean[0] else f"turned in silence: {str(found)[:300]}"


def structural(sound: Any) -> Iterator[tuple[str, bytes, bool]]:
    """A file with each value replaced by each odd one, each key left out, and each key twice: what
    was done, the file, and whether it may well be sound."""
    for path in _paths(sound):
        name = "/".join(map(str, path))
        before = _at(sound, path)
        for what, text in ODD.items():
            marked = json.dumps(_with(sound, path, _MARK)).replace(f'"{_MARK}"', text)
            alike = what in _ALIKE.get(type(before), ()) or path[:1] == ("info",)
            alike |= path[-1:] in (("answer",), ("answer_type",)) and what == "no text"
            alike |= not path and what == "a list"  # a file of Visual Genome without images
            yield f"{name} is {what}", marked.encode(), alike
        if path and isinstance(path[-1], str):
            whole = json.dumps(_with(sound, path, _MARK))
            value = json.dumps(before)
            optional = (
                path[-1] in _OPTIONAL or path[0] == "info" or path[-2:] == ("annotations", 0, "id")
            )
            yield f"{name} is missing", json.dumps(_without(sound, path)).encode(), optional
            twice = whole.replace(f'"{_MARK}"', f'null, "{path[-1]}": {value}')
            yield f"{name} is there twice", twice.encode(), False
            twice = whole.replace(f'"{_MARK}"', f'{value}, "{path[-1]}": {value}')
            yield f"{name} is there twice, the same", twice.encode(), False


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in the data; of a list the first and the second one."""
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:1]):
            yield from _paths(inner, (*at, number))


def _at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def _with(value: Any, path: Sequence[Any], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _with(value[path[0]], path[1:], new)
    return copy


def _without(value: Any, path: Sequence[Any]) -> Any:
    copy = value.copy()
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _without(value[path[0]], path[1:])
    return copy


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A file with some bytes changed, cut, put in or repeated."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        start = rng.randrange(len(content) + 1)
        stop = min(len(content), start + rng.choice((0, 1, 1, 4, 60)))
        piece = rng.choice(
            (
                b"", bytes([rng.randrange(256)]), b'"', b",", b"\n", b"\r", b"\0", b"[", b"{", b"<",
                b"\xef\xbb\xbf", b"\xe9", b"../", b"9" * 30, b"-", bytes(content[start:stop]) * 2,
            )
        )  # fmt: skip
        content[start:stop] = piece
    return bytes(content[: rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content)


def structural_failures(name: str) -> tuple[int, list[str]]:
    """How many odd files of a reader there were, and a line for each that it takes wrongly."""
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as folder:
        return _failures(reader, Path(folder), structural(reader.sound))


def byte_failures(name: str, seed: int, count: int) -> tuple[int, list[str]]:
    """The same of ``count`` files whose bytes were damaged."""
    reader, rng = READERS[name], random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        file = prepared(reader, Path(folder)).read_bytes()
        odd = ((f"{i}", damaged(file, rng), True) for i in range(count))
        return _failures(reader, Path(folder), odd)


def _failures(
    reader: Reader, folder: Path, files: Iterator[tuple[str, bytes, bool]]
) -> tuple[int, list[str]]:
    path, failures, count = prepared(reader, folder), [], 0
    clean = reader.read(folder)
    if clean[1]:
        failures.append(f"the sound file: {clean[1]}")
    for what, content, alike in files:
        count += 1
        path.write_bytes(content)
        if wrong := outcome(reader, folder, clean, alike=alike):
            failures.append(f"{what}: {wrong}")
    return count, failures


def every_failure(seed: int, count: int) -> tuple[int, list[str]]:
    """Of all readers."""
    total, failures = 0, []
    for name, reader in READERS.items():
        found = [byte_failures(name, seed, count)]
        if not isinstance(reader.sound, bytes):
            found.append(structural_failures(name))
        for files, lines in found:
            total += files
            failures += [f"{name}: {line}" for line in lines]
    return total, failures
