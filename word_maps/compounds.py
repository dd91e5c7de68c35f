"""Words side by side: a compound is what its last word is.

In "bed room" the bed only says which room, and in "male tennis player" there is one person; but "a
bus stops" is a bus, and "a man bikes" rides one that the table's plural does not name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from word_maps.context import (
    ADJECTIVES,
    DETERMINERS,
    ENDS_A_NOUN,
    IN_FRONT,
    ONE,
    Sentence,
    word_set,
)
from word_maps.rules import DEEDS

ANY = "*"
"""The table's mark of any word with a category in front: ``* stop``."""

_PERSON = "person"
_MANY = word_set("people men women children folk folks geese mice cattle oxen calves wives knives")
_ONE_IN_S = word_set("bus minibus trolleybus omnibus microbus ibis mans womans childs")
_SAYS = word_set(
    "stops docks parks washes boxes prints treats signs calls matches houses stores hugs drops"
    " practices places tracks numbers stands walks naps flies hides nests lifts shows races seats"
    " launches shelters trails showers courts pads"
)
"""Plurals of compounds that are more often a verb behind one thing: "a bus stops"."""
_AFTER_VERBS = (
    ENDS_A_NOUN | DETERMINERS | word_set("here there when while before after")
) - word_set("is are was were has have had that which of and or with")
_EITHER = word_set("the his her its their my our your")
_VERBS_AND_PLACES = word_set(
    "stop dock park wash box print treat sign call match house store shop mask pool place key case"
    " service school practice team track lock seat number trail"
)
_DONE_BY_MANY = word_set(
    "bike bicycle skateboard snowboard surfboard wakeboard kayak canoe ski bowl duck train kite"
    " boat parasail board bat cook judge guard model"
    " crowd guide host escort pilot man"
)
_DONE_BY_ALL = word_set("nurses sinks bears ducks")
_DONE_BY_ANIMALS = word_set("bats skateboards snowboards spoons")
_ANIMALS = word_set("bird cat dog horse sheep cow elephant bear zebra giraffe")
_ROOMS = word_set(
    "room rooms bedroom bedrooms bathroom bathrooms restroom restrooms restaurant office offices"
    " shop shops store stores market markets clinic school license"
)
"""What is called after an owner who is not there: "a dentist's office"."""
_MADE_FOR = word_set("kids childrens mens womens ladies")
_PARTS = word_set("eye eyes tail tails claw claws collar collars tag tags bell bells shoe shoes")
_ANYBODY = word_set(
    "man men woman women boy boys girl girls child children kid kids person people lady ladies guy"
    " guys gentleman baby babies couple crowd family"
)
_KINDS = word_set(
    "male female adult teen teenage young newborn infant toddler baby twin human youth elder fellow"
    " guest member expert amateur child junior"
)
_WHOSE = word_set(
    "baby child toddler infant kid human guest passenger commuter tourist visitor dentist barber"
    " teacher student doctor family crew adult youth pirate cowboy captain king queen santa guard"
    " emperor hunter farmer soldier sailor"
)
_TITLES = word_set("miss mr mrs ms mister dr sir hello")
_NONE = word_set("no without")
_OF_NONE = ADJECTIVES | word_set("a an any other others visible")
_LIKE = word_set("shaped themed flavored scented")
_LOOKS = word_set("shaped dressed dresses dressing disguised decorated designed painted")
_SEEMS = (("that", "looks"), ("that", "look"), ("which", "looks"), ("which", "look"))
_SHAPES = word_set("shape form likeness")
_AND = word_set("and or &")


@dataclass(frozen=True)
class Match:
    """Words of a caption, ``words[start:stop]``, and the category they name there."""

    start: int
    stop: int
    name: str


