"""Words and their token numbers, in a plain JSON file.

Token 0 begins, ends and pads a caption; word i of the list is token i + 1. ``UNK``, which stands
for every word the vocabulary lacks, is the last word (as in NeuralTalk2).
"""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vlcam.utils.files.atomic import written
from vlcam.utils.files.text_files import read_json
from vlcam.utils.messages.expected import described, expect

END = 0
UNKNOWN = "UNK"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def words_of(caption: str) -> list[str]:
    """A caption's words: lower case, ASCII punctuation removed, digits kept."""
    return caption.lower().translate(_NO_PUNCTUATION).split()


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of distinct words, the last of them ``UNK``.

    Attributes:
        words: word i has token i + 1.
        threshold: how often a word had to occur in the training captions to be kept.

    Raises:
        ValueError: a word occurs twice, or the last is not ``UNK``.
    """

    words: tuple[str, ...]
    threshold: int = 1

    def __post_init__(self) -> None:
        if len(set(self.words)) != len(self.words):
            twice = next(w for w, n in Counter(self.words).items() if n > 1)
            raise ValueError(f"vocabulary: {described(twice)} occurs twice")
        if not self.words or self.words[-1] != UNKNOWN:
            raise ValueError(f"vocabulary: the last word must be {UNKNOWN}")

    @classmethod
    def count(
        cls, captions: Iterable[Sequence[str]], threshold: int, also: Iterable[str] = ()
    ) -> Vocabulary:
        """All words that occur at least ``threshold`` times, and others, in alphabetical order."""
        counts = Counter(word for words in captions for word in words)
        kept = sorted({*also, *(word for word, n in counts.items() if n >= threshold)})
        return cls((*kept, UNKNOWN), threshold)

    def __len__(self) -> int:
        """Number of tokens: the words and ``END``."""
        return len(self.words) + 1

    @property
    def unknown(self) -> int:
        """The token of ``UNK``."""
        return len(self.words)

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: i + 1 for i, word in enumerate(self.words)}

    def __contains__(self, word: object) -> bool:
        return word in self._tokens

    def tokens(self, words: Iterable[str]) -> list[int]:
        """Each word's token (``UNK``'s for a word that is not in the vocabulary)."""
        return [self._tokens.get(word, self.unknown) for word in words]

    def missing(self, words: Iterable[str]) -> list[str]:
        """The words that the vocabulary lacks, in order and without repetition."""
        return [word for word in dict.fromkeys(words) if word not in self._tokens]

    def text(self, tokens: Iterable[int]) -> list[str]:
        """The words of the tokens up to the first ``END``; IndexError for an unknown token."""
        words: list[str] = []
        for token in tokens:
            if token == END:
                break
            if not 0 < token <= len(self.words):
                raise IndexError(f"token {token} is not in 0..{len(self.words)}")
            words.append(self.words[token - 1])
        return words

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"words": list(self.words), "threshold": self.threshold}

    @classmethod
    def from_json(cls, data: Any) -> Vocabulary:
        """Inverse of :meth:`to_json`; ValueError for anything else."""
        words = data.get("words") if isinstance(data, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError("vocabulary: expected an object with a list of strings, 'words'")
        threshold = expect(data.get("threshold", 1), int, "threshold", "a whole number")
        return cls(tuple(words), threshold)

    def save(self, path: Path) -> None:
        """Write a JSON file that :meth:`load` reads."""
        with written(path) as draft:
            draft.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a vocabulary's JSON file; ValueError naming the file if it is not one."""
        data = read_json(path)
        try:
            return cls.from_json(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
