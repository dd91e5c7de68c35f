"""Annotation files in JSON: each entry is checked against its type; odd ones are left out and told.

A file's layout is a class of msgspec, a ``Struct`` or ``TypedDict``, whose lists of entries have
the type :data:`Entries`. Nothing is converted: an id is a whole number and no text, ``true`` is no
1. A file that is as it should be is decoded at once; only one that is not is read entry by entry.
"""

from __future__ import annotations

import codecs
import gc
import json
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints, is_typeddict

import msgspec

from word_maps.files import read

Entry = TypeVar("Entry")

_EACH = "each by itself"

Entries = Annotated[list[Entry], _EACH]
"""A list whose odd entries are left out. In any other list, an odd one makes the whole entry odd
that the list belongs to."""

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""The number of an entry; of 64 bits, as tables of records are. Some files have negative ones."""

Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
"""A finite one, such as a coordinate in pixels."""

Length = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
"""Of a side, in pixels."""

FileName = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
"""Of a photo, as file systems take it; see :func:`of_file_name`."""

Text = Annotated[str, msgspec.Meta(max_length=10_000)]
"""A caption, question or answer: a few words, and no book."""


class NamedImage(msgspec.Struct):
    """An image of a file like COCO's, by its number and the name of its file."""

    id: Id
    file_name: FileName


_MOST_DIGITS = 1000  # of a whole number; no entry may have one of more than 64 bits

_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "array": "a list",
    "object": "an object",
}
"""What msgspec's messages call types, in plain words."""


class _KeyTwice:
    """Stands for an object in which a key is given twice: which of the values is meant?"""

    def __init__(self, key: str) -> None:
        self.key = key


def read_entries(path: Path, *layouts: Any, what: str) -> tuple[Any, list[str]]:
    """An annotation file, and a line for each entry that is left out.

    Left out are entries that lack what they need, or have something of another type, a key twice,
    or text that cannot be written (half of a surrogate pair).

    Args:
        layouts: classes of msgspec, or ``Entries[...]``; the file is of the first that fits.
        what: the file that is expected, for the error.

    Returns:
        an object of the layout, and the lines, which begin with the file's name.

    Raises:
        ValueError: naming the file: it is missing, cut, not UTF-8, no JSON, or of no such layout.
    """
    try:
        data = read(path).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    with _without_garbage_collection():
        for layout in layouts:
            try:
                found = msgspec.json.decode(data, type=layout)
                if not _may_have_a_key_twice(data, found, layout):
                    return found, []
            except (ValueError, RecursionError):
                continue
        try:
            plain = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_int=_whole)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not JSON, or cut in the middle ({error})") from error
        layout = next((one for one in layouts if _looks_like(plain, one)), layouts[0])
        problems: list[str] = []
        try:
            found = _kept(plain, layout, "", problems)
        except ValueError as error:
            raise ValueError(f"{path}: not {what} ({_said(error, plain).lstrip(': ')})") from error
    return found, [f"{path.name}: {line}" for line in problems]


def sound(
    entries: Iterable[Entry],
    kind: str,
    name: Callable[[Entry], Any],
    check: Callable[[Entry], str | None],
    problems: list[str],
) -> Iterator[Entry]:
    """The entries that pass a check (None, or what is wrong) and whose name, if they have one, did
    not occur before; ``problems`` gets a line for each of the others."""
    seen = set[Any]()
    for place, entry in enumerate(entries):
        called = name(entry)
        wrong = "occurs twice" if called in seen else check(entry)
        if wrong:
            problems.append(f"{kind}{f'[{place}]' if called is None else f' {called}'}: {wrong}")
            continue
        if called is not None:
            seen.add(called)
        yield entry


def of_file_name(name: str) -> str | None:
    """What is wrong with the name of a photo in a folder; None: nothing."""
    path = PurePosixPath(name)
    if not path.name or "\0" in name or len(name.encode()) > 255:
        return f"{reprlib.repr(name)} is no name of a file"
    leads_out = path.is_absolute() or ".." in path.parts
    return f"{name!r} leads out of the folder of photos" if leads_out else None


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Plain data has no circles; looking for some takes most of the time that reading it takes."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _element(kind: Any) -> Any:
    """The type of each of some :data:`Entries`; None for any other type."""
    return get_args(kind.__origin__)[0] if _EACH in getattr(kind, "__metadata__", ()) else None