def heads(
    sentence: Sentence, matches: Sequence[Match], forms: Mapping[str, str]
) -> Iterator[Match]:
    """The matches without those that only say of what kind the next word is.

    Args:
        matches: of a caption, from left to right.
        forms: those of the table, for its entries with :data:`ANY`.
    """
    dropped = set[int]()
    earlier, absent = None, False
    for i, match in enumerate(matches):
        absent = _is_absent(sentence, match) or (absent and _is_or(sentence, earlier, match))
        if absent or _is_a_name(sentence, match) or _is_likeness(sentence, match, earlier):
            dropped.add(i)
        earlier = match
    for i, match in enumerate(matches):
        follower = matches[i + 1] if i + 1 < len(matches) else None
        if i in dropped or match.stop >= sentence.clause(match.start):
            continue
        if follower is not None and follower.start == match.stop:
            if not sentence.owners[match.stop - 1] or _is_for_some(sentence, match):
                dropped |= {i + place for place in _weaker(sentence, match, follower)}
        elif f"{ANY} {sentence.words[match.stop]}" in forms and _says_which(sentence, match):
            dropped.add(i)
    return (match for i, match in enumerate(matches) if i not in dropped)


def _is_a_name(sentence: Sentence, match: Match) -> bool:
    """Whether a title stands in front of what is nobody: "Miss Kitty"."""
    title = match.start > 0 and sentence.words[match.start - 1] in _TITLES
    return title and match.name != _PERSON


def _is_absent(sentence: Sentence, match: Match) -> bool:
    """Whether the caption says that there is none: "no other people", "without a helmet", "free of
    cars"."""
    end = match.start
    while end and sentence.words[end - 1] in _OF_NONE:
        end -= 1
    words = sentence.words[:end]
    return words[-1:] != () and (words[-1] in _NONE or words[-2:] == ("free", "of"))


def _is_or(sentence: Sentence, earlier: Match | None, match: Match) -> bool:
    """Whether the two are alternatives: "cars or other people"."""
    between = sentence.words[earlier.stop : match.start] if earlier else ()
    return between[:1] in (("or",), ("nor",)) and set(between[1:]) <= _OF_NONE


def _is_likeness(sentence: Sentence, match: Match, earlier: Match | None) -> bool:
    """Whether the words only say what something looks like: "shaped like a train", "dressed up as a
    cow", "in the shape of a cat", "a vase that looks like a bird". Whoever is dressed as a clown is
    somebody, but has mostly been named before.

    Args:
        earlier: the match in front of it.
    """
    end = match.start
    while end and sentence.words[end - 1] in IN_FRONT:
        end -= 1
    if not end or sentence.clause(end - 1) < match.stop:
        return False
    if earlier is None and match.name == _PERSON:
        return False
    words = sentence.words[:end]
    if words[-1] == "of":
        return words[-2:-1] != () and words[-2] in _SHAPES
    if words[-1] not in ("like", "as"):
        return False
    said = words[:-2] if words[-2:-1] == ("up",) else words[:-1]
    if said[-2:] in _SEEMS:
        return earlier is not None and earlier.stop == len(said) - 2 and earlier.name != match.name
    return said[-1:] != () and (said[-1] in _LOOKS or said[-2:] == ("to", "look"))


def _is_for_some(sentence: Sentence, match: Match) -> bool:
    """Whether people are named for whom something is made: "a kids bike", "women's tennis shoes",
    but not "the women's umbrellas"."""
    word, owner = sentence.words[match.stop - 1], sentence.owners[match.stop - 1]
    if not (word in _MADE_FOR or (owner and word in _MANY)):
        return False
    determiner = sentence.place(match.start, match.stop).determiner
    return determiner in ONE or (not determiner and (owner or word not in ("kids", "ladies")))


def is_owned_part(sentence: Sentence, start: int, stop: int) -> bool:
    """Whether the words are a part and its owner, where without the possessive they would be a
    compound: "a cat's eyes", "a dog's collar"; but not a "bull's eye"."""
    owned = stop - start > 1 and sentence.owners[stop - 2]
    return owned and sentence.words[stop - 1] in _PARTS and sentence.words[start] != "bull"


def is_plural(sentence: Sentence, match: Match) -> bool:
    """Whether the words are more than one thing."""
    word = sentence.words[match.stop - 1].split()[-1]
    in_s = word.endswith("s") and not word.endswith("ss") and word not in _ONE_IN_S
    return word in _MANY or word.endswith("men") or in_s


