"""A caption as the rules see it: its words, its clauses, and what stands around a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_OWNER = re.compile(r"['\u2019]s?$")
_OWNERS = frozenset(["mans", "womans", "childs"])  # without the apostrophe
_MARK = re.compile(r"[.,;:!?)]$")
_QUOTES = " \t\n\"'\u2018\u2019\u201c\u201d()[]"
_ABBREVIATION = re.compile(r"(?:\w\.)+\w?|(?:st|mr|mrs|ms|dr)\.")


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


COLOURS = word_set(
    "red yellow green blue purple violet pink brown black white gray grey gold golden silver tan "
    "beige cream teal turquoise maroon navy"
)
SHADES = word_set("bright dark light deep pale vivid neon burnt brilliant solid")
ADJECTIVES = (
    COLOURS
    | SHADES
    | word_set(
        "orange big large huge giant small little tiny long short tall old older elderly young new"
        " nice cute pretty beautiful lone single wooden plastic metal colorful colourful wet dirty"
        " double open empty parked lost flying spinning loose mini oversized deflated incoming"
    )
)
"""Adjectives that often stand between an article and its noun."""
DETERMINERS = word_set(
    "a an the his her its their my your our this that these those some two three four five several"
    " many no one another each both"
)
IN_FRONT = DETERMINERS | ADJECTIVES
"""What may stand between a noun and what it belongs to."""
ONE = word_set("a an one another each every this that")
"""Determiners that only a singular noun follows."""
ENDS_A_NOUN = word_set(
    "on in at with without of by near beside besides next under over above below behind beneath "
    "between among inside into onto from to for against around across off atop along upon and or "
    "but that which while as is are was were has have had sits sit sitting lies lying laying lays "
    "rests resting stands standing hangs hanging placed cut sliced peeled"
)
_TO_THINGS = word_set(
    "next close attached tied similar adjacent back strapped chained hitched connected according"
    " prior parallel opposite clinging secured near"
)
_OBJECTS = (DETERMINERS - word_set("that")) | word_set("up down it them him")


@dataclass(frozen=True)
class Place:
    """Where a word stands in a caption.

    Attributes:
        before: all words in front of it.
        after: the words behind it, up to a punctuation mark.
        others: all other words of the caption.
        owned: whether the word right in front is a possessive ("a man's").
    """

    before: Sequence[str] = ()
    after: Sequence[str] = ()
    others: frozenset[str] = frozenset()
    owned: bool = False

    @property
    def last(self) -> str:
        """The word right in front, or an empty text."""
        return self.before[-1] if self.before else ""

    @property
    def next(self) -> str:
        """The word right behind, or an empty text."""
        return self.after[0] if self.after else ""

    @property
    def determiner(self) -> str:
        """The article or the like in front of the word and of its adjectives, or an empty text."""
        for word in reversed(self.before):
            if word in DETERMINERS or word == "every":
                return word
            if word not in ADJECTIVES:
                return ""
        return ""


@dataclass(frozen=True)
class Sentence:
    """The words of a caption.

    Attributes:
        words: each without case, possessive and punctuation (see :func:`bare`).
        ends: whether a punctuation mark stands behind each.
        owners: whether each is a possessive.
    """

    words: tuple[str, ...]
    ends: tuple[bool, ...]
    owners: tuple[bool, ...]

    @classmethod
    def of(cls, tokens: Sequence[str]) -> Sentence:
        """The tokens of a caption, in order."""
        words = tuple(map(bare, tokens))
        owners = [_is_owner(token) for token in tokens]
        for place, word in enumerate(words):
            if not word and owners[place] and place:  # "a man 's hat", as tokenizers write it
                owners[place - 1] = True
        return cls(words, tuple(map(_ends, tokens)), tuple(owners))

    def clause(self, start: int) -> int:
        """The place behind the last word of the clause in which a word stands."""
        for place in range(start, len(self.words)):
            if self.ends[place]:
                return place + 1
        return len(self.words)

    def place(self, start: int, stop: int) -> Place:
        """What stands around ``words[start:stop]``."""
        before = self.words[:start]
        after = () if self.ends[stop - 1] else self.words[stop : self.clause(stop)]
        others = frozenset([*before, *self.words[stop:]])
        return Place(before, after, others, start > 0 and self.owners[start - 1])


@lru_cache(maxsize=2**16)
def bare(text: str) -> str:
    """Lower case, hyphens as spaces, no possessive, no punctuation at the ends or in a "T.V."."""
    text = text.lower().strip(' \t\n.,;:!?"()[]\u201c\u201d\u2026')
    text = _OWNER.sub("", text).lstrip(_QUOTES)
    if _ABBREVIATION.fullmatch(text):
        text = text.replace(".", "")
    return " ".join(re.sub(r"[-\u2010\u2011_]", " ", text).split())


@lru_cache(maxsize=2**16)
def _ends(token: str) -> bool:
    """Whether a punctuation mark stands behind it (other than an abbreviation's: St. Bernard)."""
    token = token.strip().lower()
    return bool(_MARK.search(token)) and not _ABBREVIATION.fullmatch(token)


@lru_cache(maxsize=2**16)
def _is_owner(token: str) -> bool:
    return bool(_OWNER.search(token)) or token.lower() in _OWNERS


def is_noun(place: Place) -> bool:
    """Nothing follows, or a word no noun begins with: "a remote on a table", no "remote beach"."""
    return not place.next or place.next in ENDS_A_NOUN


def is_verb(place: Place) -> bool:
    """Behind "to" (but "next to"), or with an object and no determiner in front: "to tie", "ties
    his shoe"."""
    if place.last == "to":
        return len(place.before) < 2 or place.before[-2] not in _TO_THINGS
    alone = bool(place.before) and place.last not in IN_FRONT
    return place.next in _OBJECTS and alone