@cache
def _lists(layout: Any) -> dict[str, Any]:
    """The fields of a layout that are :data:`Entries`, and their types."""
    hints = get_type_hints(layout, include_extras=True)
    return {name: kind for name, kind in hints.items() if _element(kind) is not None}


def _looks_like(found: Any, layout: Any) -> bool:
    """Whether it is a list where the layout is one, or an object with the keys it needs."""
    if _element(layout) is not None:
        return isinstance(found, list)
    return isinstance(found, dict) and found.keys() >= set(_required(layout))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _KeyTwice:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    return _KeyTwice(Counter(key for key, _ in pairs).most_common(1)[0][0])


def _whole(digits: str) -> float:
    """A number; infinite where Python refuses to read so many digits, and with them the file."""
    return int(digits) if len(digits) < _MOST_DIGITS else float(digits)


def _may_have_a_key_twice(data: bytes, found: Any, layout: Any) -> bool:
    """Whether some key that entries need is in a file more often than there are such entries. So it
    is, too, where others have that key."""
    needed = Counter[str]()
    _count(found, layout, needed)
    unread: list[bytes] = []
    if _element(layout) is None:
        sections = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        known = layout.__struct_fields__
        unread = [bytes(raw) for name, raw in sections.items() if name not in known]
    return any(
        data.count(text) - sum(some.count(text) for some in unread) != count
        for text, count in ((f'"{key}"'.encode(), count) for key, count in needed.items())
    )


def _count(found: Any, layout: Any, needed: Counter[str]) -> None:
    """How often each key is needed in what was found."""
    element = _element(layout)
    if element is None:
        for name, kind in _lists(layout).items():
            needed[name] += 1
            _count(getattr(found, name), kind, needed)
        return
    for key in _required(element):
        needed[key] += len(found)
    for name, kind in _lists(element).items():
        for entry in found:
            _count(getattr(entry, name), kind, needed)


def _required(kind: Any) -> Iterable[str]:
    if is_typeddict(kind):
        return cast(Iterable[str], kind.__required_keys__)
    return [field.name for field in msgspec.structs.fields(kind) if field.required]


def _kept(value: Any, kind: Any, at: str, problems: list[str]) -> Any:
    """A value as its type, without the entries that are odd.

    Raises:
        ValueError: all of it is odd.
    """
    element = _element(kind)
    if element is not None:
        at = at or element.__name__.lower()
        return list(_each(msgspec.convert(value, list), element, at, problems))
    lists = _lists(kind) if isinstance(value, dict) else {}
    filled = [name for name in lists if isinstance(value.get(name), list)]
    found = msgspec.convert({**value, **{name: [] for name in filled}} if filled else value, kind)
    msgspec.json.encode(found)  # refuses halves of surrogate pairs
    for name in filled:
        place = f"{at}: {name}" if at else name
        setattr(found, name, _kept(value[name], lists[name], place, problems))
    return found


def _each(values: list[Any], kind: Any, at: str, problems: list[str]) -> Iterator[Any]:
    name = next(iter(kind.__annotations__))
    for place, value in enumerate(values):
        number = value.get(name) if isinstance(value, dict) else None
        called = type(number) is int and abs(number) < 2**64
        here = f"{at} {number}" if called else f"{at}[{place}]"
        try:
            yield _kept(value, kind, here, problems)
        except ValueError as error:
            problems.append(f"{here}{_said(error, value)}")


def _said(error: ValueError, value: Any) -> str:
    """An error of :func:`_kept` in plain words, with the value that is odd."""
    if isinstance(error, UnicodeEncodeError):
        return f": half of a surrogate pair in {reprlib.repr(error.object)}"
    text, _, place = str(error).partition(" - at `$")
    place = place.removesuffix("`").removeprefix(".")
    for key, number in re.findall(r"(\w+)|\[(\d+)\]", place):
        value = value[key] if key else value[int(number)]
    if isinstance(value, _KeyTwice):
        return f": {value.key!r} is given twice"
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", text):
        return f": no {missing[1]}" + (f" in {place}" if place else "")
    expected = re.fullmatch(r"Expected `(.*?)`(.*?)(?:, got .*)?", text)
    names = " or ".join(_NAMES.get(n, n) for n in expected[1].split(" | ")) if expected else ""
    told = f"not {names}{expected[2]}" if expected else text.lower()
    return f"{place and ': '}{place} is {reprlib.repr(value)}, {told}"
