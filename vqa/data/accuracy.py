"""Accuracy of answers against what several people answered, as the official VQA evaluation has it.

An answer counts as right where three of the others gave it, and in thirds below (Antol et al.,
ICCV 2015). Which answers are the same is decided after a normalisation whose quirks are kept, so
that figures can be compared with published ones; ``oracles/vqa_eval`` holds the script's output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PUNCTUATION = ';/[]"{}()=+\\_->@<`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32  # that the official script removes
_ARTICLES = {"a", "an", "the"}
_DIGITS = "none zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(max(0, i - 1)) for i, word in enumerate(_DIGITS.split())}

# Written without one of their apostrophes, these are mended; others ("its", "hell") may be words.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't
mightn't've might've mustn't must've needn't not've o'clock oughtn't shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _without_an_apostrophe(word: str) -> list[str]:
    places = [i for i, letter in enumerate(word) if letter == "'"]
    return [word[:i] + word[i + 1 :] for i in places]


_MENDED = {wrong: word for word in _CONTRACTIONS.split() for wrong in _without_an_apostrophe(word)}
_MENDED |= {"somebody'd": "somebodyd"}  # sic


def normalised(answer: str) -> str:
    """An answer without punctuation, articles and capitals; numbers in digits."""
    return _without_articles(_without_punctuation(answer))


def accuracy(answer: str, given: Sequence[str]) -> float:
    """Mean over the people of min(1, how many of the *others* gave this answer / 3); 0..1.

    Args:
        answer: of the model.
        given: what people answered: ten answers in the official files. One alone has no others:
            then the answer is right where it is the same.

    Answers are normalised unless all people gave the very same one.

    Raises:
        ValueError: nobody answered.
    """
    if not given:
        raise ValueError("no answer to compare with")
    answer, theirs = _spaced(answer), [_spaced(one) for one in given]
    if len(set(theirs)) > 1:
        answer, theirs = normalised(answer), [normalised(one) for one in theirs]
    same = [one == answer for one in theirs]
    if len(same) == 1:
        return float(same[0])
    return sum(min(1.0, (sum(same) - own) / 3) for own in same) / len(same)


def _spaced(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(text: str) -> str:
    found = text
    in_number = _DIGIT_COMMA_DIGIT.search(text) is not None
    for mark in _PUNCTUATION:
        if in_number or f"{mark} " in text or f" {mark}" in text:
            found = found.replace(mark, "")
        else:
            found = found.replace(mark, " ")
    return _PERIOD.sub("", found, count=_MOST_PERIODS)


def _without_articles(text: str) -> str:
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(_MENDED.get(word, word) for word in words if word not in _ARTICLES)
