"""Words that name a category only in some places of a sentence, and the rules that decide.

Each rule is a function of one place of a caption and returns the category that the word names
there, or None. Its docstring says what it goes by. By itself, without a caption, a word names what
its rule returns for an empty place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a word stands in a caption.

    Attributes:
        before: all words in front of it.
        after: the words behind it, up to a punctuation mark.
        others: all other words of the caption.
        owned: whether the word right in front is a possessive ("a man's").
    """

    before: Sequence[str] = ()
    after: Sequence[str] = ()
    others: frozenset[str] = frozenset()
    owned: bool = False

    @property
    def last(self) -> str:
        """The word right in front, or an empty text."""
        return self.before[-1] if self.before else ""

    @property
    def next(self) -> str:
        """The word right behind, or an empty text."""
        return self.after[0] if self.after else ""


Rule = Callable[[Place], str | None]


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


COLOURS = word_set(
    "red yellow green blue purple violet pink brown black white gray grey gold golden silver tan "
    "beige cream teal turquoise maroon navy"
)
_SHADES = word_set("bright dark light deep pale vivid neon burnt brilliant solid")
_BEFORE_COLOURS = word_set(
    "in wearing wears painted is are was were be turned dressed colored coloured all"
)
_JOINS = word_set("and or &")
_ENDS_A_NOUN = word_set(
    "on in at with without of by near beside besides next under over above below behind beneath "
    "between among inside into onto from to for against around across off atop along upon and or "
    "but that which while as is are was were has have had sits sit sitting lies lying laying lays "
    "rests resting stands standing hangs hanging placed cut sliced peeled"
)
_DETERMINERS = word_set(
    "a an the his her its their my your our this that these those some two three four five several"
    " many no one another each both"
)
_OBJECTS = _DETERMINERS | word_set("up down it them him")
ANIMALS = word_set(
    "animal animals bird birds cat cats dog dogs horse horses sheep cow cows cattle elephant"
    " elephants bear bears zebra zebras giraffe giraffes kitten kittens puppy puppies lamb lambs"
    " calf calves goat goats duck ducks goose geese swan swans lion lions tiger tigers monkey"
    " monkeys deer penguin penguins panda pandas pony ponies foal foals bull bulls ox oxen owl"
    " owls pigeon pigeons parrot parrots seagull seagulls polar grizzly rhino rhinos hippo hippos"
)
_SOMEBODY = word_set(
    "man woman boy girl person lady guy gentleman kid child teen teenager youth toddler he she who"
)
_BEFORE_VERBS = word_set("to will would can could may might must should not")
_SURELY_PEOPLE = word_set(
    "man men woman women boy boys girl girls person people lady ladies guy guys gentleman kid kids"
    " child children farmer zookeeper trainer rider riders"
)


def is_noun(place: Place) -> bool:
    """Nothing follows, or a word no noun begins with: "a remote on a table", no "remote beach"."""
    return not place.next or place.next in _ENDS_A_NOUN


def is_verb(place: Place) -> bool:
    """Behind "to", or with an object and no determiner in front: "to tie", "ties his shoe"."""
    if place.last == "to":
        return True
    return place.next in _OBJECTS and bool(place.before) and place.last not in _DETERMINERS


def unless_done(name: str) -> Rule:
    """The thing, but not right behind a person who does it: "a boy skateboards down a street"."""
    return lambda place: None if place.last in _SOMEBODY and not place.owned else name


def orange(place: Place) -> str | None:
    """The fruit where it stands as a noun, and a colour

    - before anything but the end of the sentence, a comma, or a word no noun begins with ("an
      orange on a plate", "an orange and an apple"; but "an orange cat", "orange flowers");
    - beside another colour ("red and orange", "orange and white stripes", "bright orange");
    - behind what only a colour follows ("in orange", "wearing orange", "painted orange").

    The plural is always the fruit.
    """
    if place.last in _SHADES | _BEFORE_COLOURS | COLOURS:
        return None
    if place.last in _JOINS and len(place.before) > 1 and place.before[-2] in COLOURS:
        return None
    if place.next in _JOINS and len(place.after) > 1 and place.after[1] in COLOURS:
        return None
    return "orange" if is_noun(place) else None


def mouse(place: Place) -> str | None:
    """The computer's, unless the caption speaks of what the animal does or is: "a cat plays with a
    mouse", "a mouse eating cheese", "a stuffed mouse"."""
    animal = word_set("cat cats kitten kittens cheese rat rats trap tail animal rodent eating eats")
    kept = word_set(
        "keyboard computer laptop desk monitor pad keyboards computers laptops wireless"
    )
    if place.last in word_set("stuffed toy field pet") or (
        place.others & animal and not place.others & kept
    ):
        return None
    return "mouse"


def glass(place: Place) -> str | None:
    """A wine glass where the caption speaks of wine or champagne and the word is a noun, not of
    something else ("a glass of water"), and not worn. By itself it may be any glass."""
    if place.next == "of" or not is_noun(place):  # "glass of wine" has an entry of its own
        return None
    if place.last in word_set("wearing wears his her eye reading sun stained broken"):
        return None
    return "wine glass" if place.others & word_set("wine wines champagne") else None


