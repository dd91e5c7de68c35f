"""Flickr30k Entities: captions with marked phrases, and boxes of what the phrases name.

The official format (Plummer et al., ICCV 2015): ``Sentences/ID.txt`` has a sentence a line, its
phrases as ``[/EN#entity/kind words]``; ``Annotations/ID.xml`` the boxes of each entity, in pixels
of the original photo that are counted from 1.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from vlcam.metrics.box_ratio import Box

_MARK = re.compile(r"\[/EN#(\d+)/(\S+) ([^\]]*)\]")


@dataclass(frozen=True)
class Phrase:
    """A marked phrase: the entity it names, the entity's kinds, and its words."""

    entity: str
    kinds: tuple[str, ...]
    words: tuple[str, ...]


Part = Phrase | str
"""A phrase, or a word between phrases."""


@dataclass(frozen=True)
class Marked:
    """A photo's sentences, each in parts, and the boxes (x0, y0, x1, y1) of its entities."""

    sentences: tuple[tuple[Part, ...], ...]
    boxes: dict[str, tuple[Box, ...]]


class Entities:
    """A folder or zip archive with ``Sentences/`` and ``Annotations/``.

    Raises:
        ValueError: there is no such folder or archive.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._root = zipfile.Path(path) if path.is_file() else path
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path}: neither a folder nor a zip archive") from error
        if not (self._root / "Sentences").is_dir():
            raise ValueError(f"{path}: no Sentences/ (Flickr30k Entities' layout)")

    def read(self, number: str, size: tuple[int, int]) -> Marked:
        """A photo's annotations, its boxes scaled to a photo of that (height, width).

        Raises:
            ValueError: a file is missing or damaged; it is named.
        """
        files = [f"Sentences/{number}.txt", f"Annotations/{number}.xml"]
        name = files[0]
        try:
            text = (self._root / name).read_text("utf-8")
            name = files[1]
            boxes = _boxes((self._root / name).read_text("utf-8"), size)
        except (OSError, KeyError, ValueError, ElementTree.ParseError) as error:
            raise ValueError(f"{name}: missing or damaged ({error})") from error
        return Marked(tuple(parts(line) for line in text.splitlines()), boxes)


def parts(sentence: str) -> tuple[Part, ...]:
    """A sentence's phrases and the words between them, in order."""
    found: list[Part] = []
    at = 0
    for match in _MARK.finditer(sentence):
        found += sentence[at : match.start()].split()
        found.append(Phrase(match[1], tuple(match[2].split("/")), tuple(match[3].split())))
        at = match.end()
    return (*found, *sentence[at:].split())


def _boxes(text: str, size: tuple[int, int]) -> dict[str, tuple[Box, ...]]:
    root = ElementTree.fromstring(text)
    scale_x = size[1] / float(root.findtext("size/width", ""))
    scale_y = size[0] / float(root.findtext("size/height", ""))
    boxes: dict[str, tuple[Box, ...]] = {}
    for thing in root.iter("object"):
        box = thing.find("bndbox")
        if box is None:
            continue
        left, top, right, bottom = (
            float(box.findtext(k, "")) for k in ("xmin", "ymin", "xmax", "ymax")
        )
        # The last pixel is inside.
        edges = ((left - 1) * scale_x, (top - 1) * scale_y, right * scale_x, bottom * scale_y)
        for name in thing.iter("name"):
            boxes[name.text or ""] = (*boxes.get(name.text or "", ()), edges)
    return boxes
