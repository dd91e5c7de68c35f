"""What a word of several meanings names, by what stands around it.

Each rule is a function of one place of a caption and returns the category that the word names
there, or None. Its docstring says what it goes by. By itself, without a caption, a word names what
its rule returns for an empty place. Which word has which rule is written in ``rules.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from word_maps.context import (
    ADJECTIVES,
    COLOURS,
    ONE,
    SHADES,
    Place,
    is_noun,
    is_verb,
    word_set,
)

Rule = Callable[[Place], str | None]

_BEFORE_COLOURS = word_set(
    "in wearing wears painted is are was were be turned dressed colored coloured all"
)
_JOINS = word_set("and or &")
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
_ONES = word_set("his her its their my your our it them him")
_HANDLED = word_set(
    "hit hits hitting throw throws throwing thrown catch catches catching kick kicks kicking toss"
    " tosses tossing dribble dribbles dribbling bounce bounces bouncing pass passes passing hold"
    " holds holding carry carries carrying grab grabs grabbing swing swings swinging shoot shoots"
    " shooting dunk dunks dunking spike spikes spiking at with"
)
_NOUNS_IN_ING = word_set(
    "building ring wing clothing ceiling painting railing awning wedding evening morning spring"
    " string king thing"
)
FOOD = word_set(
    "sandwich sandwiches salad rice plate plates broccoli fried grilled meat cheese bread sauce"
    " soup vegetables vegetable potatoes dinner meal dish food fries pizza pasta gravy thanksgiving"
    " cooked roast roasted carving oven pan bowl lunch bacon ham eat eating eats slices sliced"
    " cranberry stuffing wrap club burger noodles beans pepper peppers onions lettuce tomato"
    " tomatoes legs wings nuggets breast"
)
_FOOD = FOOD | word_set(
    "fruit fruits carrots carrot pastries donut donuts doughnut doughnuts cake oranges apple apples"
    " banana bananas cauliflower peas dessert snack snacks sauces"
)
_SURELY_PEOPLE = word_set(
    "man men woman women boy boys girl girls person people lady ladies guy guys gentleman kid kids"
    " child children farmer zookeeper trainer rider riders"
)


def unless_done(name: str) -> Rule:
    """The thing, but not right behind a person who does it: "a boy skateboards down a street"."""
    return lambda place: None if place.last in _SOMEBODY and not place.owned else name


def unless_verb(name: str) -> Rule:
    """The thing, but not where the word is a verb: "to train", "cups his hands", "he ducks". What
    somebody does right behind "a man" is seen by ``compounds.py``."""

    def rule(place: Place) -> str | None:
        does = is_verb(place) and (place.last == "to" or place.next in _ONES)
        return None if does or place.last in word_set("he she who they") else name

    return rule


def orange(place: Place) -> str | None:
    """The fruit where it stands as a noun, and a colour

    - before anything but the end of the sentence, a comma, or a word no noun begins with ("an
      orange on a plate", "an orange and an apple"; but "an orange cat", "orange flowers");
    - beside another colour ("red and orange", "orange and white stripes", "bright orange");
    - behind what only a colour follows ("in orange", "wearing orange", "painted orange").

    The plural is always the fruit.
    """
    if place.last in SHADES | _BEFORE_COLOURS | COLOURS:
        return None
    if place.last in _JOINS and len(place.before) > 1 and place.before[-2] in COLOURS:
        return None
    if place.next in _JOINS and len(place.after) > 1 and place.after[1] in COLOURS:
        return None
    if [*place.after[:2]] in (["in", "color"], ["in", "colour"]):
        return None
    return "orange" if is_noun(place) else None


def mouse(place: Place) -> str | None:
    """The computer's, unless the caption speaks of what the animal does or is: "a cat plays with a
    mouse", "a mouse eating cheese", "a stuffed mouse"."""
    animal = word_set("cat cats kitten kittens cheese rat rats trap tail animal rodent eating eats")
    kept = word_set(
        "keyboard computer laptop desk monitor pad keyboards computers laptops wireless"
    )
    if place.last in word_set("stuffed toy field pet dead") or (
        place.others & animal and not place.others & kept
    ):
        return None
    return "mouse"


def glass(place: Place) -> str | None:
    """A wine glass where the caption speaks of wine or champagne and the word is a noun, not of
    something else ("a glass of water"), and not worn. By itself it may be any glass."""
    wines = word_set("wine wines champagne")
    if place.next in ("filled", "full"):
        return "wine glass" if wines & set(place.after[:5]) else None
    if place.next == "of" or not is_noun(place):  # "glass of wine" has an entry of its own
        return None
    if place.last in word_set("wearing wears his her eye reading sun stained broken"):
        return None
    return "wine glass" if place.others & wines else None


def tie(place: Place) -> str | None:
    """What is worn, unless it is the verb ("ties his shoe", "to tie") or a game's end ("ended in a
    tie")."""
    ended = word_set("end ends ended ending finish finishes finished result results resulted")
    others = word_set("game score up dyed event events affair gala party dinner")
    if is_verb(place) or place.next in others or ended & set(place.before):
        return None
    return (
        None
        if place.last in word_set("railroad railway train track zip twist hair cable")
        else "tie"
    )


def bat(place: Place) -> str | None:
    """The baseball bat, unless somebody is "at bat" or "up to bat", bats a ball, or the caption
    speaks of the animal (flying, caves, wings, Halloween)."""
    if place.last == "at" or is_verb(place):
        return None
    games = word_set("baseball ball batter player hitter swing swings swinging swung game field")
    if place.next in word_set("flying flies fly") and not place.others & games:
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
    return _ridden(place)


def longboard(place: Place) -> str | None:
    """A surfboard, unless the caption has more words of another sport."""
    return _ridden(place) or "surfboard"


def _ridden(place: Place) -> str | None:
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
    """Who pitches; not a jug, of water or beside a bowl."""
    jugs = word_set(
        "water beer milk juice lemonade tea wine flowers flower vase vases bowl bowls cup cups"
        " glass glasses pour pours pouring ceramic silver basin wash kitchen tray shelf"
    )
    games = word_set("baseball ball mound throw throws throwing batter catcher pitch game team")
    if place.next == "of" or place.last in jugs:
        return None
    return None if place.others & jugs and not place.others & games else "person"


def relative(place: Place) -> str | None:
    """A person ("mother", "baby", "male", "family"), unless the caption names an animal and nobody
    who is surely a person: "a mother elephant and her baby"."""
    animals = place.others & ANIMALS
    return None if animals and not place.others & _SURELY_PEOPLE else "person"


def attribute(place: Place) -> str | None:
    """A person where it is a noun ("an adult", "the patient and her doctor"), not where it says of
    what kind something is ("adult beverages", "a patient horse", "male and female signs")."""
    follows = place.next
    if is_verb(place):
        return None
    verb = follows.endswith(("ing", "ed")) and follows not in _NOUNS_IN_ING
    done = follows.endswith("s") and place.determiner in ONE | {"the"}  # "the adult holds"
    alone = is_noun(place) or verb or done
    return relative(place) if alone else None


def young(name: str) -> Rule:
    """The young of what the caption's animals are ("an elephant and its calf"); not of a leg."""
    larger = ("elephant", "giraffe", "zebra")
    others = word_set("leg legs tattoo muscle hippo hippos rhino rhinos whale whales seal seals")

    def rule(place: Place) -> str | None:
        parents = [parent for parent in larger if place.others & {parent, parent + "s"}]
        return parents[0] if parents else None if place.others & others else name

    return rule


def bike(place: Place) -> str | None:
    """A bicycle, unless the caption speaks of motors; not what somebody does ("she bikes")."""
    motors = word_set(
        "motorcycle motorcycles motorcyclist motorcyclists motocross motor motorized harley engine"
    )
    name = unless_done("bicycle")(place)
    return "motorcycle" if name and place.others & motors else name


def sport(place: Place) -> str | None:
    """The ball, where there is one ("a baseball", "red basketball") or somebody does to it what one
    does to a ball ("throwing football"); the game otherwise ("playing baseball", "a game of
    football"). The plural is always the ball."""
    if not place.before or place.determiner or place.last in _HANDLED | ADJECTIVES:
        return "sports ball"
    return None


def ball(place: Place) -> str | None:
    """What one plays with; not "a ball of yarn"."""
    return None if place.next == "of" else "sports ball"


def ski(place: Place) -> str | None:
    """One of a pair ("on one ski"); not "to ski", "a ski slope"."""
    if place.before and not place.determiner and place.last not in ("on", "wearing"):
        return None
    return "skis" if is_noun(place) and not is_verb(place) else None


def skies(place: Place) -> str | None:
    """Skis, so misspelt: "on skies", "a pair of skies"; clouds otherwise."""
    worn = word_set("on riding rides wearing wears his her their holding carrying snow")
    pair = place.last == "of" and place.before[-2:-1] and place.before[-2] in word_set("pair set")
    return "skis" if pair or place.last in worn else None


def cleaner(place: Place) -> str | None:
    """Who cleans; not a vacuum cleaner, nor the dry cleaners."""
    return (
        None if place.last in word_set("vacuum dry pipe toilet carpet oven pool of") else "person"
    )


def cook(place: Place) -> str | None:
    """Who cooks, behind an article ("a cook", "two cooks"); not "a man cooks", "to cook"."""
    return "person" if not place.before or (place.determiner and not is_verb(place)) else None


def model(place: Place) -> str | None:
    """Who shows clothes; not a model of something, nor a new model of a car."""
    things = word_set(
        "car cars truck trucks train trains plane planes airplane airplanes jet ship ships boat"
        " motorcycle motorcycles bike year late early latest new older newer older old miniature"
        " toy scale railroad phone phones computer laptop toilet oven stove kitchen home ship"
    )
    if is_verb(place) or place.next == "of" or place.others & things:
        return None
    return "person"


def notebook(place: Place) -> str | None:
    """A computer where the caption speaks of one, a book of paper otherwise."""
    computing = word_set(
        "computer computers laptop laptops keyboard mouse screen desk monitor typing usb internet"
        " wireless desktop"
    )
    return "laptop" if place.others & computing or not place.before else "book"


def keyboard(place: Place) -> str | None:
    """The computer's; not the musician's."""
    music = word_set(
        "piano guitar guitars band music musical musician musicians sings singing singer drums"
        " drum drummer synthesizer stage microphone electronic yamaha"
    )
    return None if place.others & music else "keyboard"


def seat(place: Place) -> str | None:
    """A chair, in a hall or a train; not the seat of a toilet, a cycle, a car or a swing."""
    others = word_set(
        "toilet toilette toliet lid motorcycle motorcycles bike bikes bicycle scooter"
        " car cars truck vehicle van jeep suv taxi driver drivers passenger passengers back front"
        " boat horse cart saddle swing baby bouncy elephant"
    )
    if not is_noun(place) or place.others & others:
        return None
    return "chair"


def container(place: Place) -> str | None:
    """A bowl where the caption speaks of food: COCO's annotators draw a lunch box as one."""
    return "bowl" if not place.before or place.others & _FOOD else None


def street_light(place: Place) -> str | None:
    """A traffic light, which captions of COCO mostly mean by it; not a lamp in the dark."""
    lamps = word_set("lamp lamps dark night evening dusk glow glowing bench park")
    return None if place.others & lamps else "traffic light"


def shepherd(place: Place) -> str | None:
    """A dog of that breed ("a German shepherd and a pug"), or who keeps sheep."""
    dogs = word_set("dog dogs puppy leash german australian belgian")
    return "dog" if place.last in dogs or place.next in dogs else "person"


def unless(name: str, cues: Iterable[str]) -> Rule:
    """What the word names, unless the caption has a word that tells of its other meaning."""
    others = frozenset(cues)
    return lambda place: None if place.others & others or is_verb(place) else name


def only(name: str, cues: Iterable[str]) -> Rule:
    """What the word names where the caption has a word that tells of that meaning."""
    wanted = frozenset(cues)
    return lambda place: name if place.others & wanted and not is_verb(place) else None
