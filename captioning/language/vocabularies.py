"""The vocabularies of published captioners: marks and words in one list, or a list of words alone.

In :class:`MarkedWords` the marks of a caption are words like any other: ``<start>`` and ``<end>``
stand around a caption, ``<pad>`` fills it up, ``<unk>`` stands in for what the vocabulary lacks.
Marks are never shown, but for ``<unk>``, which models write like a word. :class:`WordList` has no
marks; token 0 starts and ends captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from captioning.language.captioner import TokenizedWord
from vlcam.formats import vocabulary

START, END, PAD, UNKNOWN = "<start>", "<end>", "<pad>", "<unk>"


class MarkedWords:
    """Word i has token i.

    Attributes:
        words: all there are.
        start, end: their tokens.
        forbidden: tokens of marks that do not belong within a caption.

    Raises:
        ValueError: there is no mark of start or end.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._tokens = {word: token for token, word in enumerate(self.words)}
        for mark in (START, END):
            if mark not in self._tokens:
                raise ValueError(f"the vocabulary has no {mark}")
        self.start, self.end = self._tokens[START], self._tokens[END]
        self.forbidden = tuple(self._tokens[m] for m in (START, PAD) if m in self._tokens)

    def __contains__(self, word: str) -> bool:
        """Whether a word of a text is known."""
        return word in self._tokens and word not in (START, END, PAD)

    def find(self, word: str) -> TokenizedWord:
        """A word of a text. ``<unk>``, if there is one, stands in for an unknown word."""
        if word in self:
            return TokenizedWord(word, (self._tokens[word],))
        stand_in = self._tokens.get(UNKNOWN)
        return TokenizedWord(word, () if stand_in is None else (stand_in,), unknown=True)

    def written(self, tokens: Sequence[int]) -> list[TokenizedWord]:
        """The words of what a model wrote, up to the first ``<end>``."""
        words = []
        for token in tokens:
            if token == self.end:
                break
            if token not in self.forbidden:
                words.append(TokenizedWord(self.words[token], (token,)))
        return words


def words_by_token(tokens: Any) -> tuple[str, ...]:
    """The words in the order of their tokens.

    Raises:
        ValueError: it is no mapping of words to 0, 1, 2, ...
    """
    if not isinstance(tokens, Mapping) or not all(isinstance(word, str) for word in tokens):
        raise ValueError("expected words and their tokens")
    words = {token: word for word, token in tokens.items() if type(token) is int}
    if set(words) != set(range(len(tokens))):
        raise ValueError("the words' tokens are not 0, 1, 2, ...")
    return tuple(words[token] for token in range(len(words)))


class WordList:
    """Word i (from 0) has token i + 1. Not all such lists have ``UNK``, or have it last."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)

    def find(self, word: str, *spellings: str) -> TokenizedWord:
        """A word of a text, by the first of its spellings (itself, then those) that is known.

        Where none is, ``UNK`` stands in for it, if there is one.
        """
        for spelling in (word, *spellings):
            if spelling in self._tokens:
                return TokenizedWord(word, (self._tokens[spelling],))
        stand_in = self._tokens.get(vocabulary.UNKNOWN)
        return TokenizedWord(word, () if stand_in is None else (stand_in,), unknown=True)

    def written(self, tokens: Sequence[int]) -> list[TokenizedWord]:
        """A caption that the model wrote."""
        return [TokenizedWord(self.words[token - 1], (token,)) for token in tokens]

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, 1)}
