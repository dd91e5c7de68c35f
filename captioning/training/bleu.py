"""BLEU-1..4 of a set of captions (nltk's ``corpus_bleu``)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

Words = Sequence[str]


def bleu(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> tuple[float, ...]:
    """Corpus BLEU-1, -2, -3 and -4 of one caption an image against all of the image's references.

    Captions and references are words as :func:`vlcam.formats.vocabulary.words_of` splits them:
    lower case, no punctuation. No smoothing. Raises ValueError where the lengths differ or are
    zero.
    """
    from nltk.translate.bleu_score import corpus_bleu

    if len(captions) != len(references) or not captions:
        raise ValueError(f"BLEU: {len(captions)} captions for {len(references)} images")
    with warnings.catch_warnings():  # no common 4-gram: the score is zero, which is all there is
        warnings.filterwarnings("ignore", message="[^a-z]*The hypothesis contains 0 counts")
        scores = corpus_bleu(references, captions, weights=[[1 / n] * n for n in range(1, 5)])
    return tuple(float(score) for score in scores)
