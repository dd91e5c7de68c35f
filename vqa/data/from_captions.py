"""Questions and answers made of captions whose phrases are marked (after Ren et al., NIPS 2015).

A sentence of Flickr30k Entities, such as ::

    [/EN#1/people A girl] in [/EN#2/clothing a pink dress] is climbing [/EN#3/other the stairs] .

says what someone does, what with, in which colour, how many there are and where; each phrase that
holds an answer has boxes, which are the evidence. No parser is needed: the phrases are marked, and
the words around them are few. What does not fit a pattern is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlcam.evaluation.entities import Part, Phrase


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _words(
    "red green blue yellow orange purple pink brown black white gray grey tan beige gold silver"
    " blond blonde maroon turquoise"
)
_NUMERALS = "one two three four five six seven eight nine ten"
NUMBERS = {word: str(value) for value, word in enumerate(_NUMERALS.split(), 1)}
_ARTICLES = _words("a an the his her their its some this that these those another")
_PREPOSITIONS = _words("with on at to in into from for through over under around along")
_PLACES = _words("in on at inside near by outside through along")
_OF = _words("group crowd set pair couple bunch number team piece body")
_NO_PLACES = _words("day night air edge area front top side middle background distance end")
_PRONOUNS = _words(
    "it its he she they them him her hers his their each other one another who which that there"
    " himself herself itself themselves someone something"
)


class Chunk(Phrase):
    """A phrase in small letters, and what it says."""

    @property
    def head(self) -> str | None:
        """The noun the phrase is about: its last word, before an "of" that says of what; None for
        a pronoun, or where there is none."""
        words = [word for word in self.words if word.isalpha()]
        if "of" in words[1:-1]:
            cut = words.index("of", 1)
            words = words[cut + 1 :] if words[cut - 1] in _OF else words[:cut]
        if not words or words[-1] in _PRONOUNS | _ARTICLES | COLOURS or words[-1] in NUMBERS:
            return None
        return words[-1]

    @property
    def colour(self) -> str | None:
        """Its colour, or "black and white", said right in front of its head."""
        before = list(self.words[:-1])
        found: list[str] = []
        while before and before[-1] in COLOURS | {"and"}:
            found.insert(0, before.pop())
        while found and found[0] == "and":
            found.pop(0)
        return " ".join(found).replace("grey", "gray") or None

    @property
    def number(self) -> str | None:
        """How many, where the phrase says so."""
        return NUMBERS.get(self.words[0]) if len(self.words) > 1 else None


@dataclass(frozen=True)
class Pair:
    """A question, its answer, and the entity whose boxes are the evidence.

    ``kind`` is one of ``what``, ``color``, ``number`` and ``where``.
    """

    question: str
    answer: str
    entity: str
    kind: str


def pairs(sentence: Sequence[Part]) -> Iterator[Pair]:
    """Every question that the patterns find in one sentence (of
    :func:`vlcam.evaluation.entities.parts`)."""
    found: list[Chunk | str] = [
        part.lower()
        if isinstance(part, str)
        else Chunk(part.entity, part.kinds, tuple(word.lower() for word in part.words))
        for part in sentence
    ]
    subject = found[0] if found and isinstance(found[0], Chunk) else None
    for phrase in found:
        if isinstance(phrase, Chunk) and "notvisual" not in phrase.kinds:
            yield from _about(phrase)
    if subject is None or subject.head is None or "notvisual" in subject.kinds:
        return
    yield from _who(subject, found[1:])
    for place in range(1, len(found)):
        phrase = found[place]
        if isinstance(phrase, Chunk) and "notvisual" not in phrase.kinds:
            yield from _what(subject, found[1:place], phrase)
            yield from _where(subject, found[1:place], phrase)


def _about(phrase: Chunk) -> Iterator[Pair]:
    """What a phrase says by itself: colour and number."""
    if phrase.head is None:
        return
    if phrase.colour and phrase.words[-1] == phrase.head:
        verb = "are" if _is_plural(phrase.head) else "is"
        question = f"what color {verb} the {phrase.head}?"
        yield Pair(question, phrase.colour, entity=phrase.entity, kind="color")
    if phrase.number and phrase.number != "1":
        question = f"how many {phrase.head} are there?"
        yield Pair(question, phrase.number, entity=phrase.entity, kind="number")


def _who(subject: Chunk, behind: Sequence[Chunk | str]) -> Iterator[Pair]:
    """ "A girl is climbing the stairs": who is climbing the stairs?"""
    doing = _doing(behind)
    if doing is None or subject.head is None:
        return
    verb, rest = doing
    words = [verb, *map(_text, rest)]
    who = "who" if "people" in subject.kinds else "what"
    question = f"{who} is {' '.join(words)}?"
    yield Pair(question, subject.head, entity=subject.entity, kind="what")


def _what(subject: Chunk, between: Sequence[Chunk | str], phrase: Chunk) -> Iterator[Pair]:
    """ "A girl is climbing the stairs": what is the girl climbing?"""
    doing = _doing([*between, phrase])
    if doing is None or phrase.head is None or "people" in phrase.kinds or "scene" in phrase.kinds:
        return
    verb, rest = doing
    between_them = [part for part in rest if part is not phrase]
    if not all(part in _PREPOSITIONS for part in between_them) or len(between_them) > 1:
        return
    ending = " ".join([verb, *map(str, between_them)])
    question = f"what {_verb(subject)} the {subject.head} {ending}?"
    yield Pair(question, phrase.head, entity=phrase.entity, kind="what")


def _where(subject: Chunk, between: Sequence[Chunk | str], phrase: Chunk) -> Iterator[Pair]:
    """ "A girl ... in the grass": where is the girl?"""
    if "scene" not in phrase.kinds or phrase.head is None or not between:
        return
    if between[-1] in _PLACES and phrase.head not in _NO_PLACES:
        question = f"where {_verb(subject)} the {subject.head}?"
        yield Pair(question, phrase.head, entity=phrase.entity, kind="where")


def _doing(rest: Sequence[Chunk | str]) -> tuple[str, list[Chunk | str]] | None:
    """A verb in -ing right behind the subject (an "is" or "are" aside), and what follows it up to
    the end of the clause."""
    words = list(rest)
    if words and words[0] in ("is", "are"):
        words.pop(0)
    if not words or not isinstance(words[0], str) or not re.fullmatch(r"[a-z]{2,}ing", words[0]):
        return None
    clause: list[Chunk | str] = []
    for part in words[1:]:
        if part in ("and", "while", "as", ",", ".", "who", "which", "that"):
            break
        clause.append(part)
    return words[0], clause


def _verb(subject: Chunk) -> str:
    return "are" if _is_plural(subject.head or "") else "is"


def _is_plural(noun: str) -> bool:
    irregular = noun in ("men", "women", "children", "people", "kids", "feet")
    return irregular or (noun.endswith("s") and not noun.endswith(("ss", "us", "is")))


def _text(part: Chunk | str) -> str:
    return " ".join(part.words) if isinstance(part, Chunk) else part
