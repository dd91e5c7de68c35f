"""Visual words: the words of a caption that name a COCO category.

They are defined in ``table.txt`` and ``people.txt``, to which a user may add a file of the same
kind, by the rules of ``rules.py`` and by those of ``compounds.py``; this file only reads the table
and looks words up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from word_maps.compounds import Match, heads, is_clause, is_owned_part
from word_maps.context import Place, Sentence
from word_maps.files import read
from word_maps.rules import RULES

NOTHING = "-"
"""The table's mark of compounds that name no category, though a part of them does."""

_ENTRIES = re.compile(r"[\w /'-]+:[\w ,/'*-]*")  # a line of the table
_FILES = ("people.txt", "table.txt")


@dataclass(frozen=True)
class Table:
    """Which words name which category.

    Attributes:
        forms: every form of every word (small letters, spaces for hyphens) to its category, or to
            :data:`NOTHING`.
        own: those of the user's own file, which the rules of ``context.py`` do not touch.
    """

    forms: Mapping[str, str]
    own: frozenset[str] = frozenset()

    @cached_property
    def longest(self) -> int:
        """Words of the longest compound."""
        return max((form.count(" ") for form in self.forms), default=0) + 1

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the categories, in the table's order."""
        return tuple(dict.fromkeys(name for name in self.forms.values() if name != NOTHING))

    def at(self, form: str, place: Place) -> str | None:
        """What a form names at a place of a caption."""
        rule = None if form in self.own else RULES.get(form)
        name = rule(place) if rule else self.forms.get(form)
        return None if name == NOTHING else name


def table() -> Table:
    """The table that comes with the package: the 80 categories of COCO."""
    return _builtin()


def extended(path: Path) -> Table:
    """That table with a file of the user's own added, of the same kind as ``table.txt``.

    A line ``dog: doggo`` adds a word (and its plural) to a category, a line ``robot: android``
    makes a category, a line ``-: ball park, model`` takes words away, and ``-: * park`` a park of
    any kind.

    Raises:
        ValueError: naming the file, and the line that is none of these, or the word that has
            another category already.
    """
    try:
        added = parse(read(path).decode("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    known = table().forms
    for form, name in added.items():
        before = known.get(form, NOTHING)
        if NOTHING not in (before, name) and before != name:
            raise ValueError(f"{path}: {form!r} already names {before!r}")
    return Table({**known, **added}, frozenset(added))


def category(text: str, words: Table | None = None) -> str | None:
    """The category that a word or a compound names by itself, in any number and case, or None.

    A compound that the table lacks names what its last word does ("electric toaster").

    Args:
        words: the table; COCO's by default.
    """
    tokens = text.split()
    found = visual_words(tokens, words)
    return found[-1][2] if found and found[-1][1] == len(tokens) else None


def visual_words(
    tokens: Sequence[str] | str, words: Table | None = None
) -> list[tuple[int, int, str]]:
    """The visual words of a caption: (start, stop, category), each ``tokens[start:stop]``.

    The longest match wins, from left to right, so "fire hydrant" is one visual word, "hot dog" no
    dog, and "bus stop" none; none goes on behind a punctuation mark ("a bus, stop signs"). A hyphen
    counts as a space, a possessive as its owner. What else a word may mean is decided by the rules
    of ``rules.py`` (an "orange umbrella" is no fruit), and which of two neighbours only says of
    what kind the other is by those of ``compounds.py`` ("male tennis player" is one person).

    Args:
        tokens: the caption's words in order, without spaces; their case does not matter. A text is
            split at its spaces.
        words: the table; COCO's by default.
    """
    words = words or table()
    sentence = Sentence.of(tokens.split() if isinstance(tokens, str) else tokens)
    found = heads(sentence, list(_matches(sentence, words)), words.forms)
    return [(match.start, match.stop, match.name) for match in found]


def _matches(sentence: Sentence, words: Table) -> Iterator[Match]:
    """The longest words and compounds of the table, from left to right, that name a category."""
    start = 0
    while start < len(sentence.words):
        last = min(sentence.clause(start), start + words.longest)
        for stop in range(last, start, -1):
            form = " ".join(sentence.words[start:stop])
            if form not in words.forms and form not in RULES:
                continue
            name = words.at(form, sentence.place(start, stop))
            if name is None and (
                is_clause(sentence, start, stop) or is_owned_part(sentence, start, stop)
            ):
                continue
            if name is not None:
                yield Match(start, stop, name)
            start = stop
            break
        else:
            start += 1


def categories() -> tuple[str, ...]:
    """The names of the 80 COCO categories, in the table's order."""
    return table().categories


def plural(word: str) -> str:
    """The regular plural of a noun, or of a compound's last word."""
    if word.endswith("man"):
        return word[:-3] + "men"
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


def parse(text: str) -> dict[str, str]:
    """Every form of every word of a table to its category.

    Raises:
        ValueError: a line is not "category: word, word", or a form stands under two categories;
            the line is named.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, colon, words = line.partition(":")
        if not colon or not _ENTRIES.fullmatch(line):
            raise ValueError(f"line {number}: {line!r} is not 'category: word, word, ...'")
        entries = [entry.strip() for entry in words.split(",") if entry.strip()]
        owner = name.split("/")[0].strip()
        for entry in entries if owner == NOTHING else [name, *entries]:
            one, _, many = (part.strip() for part in entry.partition("/"))
            for form in (one, many or plural(one)):
                if table.setdefault(form, owner) != owner:
                    raise ValueError(f"line {number}: {form!r} already names {table[form]!r}")
    return table


@cache
def _builtin() -> Table:
    folder = files("word_maps")
    forms = parse("\n".join(folder.joinpath(name).read_text("utf-8") for name in _FILES))
    joined = {form.replace(" ", ""): name for form, name in forms.items() if name != NOTHING}
    return Table({**joined, **forms})  # "teddybear", "parkingmeter"
