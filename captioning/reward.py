"""A caption's reward for self-critical training: its own smoothed BLEU-4."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

Tokens = Sequence[int]
_ORDERS = (1, 2, 3, 4)


def ngrams(tokens: Tokens, order: int) -> Counter[tuple[int, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(order)), strict=False))


class SentenceBleu:
    """BLEU-4 of single captions against the references of one image.

    Unlike corpus BLEU it must say something of a caption without a common 4-gram: every order but
    the first counts one match and one n-gram more (Lin & Och, COLING 2004).
    """

    def __init__(self, references: Sequence[Tokens]) -> None:
        self._lengths = [len(reference) for reference in references]
        self._most: list[Counter[tuple[int, ...]]] = []
        for order in _ORDERS:
            most: Counter[tuple[int, ...]] = Counter()
            for reference in references:
                most |= ngrams(reference, order)
            self._most.append(most)

    def __call__(self, tokens: Tokens) -> float:
        """Between 0 and 1."""
        if not tokens:
            return 0.0
        total = 0.0
        for order, most in zip(_ORDERS, self._most, strict=True):
            own = ngrams(tokens, order)
            extra = 0 if order == 1 else 1
            matches = sum((own & most).values()) + extra
            if not matches:
                return 0.0
            total += math.log(matches / (max(len(tokens) - order + 1, 0) + extra))
        nearest = min(self._lengths, key=lambda length: (abs(length - len(tokens)), length))
        return math.exp(total / len(_ORDERS) + min(0.0, 1 - nearest / len(tokens)))