def tie(place: Place) -> str | None:
    """What is worn, unless it is the verb ("ties his shoe", "to tie") or a game's end ("ended in a
    tie")."""
    ended = word_set("end ends ended ending finish finishes finished result results resulted")
    if is_verb(place) or place.next in word_set("game score up") or ended & set(place.before):
        return None
    return (
        None
        if place.last in word_set("railroad railway train track zip twist hair cable")
        else "tie"
    )


def bat(place: Place) -> str | None:
    """The baseball bat, unless somebody is "at bat" or "up to bat", bats a ball, or the caption
    speaks of the animal (caves, wings, Halloween)."""
    if place.last == "at" or is_verb(place):
        return None
    return None if place.others & word_set("cave caves wings halloween vampire") else "baseball bat"


_BOARDS = {
    "surfboard": word_set(
        "surf surfs surfer surfers surfing wave waves ocean sea beach water surfboarder wetsuit"
        " shore surfboard surfboards paddle paddling paddler"
    ),
    "snowboard": word_set(
        "snow snowy slope slopes snowboarder snowboarders snowboarding snowboard snowboards ski"
        " skis skier skiers skiing"
    ),
    "skateboard": word_set(
        "skate skater skaters skating skateboarder skateboarders skateboarding skateboard"
        " skateboards ramp rail skatepark halfpipe sidewalk street steps stairs concrete pavement"
    ),
}


def board(place: Place) -> str | None:
    """The surfboard, snowboard or skateboard of which the caption has the most words ("waves",
    "slope", "ramp"); None where it has none, or as many of two; never "on board" or "to board"."""
    if place.last == "on" or is_verb(place) or not is_noun(place):
        return None
    counts = sorted((len(place.others & cues), name) for name, cues in _BOARDS.items())
    return counts[-1][1] if counts[-1][0] > counts[-2][0] else None


def remote(place: Place) -> str | None:
    """The remote control where it is a noun; not "a remote area"."""
    return "remote" if is_noun(place) else None


def plant(place: Place) -> str | None:
    """A potted plant, unless the caption is about what grows wild or is eaten and names no pot."""
    wild = word_set(
        "field fields forest grass grassy grazing bush bushes tree trees eating eats eat leaves"
        " desert jungle wild woods garden river lake pond zebra zebras giraffe giraffes elephant"
        " elephants vegetation weeds"
    )
    pots = word_set("pot pots potted vase vases planter planters indoor house hanging basket")
    if is_verb(place) or (place.others & wild and not place.others & pots):
        return None
    return "potted plant"


def bow(place: Place) -> str | None:
    """A bow tie where the caption speaks of a neck, a collar, a shirt or a suit, and not of hair,
    arrows or ships. By itself it may be any bow."""
    if place.others & word_set("hair arrow arrows boat ship violin gift present ribbon"):
        return None
    return "tie" if place.others & word_set("neck collar shirt suit tuxedo vest") else None


def sink(place: Place) -> str | None:
    """The basin; not "a boat may sink"."""
    return None if place.last in _BEFORE_VERBS else "sink"


def bed(place: Place) -> str | None:
    """What one sleeps in; not "a bed of flowers", "of lettuce" or "of a truck"."""
    return None if place.next == "of" else "bed"


def apple(place: Place) -> str | None:
    """The fruit; not the maker of computers and telephones."""
    made = word_set(
        "computer computers mac macs macbook macbooks imac imacs ipad ipads iphone iphones ipod"
        " ipods desktop desktops monitor monitors keyboard mouse phone phones tablet tablets watch"
        " device devices product products logo brand store tv"
    )
    return None if place.next in made else "apple"


def fork(place: Place) -> str | None:
    """What one eats with; not "a fork in the road"."""
    way = word_set("road path trail track tracks street river")
    return None if place.next == "in" and way & set(place.after[1:3]) else "fork"


def pitcher(place: Place) -> str | None:
    """Who pitches; not a pitcher of water."""
    return None if place.next == "of" or place.last in word_set("water glass beer") else "person"


def relative(place: Place) -> str | None:
    """A person ("mother", "baby", "male", "family"), unless the caption names an animal and nobody
    who is surely a person: "a mother elephant and her baby"."""
    animals = place.others & ANIMALS
    return None if animals and not place.others & _SURELY_PEOPLE else "person"


def _forms(rule: Rule, words: str) -> dict[str, Rule]:
    return dict.fromkeys(words.split(), rule)


RULES: Mapping[str, Rule] = {
    "orange": orange,
    **_forms(mouse, "mouse mice"),
    **_forms(glass, "glass glasses"),
    **_forms(tie, "tie ties"),
    **_forms(bat, "bat bats"),
    **_forms(board, "board boards"),
    **_forms(remote, "remote remotes"),
    **_forms(plant, "plant plants"),
    **_forms(bow, "bow bows"),
    **_forms(sink, "sink sinks"),
    **_forms(bed, "bed beds"),
    "apple": apple,
    "fork": fork,
    **{
        verb: unless_done(name)
        for verb, name in (
            ("skateboards", "skateboard"),
            ("snowboards", "snowboard"),
            ("skis", "skis"),
            ("bicycles", "bicycle"),
            ("bikes", "bicycle"),
            ("boats", "boat"),
            ("kites", "kite"),
        )
    },
    **_forms(pitcher, "pitcher pitchers"),
    **_forms(
        relative,
        "mother mothers father fathers baby babies adult adults male males female females family"
        " families parent parents mom moms mommy daddy dad sibling siblings couple couples twin"
        " twins infant infants",
    ),
}
"""The rule of each word, by each of its forms."""
