"""How vqa.pytorch splits questions into words."""

from __future__ import annotations

import re
from collections.abc import Callable

_DROPPED = re.compile(r"[?!'\"$:@(),.;]")
_SEPARATORS = re.compile(r"[-/]")
_MARKS = re.compile(r"([-.\"',:? !$#@~()*&^%;\[\]/\\+<>\n=])")


def mcb(question: str) -> list[str]:
    """Lower case, most punctuation removed, ``-`` and ``/`` as spaces, split at spaces (the
    preprocessing of Fukui et al., 2016)."""
    bare = _SEPARATORS.sub(" ", _DROPPED.sub("", question.lower()))
    return [word for word in bare.split(" ") if word]


def nltk(question: str) -> list[str]:
    """Lower case, split by nltk, which keeps punctuation marks as words."""
    from nltk.tokenize import word_tokenize

    # Without a model of sentences, which nltk would have to download: a question is one.
    return list(word_tokenize(question.lower(), preserve_line=True))


def naive(question: str) -> list[str]:
    """Split at punctuation marks, which are words too, and at spaces; capitals stay."""
    return [word for word in _MARKS.split(question) if word not in ("", " ", "\n")]


TOKENIZERS: dict[str, Callable[[str], list[str]]] = {"mcb": mcb, "nltk": nltk, "naive": naive}
"""By the name that the option ``nlp`` has."""