def _is_one(sentence: Sentence, match: Match) -> bool:
    return sentence.place(match.start, match.stop).determiner in ONE


def is_clause(sentence: Sentence, start: int, stop: int) -> bool:
    """Whether the last of the words is a verb: "a bus stops", "the bus stops at a light", but not
    "bus stops", "three bus stops"."""
    if sentence.words[stop - 1] not in _SAYS or stop - start < 2:
        return False
    if is_plural(sentence, Match(start, stop - 1, "")):
        return False
    article = _article(sentence.words[:start])
    if article in ONE:
        return True
    place = sentence.place(start, stop)
    whole = not place.next and [*place.before] == ["the"]  # "the boat stops", and nothing else
    return article in _EITHER and (whole or place.next in _AFTER_VERBS)


def _article(before: Sequence[str]) -> str:
    """The article of a noun with any adjectives ("a fluffy black and white"), or an empty text."""
    for word in before[:-7:-1]:
        if word in DETERMINERS or word == "every":
            return word
        if (word in ENDS_A_NOUN and word != "and") or word.endswith("ing"):
            return ""
    return ""


def _says_which(sentence: Sentence, match: Match) -> bool:
    """Whether a match in front of a word with :data:`ANY` only says which: "bed room", "kids menu",
    "a men's room", but not "a bus stops", "people park", "a man's hat"."""
    head = sentence.words[match.stop]
    if sentence.owners[match.stop - 1]:
        return head in _ROOMS or is_plural(sentence, match)
    if is_clause(sentence, match.start, match.stop + 1):
        return False
    behind = sentence.words[match.stop + 1 : match.stop + 2]
    if head in _LIKE and behind and behind[0] in word_set("like as in into by"):
        return False  # "a kite shaped like a fish"
    if match.name != _PERSON:
        return not is_plural(sentence, match)
    if is_plural(sentence, match):
        return head not in _VERBS_AND_PLACES
    return head.removesuffix("s") not in _VERBS_AND_PLACES or head in _VERBS_AND_PLACES


def _weaker(sentence: Sentence, first: Match, second: Match) -> tuple[int, ...]:
    """Which of two neighbours names nothing: (0,), (1,) or neither."""
    one = " ".join(sentence.words[first.start : first.stop])
    two = " ".join(sentence.words[second.start : second.stop])
    if one.split()[-1] == two:
        return ()
    if _is_for_some(sentence, first):
        return (0,)
    behind = sentence.words[second.stop : second.stop + 1]
    listed = bool(behind) and behind[0] in _AND and not sentence.ends[second.stop - 1]
    if is_plural(sentence, first):
        if first.name != _PERSON:
            return ()
        if two in _DONE_BY_MANY and not _is_one(sentence, first):
            return (1,)  # "people bowl"
        kinds = one in _ANYBODY and two not in _ANYBODY and is_plural(sentence, second)
        return (0,) if kinds and second.name == _PERSON and not listed else ()  # "women skiers"
    does = first.name == _PERSON and (one not in _WHOSE or _is_one(sentence, first))
    does |= first.name in _ANIMALS and two in _DONE_BY_ANIMALS
    if two in DEEDS and (does or two in _DONE_BY_ALL):
        return (1,)  # "a man bikes", "a dog nurses puppies", but "two baby bottles"
    if one in _KINDS or (first.name == second.name != _PERSON):
        return (0,)  # "a male surfer", "a greyhound dog"
    if listed:
        return ()  #: "a man woman and child", "a knife fork and spoon"
    if second.name == _PERSON:
        if first.name == _PERSON and one not in _ANYBODY:
            return (0,)  # "a hippie girl", "a cowboy clown"
        return () if two in _ANYBODY else (0,)  # "a woman surfer", "a race car driver"
    if first.name == _PERSON:
        return (0,) if one in _WHOSE else ()  # "a baby chair", but "a woman umbrella"
    return (0,)  # "a picnic table bench"
