"""Sub-words of a tokenizer of transformers, and the words they make.

A word's score is the sum of its tokens' log-probabilities, so each token belongs to one word. A
token continues the word before it where it begins with ``##`` (WordPiece); where it does not begin
with the sign of a space (byte-level BPE, SentencePiece); and, where each word's last token ends
with a sign (``</w>``), behind a token without that sign. Of a vocabulary of whole words (WordLevel)
every token is a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from tokenizers.models import WordLevel

from vlcam.adapters.teacher_forcing import TokenizedWord
from vlcam.formats.folders.tokenizer import text_of, tokenize

_BLANKS = ("\u2581", "\u0120", "\u010a", "\u0109")
"""Signs that sub-words begin with in place of a blank: SentencePiece's space; byte-level BPE's
space, newline and tab."""


class Subwords:
    """Words of a fast tokenizer's tokens.

    Args:
        tokenizer: of transformers.

    Raises:
        ValueError: it is not a fast one, so that it cannot say where its tokens lie in a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(f"{type(tokenizer).__name__} is no fast tokenizer (tokenizer.json)")
        self._tokenizer = tokenizer
        model = tokenizer.backend_tokenizer.model
        self._continues = getattr(model, "continuing_subword_prefix", None)
        self._ends = getattr(model, "end_of_word_suffix", None)
        self._whole = isinstance(model, WordLevel)
        ends = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
        unknown = tokenizer.unk_token_id
        self._unknown = None if unknown in ends else unknown  # GPT-2's is its end, and never needed
        self._special = set(tokenizer.all_special_ids) - {self._unknown}

    def read(self, text: str, before: str = "") -> list[TokenizedWord]:
        """A text's words, as written in it, with their tokens; special tokens are not added.

        A word is unknown where one of its tokens stands for what the tokenizer lacks, or is a
        special token that the text spells out.

        Args:
            before: what comes before the text, as it changes how some tokenizers split the text's
                beginning. Where a token spans both, the text is read by itself.
        """
        skipped, _ = self._tokens(before)
        ids, spans = self._tokens(before + text)
        if ids[: len(skipped)] == skipped:
            ids, spans, text = ids[len(skipped) :], spans[len(skipped) :], before + text
        else:
            ids, spans = self._tokens(text)
        begun = _begun(text, spans)
        return [
            TokenizedWord(
                text[spans[group[0]][0] : spans[group[-1]][1]].strip(),
                tuple(ids[place] for place in group),
                unknown=any(ids[place] in {self._unknown, *self._special} for place in group),
            )
            for group in self.groups(ids, begun)
        ]

    def written(self, ids: Sequence[int]) -> list[TokenizedWord]:
        """The words of tokens that a model wrote. Special tokens are words without a text: the
        words after them were predicted given them, but they are not shown."""
        words = []
        for group in self.groups(ids):
            tokens = tuple(ids[place] for place in group)
            shown = [token for token in tokens if token not in self._special]
            text = text_of(self._tokenizer, shown) if shown else ""
            words.append(TokenizedWord(text.strip().removeprefix(self._continues or ""), tokens))
        return words

    def opening(self) -> list[TokenizedWord]:
        """The special tokens that the tokenizer puts before every text, as words without a text."""
        read = tokenize(self._tokenizer, "a", return_special_tokens_mask=True)
        marked = zip(read["input_ids"], read["special_tokens_mask"], strict=True)
        return [TokenizedWord("", (token,)) for token, _ in takewhile(lambda pair: pair[1], marked)]

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and where each of them lies in the text."""
        options = {"add_special_tokens": False, "return_offsets_mapping": True}
        read = tokenize(self._tokenizer, text, **options)
        return read["input_ids"], read["offset_mapping"]

    def groups(self, ids: Sequence[int], begun: Sequence[bool] = ()) -> list[list[int]]:
        """The places of the tokens of each word.

        Args:
            begun: for each token, whether a word of the text begins at it: needed for unknown
                tokens, which do not show it.
        """
        groups: list[list[int]] = []
        for place, token in enumerate(ids):
            alone = token in self._special or (place > 0 and ids[place - 1] in self._special)
            if not groups or alone or self._starts(ids, place, begun):
                groups.append([place])
            else:
                groups[-1].append(place)
        return groups

    def _starts(self, ids: Sequence[int], place: int, begun: Sequence[bool]) -> bool:
        if self._whole:
            return True
        if self._continues:
            return not self._piece(ids[place]).startswith(self._continues)
        if ids[place] == self._unknown and begun:
            return begun[place]
        if self._ends:
            return place == 0 or self._piece(ids[place - 1]).endswith(self._ends)
        return self._piece(ids[place]).startswith(_BLANKS)

    def _piece(self, token: int) -> str:
        # Some published tokenizers have no name for the model's last rows.
        return self._tokenizer.convert_ids_to_tokens(token) or f"[{token}]"


def _begun(text: str, spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether a word begins at each token: behind a blank, unless the blank is a token by itself;
    then the word began with it."""
    begun = []
    last = (0, 0)
    for start, stop in spans:
        blank = text[max(0, start - 1) : start + 1]
        alone = last[1] == start and not text[last[0] : last[1]].strip()
        begun.append(start == 0 or (any(map(str.isspace, blank)) and not alone))
        last = (start, stop)
    return begun
