"""The words a published captioner knows, numbered from 1."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from captioning.language.captioner import CaptionWord
from vlcam.formats.vocabulary import UNKNOWN


class WordList:
    """Word i (from 0) has token i + 1. Not all such lists have ``UNK``, or have it last."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)

    def find(self, word: str, *spellings: str) -> CaptionWord:
        """A word of a text, by the first of its spellings (itself, then those) that is known.

        Where none is, ``UNK`` stands in for it, if there is one.
        """
        for spelling in (word, *spellings):
            if spelling in self._tokens:
                return CaptionWord(word, (self._tokens[spelling],))
        stand_in = self._tokens.get(UNKNOWN)
        return CaptionWord(word, () if stand_in is None else (stand_in,), unknown=True)

    def written(self, tokens: Sequence[int]) -> list[CaptionWord]:
        """A caption that the model wrote."""
        return [CaptionWord(self.words[token - 1], (token,)) for token in tokens]

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words, 1)}
