"""Visual words: the words of a caption that name a COCO category.

The table (``table.txt``) is the whole knowledge; this file only reads it and looks words up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from word_maps.context import RULES

NOTHING = "-"
"""Stands in the table for compounds that name no category, though a part of them does."""


def category(text: str) -> str | None:
    """The COCO category that a word or a compound names, in any number and case, or None."""
    found = _table().get(_plain(text))
    return None if found == NOTHING else found


def visual_words(tokens: Sequence[str]) -> list[tuple[int, int, str]]:
    """The visual words of a caption: (start, stop, category), each ``tokens[start:stop]``.

    The longest match wins, from left to right, so "fire hydrant" is one visual word, "hot dog" no
    dog, and "bus stop" none. A hyphen counts as a space, a possessive as its owner. What else a
    word may mean is decided by the rules of ``context.py``: an "orange umbrella" is no fruit.

    Args:
        tokens: the caption's words in order, without spaces; case and punctuation at their ends do
            not matter.
    """
    table, longest = _table(), _longest()
    plain = [_plain(token) for token in tokens]

    def rest(stop: int) -> list[str]:
        """What follows in the same part of the sentence."""
        ends = re.search(r"[.,;:!?)]$", tokens[stop - 1].rstrip())
        return [] if ends else plain[stop:]

    found, start = [], 0
    while start < len(plain):
        for stop in range(min(len(plain), start + longest), start, -1):
            text = " ".join(plain[start:stop])
            name = table.get(text)
            if name is not None:
                rule = RULES.get(text)
                if name != NOTHING and (rule is None or rule(plain[:start], rest(stop))):
                    found.append((start, stop, name))
                start = stop
                break
        else:
            start += 1
    return found


def categories() -> tuple[str, ...]:
    """The names of the 80 COCO categories, in the table's order."""
    return tuple(dict.fromkeys(name for name in _table().values() if name != NOTHING))


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
        if not colon:
            raise ValueError(f"line {number}: {line!r} is not 'category: word, word, ...'")
        entries = [entry.strip() for entry in words.split(",") if entry.strip()]
        owner = name.split("/")[0].strip()
        for entry in entries if owner == NOTHING else [name, *entries]:
            one, _, many = (part.strip() for part in entry.partition("/"))
            for form in {one, many or plural(one)}:
                if table.setdefault(form, owner) != owner:
                    raise ValueError(f"line {number}: {form!r} already names {table[form]!r}")
    return table


@cache
def _table() -> dict[str, str]:
    return parse(files("word_maps").joinpath("table.txt").read_text("utf-8"))


@cache
def _longest() -> int:
    return max(form.count(" ") for form in _table()) + 1


def _plain(text: str) -> str:
    """Lower case, hyphens as spaces, no possessive, no punctuation at the ends."""
    text = re.sub(r"['\u2019]s?$", "", text.lower().strip(' \t\n.,;:!?"()[]'))
    return " ".join(re.sub(r"[-\u2010\u2011_]", " ", text).split())
