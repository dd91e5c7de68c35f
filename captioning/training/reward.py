"""The rewards of a caption: what it adds to the BLEU-4 of all captions, and how much of it is true.

BLEU of single captions, smoothed, is a bad guide to the BLEU of a set: a caption of three words
loses little by having no 4-gram, so training drifts to ever shorter ones. The linear expansion of
the set's log BLEU-4 in the counts of one caption (Tromble et al., EMNLP 2008) is exact to first
order, also in the brevity penalty.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Tokens = Sequence[int]
_ORDERS = (1, 2, 3, 4)


def ngrams(tokens: Tokens, order: int) -> Counter[tuple[int, ...]]:
    """How often each n-gram of that order occurs."""
    return Counter(zip(*(tokens[i:] for i in range(order)), strict=False))


@dataclass(frozen=True)
class Counts:
    """What BLEU-4 counts of a caption, or sums over captions.

    Attributes:
        matches, total: of n-grams of order 1..4, those that are in a reference, and all (at least
            one, as nltk counts).
        length, reference: words of the caption, and of the reference nearest to it in length.
    """

    matches: tuple[float, ...]
    total: tuple[float, ...]
    length: float
    reference: float

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            tuple(a + b for a, b in zip(self.matches, other.matches, strict=True)),
            tuple(a + b for a, b in zip(self.total, other.total, strict=True)),
            self.length + other.length,
            self.reference + other.reference,
        )

    def __mul__(self, factor: float) -> Counts:
        return Counts(
            tuple(factor * n for n in self.matches),
            tuple(factor * n for n in self.total),
            factor * self.length,
            factor * self.reference,
        )

    def bleu(self) -> float:
        """BLEU-4 of the captions these were counted in, 0..1."""
        if not all(self.matches):
            return 0.0
        each = zip(self.matches, self.total, strict=True)
        precision = sum(math.log(m / t) for m, t in each) / len(_ORDERS)
        return math.exp(precision + min(0.0, 1 - self.reference / self.length))

    def gain(self, sums: Counts, captions: float) -> float:
        """By how much log BLEU-4 of a set of captions grows, to first order, with one of these
        in place of an average caption; times the number of captions.

        Args:
            sums, captions: of the set. Where nothing matched yet, half an n-gram is assumed.
        """
        gain = 0.0
        for own, all_own, match, total in zip(
            self.matches, self.total, sums.matches, sums.total, strict=True
        ):
            gain += own / max(match, 0.5) - all_own / max(total, 0.5)
        gain /= len(_ORDERS)
        if 0 < sums.length < sums.reference:
            gain += (self.length * sums.reference / sums.length - self.reference) / sums.length
        return gain * captions


NOTHING = Counts((0.0,) * 4, (0.0,) * 4, 0.0, 0.0)


class Truth:
    """How much of what a caption says people say of the photo, too: the share of its words that are
    in one of the photo's captions, each word w weighing ``log(photos / photos whose captions have
    w)``, as in CIDEr (Vedantam et al., CVPR 2015), so that it is nouns that count.

    Args:
        captions: of each photo.
    """

    def __init__(self, captions: Sequence[Sequence[Tokens]]) -> None:
        self._said = [frozenset(token for one in some for token in one) for some in captions]
        photos = Counter(token for said in self._said for token in said)
        self._weights = {token: math.log(len(captions) / n) for token, n in photos.items()}
        self._most = math.log(len(captions))  # of a word that nobody says

    def share(self, photo: int, tokens: Tokens) -> float:
        """0..1, of a caption of a photo; 1 where nothing is said that weighs."""
        weights = [self._weights.get(token, self._most) for token in tokens]
        true = [w for w, token in zip(weights, tokens, strict=True) if token in self._said[photo]]
        return sum(true) / sum(weights) if sum(weights) else 1.0


class References:
    """The reference captions of one photo, against which n-grams are counted."""

    def __init__(self, references: Sequence[Tokens]) -> None:
        self._lengths = [len(reference) for reference in references]
        self._most: list[Counter[tuple[int, ...]]] = []
        for order in _ORDERS:
            most: Counter[tuple[int, ...]] = Counter()
            for reference in references:
                most |= ngrams(reference, order)
            self._most.append(most)

    def count(self, tokens: Tokens) -> Counts:
        """Of a caption: an n-gram matches at most as often as it occurs in the reference that has
        it most often."""
        own = [ngrams(tokens, order) for order in _ORDERS]
        nearest = min(self._lengths, key=lambda length: (abs(length - len(tokens)), length))
        return Counts(
            tuple(float((a & b).total()) for a, b in zip(own, self._most, strict=True)),
            tuple(max(1.0, float(a.total())) for a in own),
            float(len(tokens)),
            float(nearest),
        )
