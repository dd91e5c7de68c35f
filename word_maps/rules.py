"""Which words have several meanings, and the rule (``senses.py``) that decides what each names."""

from __future__ import annotations

from collections.abc import Mapping

from word_maps import senses
from word_maps.context import word_set
from word_maps.senses import FOOD, Rule, only, unless


def _forms(rule: Rule, words: str) -> dict[str, Rule]:
    return {word.replace("_", " "): rule for word in words.split()}


_VERBS_TOO = {
    "person": (
        "man mans guide guides pilot pilots judge judges guard guards nurse nurses groom grooms"
        " captain captains witness witnesses partner partners mime mimes clown clowns escorts hosts"
        " recruits doctor doctors crowd crowds boss bosses vet vets"
    ),
    "bear": "bear bears",
    "bench": "bench benches",
    "bird": "duck ducks parrot parrots hawk hawks crow crows",
    "boat": "ship ships ferry ferries canoe kayak",
    "book": "book books",
    "bottle": "bottle bottles",
    "bowl": "bowl bowls",
    "bus": "bus",
    "cell phone": "phone phones telephone telephones",
    "clock": "clock clocks",
    "cup": "cup cups mug mugs",
    "dining table": "table tables",
    "dog": "hound hounds",
    "fork": "forks",
    "handbag": "tote totes",
    "sheep": "ram rams",
    "spoon": "spoon spoons",
    "train": "train trains",
    "truck": "truck trucks",
    "tv": "monitor monitors",
}
_SPORTS = (
    "baseball basketball football softball volleyball dodgeball kickball base_ball basket_ball"
    " foot_ball soft_ball volley_ball kick_ball rugby_football"
)
_ATTRIBUTES = (
    "adult male female teen twin adolescent veteran expert patient amateur criminal"
    " captive invalid suspect marine individual champion rival fellow youth elder"
    " official brunette host minister recruit escort senior_citizen juvenile"
)
_BIRDS = word_set(
    "farm coop pecking rooster roosters hen hens feathers yard barn barnyard chicks egg hatch"
    " flock walking walks standing stands bird birds crossing fence grass field dirt wild woods"
    " geese ducks turkeys chickens beak"
)
_PLAY = word_set(
    "cheers game baseball team teams soccer football stadium field player players crowd stands"
    " cheer cheering watch watching court tennis basketball hockey match sports fans jersey jerseys"
    " coach umpire referee"
)

_ROAD = word_set(
    "traffic street streets intersection crosswalk pedestrian pedestrians road cars car stop"
    " stopped truck bus corner"
)

