"""How much of some captions the table covers, and the nouns it lacks.

python -m word_maps captions_val2017.json [--table MINE.txt]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from word_maps.context import COLOURS, bare, word_set
from word_maps.entries import Entries, Text, read_entries
from word_maps.files import read
from word_maps.words import Table, table, visual_words

_DETERMINERS = word_set(
    "a an the his her its their my our this that these those some another one two three four five"
    " six seven eight nine ten several many few"
)
_NO_NOUNS = word_set(
    "on in at with without of by near beside besides next under over above below behind beneath"
    " between among inside into onto from to for against around across off atop along upon and or"
    " but that which who while as is are was were be been being has have had it them up down out"
    " through during towards toward very there sits stands lies looks holds wears rides walks eats"
    " plays watches waits hangs flies runs jumps"
)
_ADJECTIVES = COLOURS | word_set("orange full open close closed together outside other")
_NOUNS_IN_ED = word_set("bed shed sled seed weed reed bread moped speed breed red")


class _Caption(msgspec.Struct):
    caption: Text


class _CaptionsFile(msgspec.Struct):
    annotations: Entries[_Caption]


@dataclass
class Coverage:
    """What was counted over some captions.

    Attributes:
        captions: how many there were.
        words: all their words.
        matched: those of them that are part of a visual word.
        categories: visual words by category.
        unmatched: nouns that are in no visual word, by how often they occur.
    """

    captions: int = 0
    words: int = 0
    matched: int = 0
    categories: Counter[str] = field(default_factory=Counter)
    unmatched: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Words matched over words seen, 0..1."""
        return self.matched / self.words if self.words else 0.0


def coverage(captions: Iterable[str], words: Table | None = None) -> Coverage:
    """Count what a table (COCO's by default) covers of captions."""
    words = words or table()
    found = Coverage()
    for caption in captions:
        tokens = [token for token in caption.split() if bare(token)]
        visual = visual_words(tokens, words)
        inside = {i for start, stop, _ in visual for i in range(start, stop)}
        found.captions += 1
        found.words += len(tokens)
        found.matched += len(inside)
        found.categories.update(name for _, _, name in visual)
        found.unmatched.update(bare(tokens[i]) for i in nouns(tokens) if i not in inside)
    return found


def nouns(tokens: Sequence[str]) -> Iterator[int]:
    """The places of nouns, without a tagger: the last word of each run that begins behind an
    article, a numeral or the like and ends at a punctuation mark, a preposition, a conjunction, a
    common verb, or a participle that is not its first word ("a living room", but "a dog running").
    """
    start: int | None = None
    for i, token in enumerate([*tokens, ""]):
        word = bare(token)
        inside = start is not None and i > start
        ends = not word or word in _NO_NOUNS | _DETERMINERS or (inside and _is_participle(word))
        if inside and ends and bare(tokens[i - 1]) not in _ADJECTIVES:
            yield i - 1
        if ends:
            start = i + 1 if word in _DETERMINERS else None
        if start is not None and start <= i and token.rstrip()[-1:] in ".,;:!?":
            yield i
            start = None


def _is_participle(word: str) -> bool:
    return word.endswith("ing") or (word.endswith("ed") and word not in _NOUNS_IN_ED)


def report(found: Coverage, most: int = 30) -> str:
    """The counts as lines of text; ``most``: how many unmatched nouns are named."""
    lines = [
        f"{found.captions} captions, {found.words} words, {found.matched} of them"
        f" ({100 * found.share:.1f} %) in visual words",
        "",
        *(f"{count:8} {name}" for name, count in found.categories.most_common()),
        "",
        "nouns without a category:",
        *(f"{count:8} {word}" for word, count in found.unmatched.most_common(most)),
    ]
    return "\n".join(lines)


def read_captions(path: Path) -> tuple[list[str], list[str]]:
    """Captions of a file in COCO's layout, or of a text file, one a line; and a line for each entry
    of the former that is left out.

    Raises:
        ValueError: naming the file that is missing or holds no captions.
    """
    if path.suffix == ".json":
        data, problems = read_entries(path, _CaptionsFile, what="captions in COCO's layout")
        captions = [entry.caption for entry in data.annotations]
        if empty := sum(not caption.strip() for caption in captions):
            problems.append(f"{path.name}: {empty} captions without a word")
        return [caption for caption in captions if caption.strip()], problems
    try:
        text = read(path).decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no captions ({error})") from error
    return [line for line in text.split("\n") if line.strip()], []
