"""Flickr30k Entities: captions with marked phrases, and boxes of what the phrases name.

The official format (Plummer et al., ICCV 2015): ``Sentences/ID.txt`` has a sentence a line, its
phrases as ``[/EN#entity/kind words]``; ``Annotations/ID.xml`` the boxes of each entity, in pixels
of the original photo that are counted from 1.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from vlcam.metrics.box_ratio import Box
from vlcam.utils.files.input_files import open_file
from vlcam.utils.files.text_files import decoded

_LONGEST = 2**20  # bytes of a file: the official ones have a few thousand
_MARK = re.compile(r"\[/EN#([0-9]+)/(\S+) ([^\]]*)\]")


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
            ValueError: a file is missing or damaged, or the photo was turned; it is named.
        """
        name = f"Sentences/{number}.txt"
        text = self._text(name)
        try:
            sentences = tuple(parts(line) for line in text.split("\n") if line.strip())
            name = f"Annotations/{number}.xml"
            boxes = _boxes(self._text(name), size)
        except (ValueError, ElementTree.ParseError) as error:
            raise ValueError(f"{name}: damaged ({error})") from error
        return Marked(sentences, boxes)

    def _text(self, name: str) -> str:
        place = self._root / name
        try:
            # A member of an archive is always a file.
            with open_file(place) if isinstance(place, Path) else place.open("rb") as file:
                data = file.read(_LONGEST + 1)
        except (OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{name}: missing or damaged ({error})") from error
        if len(data) > _LONGEST:
            raise ValueError(f"{name}: more than {_LONGEST} bytes")
        return decoded(data, name)


def parts(sentence: str) -> tuple[Part, ...]:
    """A sentence's phrases and the words between them, in order.

    Raises:
        ValueError: a phrase is marked in another way, or has no words.
    """
    found: list[Part] = []
    at = 0
    for match in _MARK.finditer(sentence):
        found += _between(sentence[at : match.start()])
        words = tuple(match[3].split())
        if not words:
            raise ValueError(f"a phrase without words: {match[0]}")
        found.append(Phrase(match[1], tuple(match[2].split("/")), words))
        at = match.end()
    return (*found, *_between(sentence[at:]))


def _between(text: str) -> list[str]:
    """The words between phrases; ValueError for what is left of a mark."""
    if "[" in text or "]" in text:
        raise ValueError(f"no phrase is marked like {text.strip()!r:.60}")
    return text.split()


def _boxes(text: str, size: tuple[int, int]) -> dict[str, tuple[Box, ...]]:
    """The boxes of each entity, in pixels of a photo of (height, width).

    Raises:
        ValueError: a number is missing, a box has no pixel, or the photo was turned.
    """
    if "<!" in text:  # the format has no document type; entities of one can grow without end
        raise ValueError("it declares a document type")
    root = ElementTree.fromstring(text)
    width, height = (_number(root, f"size/{side}") for side in ("width", "height"))
    if 0 in (width, height):
        raise ValueError(f"of a photo of {width} x {height} pixels")
    if _alike((width, height), size) and not _alike((height, width), size):
        raise ValueError(f"of a photo of {width} x {height} pixels that was turned since")
    scale_x, scale_y = size[1] / width, size[0] / height
    boxes: dict[str, tuple[Box, ...]] = {}
    for thing in root.iter("object"):
        box = thing.find("bndbox")
        if box is None:
            continue
        left, top, right, bottom = (_number(box, k) for k in ("xmin", "ymin", "xmax", "ymax"))
        if left > right or top > bottom:
            raise ValueError(f"the box {[left, top, right, bottom]} has no pixel")
        # The last pixel is inside.
        edges = ((left - 1) * scale_x, (top - 1) * scale_y, right * scale_x, bottom * scale_y)
        for name in thing.iter("name"):
            boxes[name.text or ""] = (*boxes.get(name.text or "", ()), edges)
    return boxes


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are of one shape, as far as sides are rounded to whole pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)


def _number(element: ElementTree.Element, name: str) -> int:
    """A whole number in an element.

    Raises:
        ValueError: there is none.
    """
    text = (element.findtext(name) or "").strip()
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{name} is {text!r:.40}, not a whole number of pixels")
    return int(text)
