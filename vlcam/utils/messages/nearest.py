"""What a name that is not known may have meant: every refusal of a name says it in the same way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches

_BETWEEN_WORDS = re.compile(r"[-_. ]")
_NEAR = 3
_AS_NEAR = 0.12  # of likeness: what is so much less like a name than another is not what was meant
_LISTED = 24  # names: more than that are no help
_SHORTEST = 3  # letters of a part of a name


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The known names of which that one is a whole word, then those that are most like it, at most
    three; or those it is a part of. Capital letters and dashes in front do not count."""
    folded = {_plain(one): one for one in known}
    wanted = _plain(name)
    near = get_close_matches(wanted, folded, n=_NEAR)
    words = [one for one in folded if wanted in _BETWEEN_WORDS.split(one)]
    near = [one for one in near if _likeness(wanted, one) > _likeness(wanted, near[0]) - _AS_NEAR]
    near = list(dict.fromkeys([*words, *near]))[:_NEAR]
    if not near and len(wanted) >= _SHORTEST:
        near = [one for one in folded if wanted in one][:_NEAR]
    return [folded[one] for one in near]


def _plain(name: str) -> str:
    return name.casefold().lstrip("-")


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, other, one).ratio()


def hint(name: object, known: Sequence[str], examples: Sequence[str] = ()) -> str:
    """``did you mean a or b?``; where nothing is near, what is known.

    Args:
        name: what was given in the place of one of the known.
        examples: what is named of too many to be listed; none: the first of them.
    """
    near = nearest(str(name), known)
    if near:
        return f"did you mean {' or '.join(near)}?"
    if len(known) <= _LISTED:
        return f"known: {', '.join(known) or 'none'}"
    return f"there are {len(known)}, among them {', '.join(examples or known[:_NEAR])}"


def unknown(kind: str, name: object, known: Iterable[str], examples: Sequence[str] = ()) -> str:
    """``unknown method 'grad-can'; did you mean grad-cam?``, with :func:`hint`'s arguments.

    Args:
        kind: of the things that are known: "method".
    """
    return f"unknown {kind} {name!r}; {hint(name, list(known), examples)}"
