"""Sub-words of a tokenizer of transformers, and the words they make.

A word's score is the sum of its tokens' log-probabilities, so each token belongs to one word: a
WordPiece token that begins with ``##`` continues a word; of byte-level BPE one that begins without
a space; of SentencePiece one that begins without its sign of a space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vlcam.teacher_forcing import Word

_BLANKS = ("\u2581", "\u0120", "\u010a", "\u0109")
"""What sub-words begin with in place of a blank: SentencePiece's; byte-level BPE's space, newline
and tab."""

_CONTINUES = "##"


class Subwords:
    """Words of a fast tokenizer's tokens.

    Args:
        tokenizer: of transformers.

    Raises:
        ValueError: it is not a fast one, so that it does not tell where its tokens lie in a text.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(f"{type(tokenizer).__name__} is no fast tokenizer (tokenizer.json)")
        self._tokenizer = tokenizer
        self._special = set(tokenizer.all_special_ids)
        kind = type(tokenizer.backend_tokenizer.model).__name__
        self._starts: Callable[[str], bool] = (
            _starts_word_piece if kind == "WordPiece" else _starts_after_blank
        )

    def read(self, text: str) -> list[Word]:
        """A text's words, written as in the text, with their tokens; special tokens are not added.
        Unknown are words with a token that stands for what the tokenizer lacks."""
        read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, spans = read["input_ids"], read["offset_mapping"]
        return [
            Word(
                text[spans[group[0]][0] : spans[group[-1]][1]].strip(),
                tuple(ids[place] for place in group),
                unknown=any(ids[place] in self._special for place in group),
            )
            for group in self.groups(ids)
        ]

    def written(self, ids: Sequence[int]) -> list[Word]:
        """The words of tokens that a model wrote, special ones left out."""
        own = [token for token in ids if token not in self._special]
        words = []
        for group in self.groups(own):
            tokens = tuple(own[place] for place in group)
            words.append(Word(self._tokenizer.decode(tokens).strip(), tokens))
        return words

    def groups(self, ids: Sequence[int]) -> list[list[int]]:
        """The places of the tokens of each word."""
        groups: list[list[int]] = []
        for place, token in enumerate(ids):
            if not groups or token in self._special or self._starts(self._piece(token)):
                groups.append([place])
            else:
                groups[-1].append(place)
        return groups

    def _piece(self, token: int) -> str:
        # Some published tokenizers have no name for the model's last rows.
        return self._tokenizer.convert_ids_to_tokens(token) or f"[{token}]"


def _starts_word_piece(piece: str) -> bool:
    return not piece.startswith(_CONTINUES)


def _starts_after_blank(piece: str) -> bool:
    return piece.startswith(_BLANKS)