RULES: Mapping[str, Rule] = {
    "orange": senses.orange,
    **_forms(senses.mouse, "mouse mice mouses"),
    **_forms(senses.glass, "glass glasses"),
    **_forms(senses.tie, "tie ties"),
    **_forms(senses.bat, "bat bats"),
    **_forms(senses.board, "board boards"),
    **_forms(senses.remote, "remote remotes"),
    **_forms(senses.plant, "plant plants"),
    **_forms(senses.bow, "bow bows"),
    **_forms(senses.sink, "sink sinks"),
    **_forms(senses.bed, "bed beds"),
    "apple": senses.apple,
    "fork": senses.fork,
    **_forms(senses.pitcher, "pitcher pitchers"),
    **_forms(senses.sport, _SPORTS),
    **_forms(senses.ball, "ball balls"),
    "ski": senses.ski,
    "skies": senses.skies,
    **_forms(
        unless(
            "train",
            word_set("luggage baggage suitcase suitcases shopping groceries"),
        ),
        "trolley trolleys",
    ),
    **_forms(senses.cleaner, "cleaner cleaners"),
    **_forms(senses.cook, "cook cooks"),
    **_forms(senses.model, "model models"),
    **_forms(senses.notebook, "notebook notebooks"),
    **_forms(senses.keyboard, "keyboard keyboards"),
    **_forms(senses.bike, "bike bikes"),
    **_forms(senses.young("cow"), "calf calves"),
    **_forms(senses.young("horse"), "foal foals"),
    **_forms(unless("car", word_set("truck semi tractor crew train engine lorry")), "cab cabs"),
    **_forms(
        unless(
            "person",
            word_set("cake pan bowl mixing flour pancake waffle fried mix whisk dough mixer"),
        ),
        "batter",
    ),
    **_forms(
        only("traffic light", _ROAD),
        "signal signals",
    ),
    **_forms(
        only("traffic light", _ROAD),
        "red_light red_lights green_light green_lights yellow_light yellow_lights",
    ),
    **_forms(
        only(
            "baseball glove",
            word_set(
                "baseball softball catcher pitcher batter umpire mound outfielder infielder fielder"
                " baseman shortstop mitt"
            ),
        ),
        "glove gloves",
    ),
    **_forms(senses.seat, "seat seats"),
    **_forms(senses.container, "container containers"),
    **_forms(senses.street_light, "street_light street_lights streetlight streetlights"),
    **_forms(senses.longboard, "longboard longboards long_board long_boards"),
    **_forms(senses.shepherd, "shepherd shepherds"),
    **_forms(unless("bird", FOOD), "turkey turkeys chickens"),
    "chicken": only("bird", _BIRDS),
    **_forms(
        only("bird", word_set("bird birds beak feathers lake marsh pond wings")), "crane cranes"
    ),
    **_forms(only("bear", word_set("bear bears grizzly polar panda")), "cub cubs"),
    **_forms(only("person", _PLAY), "coach coaches fan fans"),
    **_forms(
        only(
            "boat", word_set("boat boats ship ships harbor water river barge barges sea ocean port")
        ),
        "tug tugs",
    ),
    **_forms(
        only(
            "cow",
            word_set(
                "cow cows cattle horns horned rodeo rope roping cowboy cowboys bull ranch calf"
            ),
        ),
        "steer steers",
    ),
    **_forms(
        only(
            "person", word_set("podium audience conference lecture speech crowd microphone stage")
        ),
        "speaker speakers",
    ),
    **_forms(
        only(
            "frisbee",
            word_set(
                "throw throws throwing thrown catch catches catching frisbee dog dogs player"
                " players toss tosses tossing jumping jumps leaps leaping playing plays park"
            ),
        ),
        "disc discs disk disks",
    ),
    **_forms(
        only("person", word_set("ring boxing match fight fighting gloves opponent punch")), "boxer"
    ),
    **_forms(
        unless("bird", word_set("baseball football hockey team player players jersey game fans")),
        "cardinal cardinals oriole orioles eagles falcons hawks ravens penguins blue_jays",
    ),
    **_forms(unless("person", word_set("horses dogs mules oxen sled sweep")), "team teams"),
    **_forms(
        unless("person", word_set("herd flock pack elephants zebras giraffes cows")),
        "member members",
    ),
    **{
        verb: senses.unless_done(name)
        for verb, name in (
            ("skateboards", "skateboard"),
            ("snowboards", "snowboard"),
            ("skis", "skis"),
            ("skiis", "skis"),
            ("bicycles", "bicycle"),
            ("boats", "boat"),
            ("kayaks", "boat"),
            ("canoes", "boat"),
            ("kites", "kite"),
        )
    },
    **_forms(
        senses.relative,
        "mother mothers father fathers baby babies infant newborn adults males females family"
        " families parent parents mom moms mommy daddy dad sibling siblings couple couples twins"
        " infants mama mamas newborns juveniles elders",
    ),
    **_forms(senses.attribute, _ATTRIBUTES),
    **{
        word: senses.unless_verb(name)
        for name, words in _VERBS_TOO.items()
        for word in words.split()
    },
}
"""The rule of each word, by each of its forms."""

DEEDS = frozenset(
    [
        *(word for words in _VERBS_TOO.values() for word in words.split() if word.endswith("s")),
        *word_set("skateboards snowboards wakeboards parasails skis bicycles bikes boats kayaks"),
        *word_set("canoes kites bats ties plants boards sinks pitchers cooks coaches models"),
    ]
) - word_set("bus")
"""Plurals that may also be what one does: "a man bikes", "a woman trains dogs"."""
