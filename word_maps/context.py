"""Words that name a category only in some places of a sentence, and the rules that tell.

"orange" is the fruit where it stands as a noun, and a colour

- before anything but the end of the sentence, a comma, or a word no noun begins with ("an orange
  on a plate", "an orange and an apple"; but "an orange cat", "orange flowers");
- beside another colour ("red and orange", "orange and white stripes", "bright orange");
- behind what only a colour follows ("in orange", "wearing orange", "painted orange", "is orange").

The plural is always the fruit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _words(
    "red yellow green blue purple violet pink brown black white gray grey gold golden silver tan "
    "beige cream teal turquoise maroon navy"
)
_SHADES = _words("bright dark light deep pale vivid neon burnt brilliant solid")
_BEFORE_COLOURS = _words(
    "in wearing wears painted is are was were be turned dressed colored coloured all"
)
_JOINS = _words("and or &")
_ENDS_A_NOUN = _words(
    "on in at with without of by near beside besides next under over above below behind beneath "
    "between among inside into onto from to for against around across off atop along upon and or "
    "but that which while as is are was were has have had sits sit sitting lies lying laying lays "
    "rests resting stands standing hangs hanging placed cut sliced peeled"
)


def _orange_is_a_fruit(before: Sequence[str], after: Sequence[str]) -> bool:
    last = before[-1] if before else ""
    if last in _SHADES | _BEFORE_COLOURS | COLOURS:
        return False
    if last in _JOINS and len(before) > 1 and before[-2] in COLOURS:
        return False
    if not after or not after[0]:
        return True
    if after[0] in _JOINS:
        return not (len(after) > 1 and after[1] in COLOURS)
    return after[0] in _ENDS_A_NOUN


RULES: dict[str, Callable[[Sequence[str], Sequence[str]], bool]] = {"orange": _orange_is_a_fruit}
"""``RULES[word](before, after)``: whether that word, between those, names its category."""
