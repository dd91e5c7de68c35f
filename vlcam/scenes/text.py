"""What people might write about a scene: captions of the whole and of its regions.

Every sentence is true of its scene: colours, patterns, poses and parts are only mentioned where
they are visible, counts are exact, and relations are defined on the visible boxes (``relations``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vlcam.scenes.scene import Box, Item, Scene

T = TypeVar("T")

CAPTIONS = 5  # per image
REGIONS = 5  # per image, at least
LONGEST = 16  # words in a caption

Nouns = tuple[tuple[str, str], ...]  # (one, many)

NOUNS: dict[str, Nouns] = {
    "person": (("person", "people"),),
    "bicycle": (("bicycle", "bicycles"), ("bike", "bikes")),
    "car": (("car", "cars"), ("car", "cars"), ("automobile", "automobiles")),
    "airplane": (("airplane", "airplanes"), ("plane", "planes"), ("jet", "jets")),
    "bus": (("bus", "buses"),),
    "boat": (("boat", "boats"), ("sailboat", "sailboats")),
    "traffic light": (("traffic light", "traffic lights"), ("traffic signal", "traffic signals")),
    "fire hydrant": (("fire hydrant", "fire hydrants"), ("hydrant", "hydrants")),
    "stop sign": (("stop sign", "stop signs"),),
    "bench": (("bench", "benches"),),
    "bird": (("bird", "birds"),),
    "cat": (("cat", "cats"), ("kitty", "kitties"), ("kitten", "kittens")),
    "dog": (("dog", "dogs"), ("dog", "dogs"), ("puppy", "puppies")),
    "horse": (("horse", "horses"), ("horse", "horses"), ("pony", "ponies")),
    "sheep": (("sheep", "sheep"), ("sheep", "sheep"), ("lamb", "lambs")),
    "zebra": (("zebra", "zebras"),),
    "umbrella": (("umbrella", "umbrellas"), ("umbrella", "umbrellas"), ("parasol", "parasols")),
    "kite": (("kite", "kites"),),
    "cup": (("cup", "cups"), ("mug", "mugs")),
    "banana": (("banana", "bananas"),),
    "apple": (("apple", "apples"),),
    "pizza": (("pizza", "pizzas"),),
    "clock": (("clock", "clocks"),),
}

KINDS: dict[str, Nouns] = {
    "man": (("man", "men"), ("man", "men"), ("guy", "guys")),
    "woman": (("woman", "women"), ("woman", "women"), ("lady", "ladies")),
}

COUNTS = {2: ("two", "two", "a couple of", "a pair of"), 3: ("three", "three", "several"),
          4: ("four", "four", "several", "a group of")}  # fmt: skip
LARGE, SMALL = ("large", "big"), ("small", "little")
TWO_TONE = {"fire hydrant": "cap", "umbrella": "panels", "kite": "other"}
WITH_PART = {
    "fire hydrant": ("cap", ("with",)),
    "dog": ("collar", ("with", "wearing")),
    "airplane": ("tail", ("with",)),
    "bus": ("stripe", ("with",)),
    "boat": ("sail", ("with",)),
}
CLOTHES = {"man": "shirt", "woman": "dress"}


def _categories() -> dict[str, str]:
    found = {}
    for category, nouns in [*NOUNS.items(), *(("person", nouns) for nouns in KINDS.values())]:
        for noun in nouns:
            found.update({form: category for form in noun})
            found.update({word: category for form in noun for word in form.split()})
    return found


_CATEGORY_OF = _categories()


def category_of(word: str) -> str | None:
    """The COCO category that a word of the scenes' sentences names, or None.

    Plurals and synonyms count, and so does each word of a compound: "fire" and "hydrant" both give
    "fire hydrant" (as does "fire hydrant" itself). One word is enough to tell, because the
    sentences use "fire", "stop", "sign", "traffic", "light" and "signal" in those names only.
    """
    return _CATEGORY_OF.get(word.lower())


@dataclass(frozen=True, eq=False)
class Group:
    """All things of one category in a scene."""

    items: tuple[Item, ...]

    @property
    def category(self) -> str:
        return self.items[0].category

    @property
    def box(self) -> Box:
        return union(item.box for item in self.items)

    @property
    def single(self) -> Item | None:
        return self.items[0] if len(self.items) == 1 else None


@dataclass(frozen=True, eq=False)
class Region:
    """One thing described, with the box of its visible pixels (x, y, width, height)."""

    item: Item
    phrase: str


def groups(scene: Scene) -> tuple[Group, ...]:
    """The scene's things by category, in the order of the categories' first one."""
    names = dict.fromkeys(item.category for item in scene.items)
    return tuple(
        Group(tuple(item for item in scene.items if item.category == name)) for name in names
    )


def union(boxes: Iterable[Box]) -> Box:
    corners = np.array([(x, y, x + width, y + height) for x, y, width, height in boxes])
    left, top = corners[:, :2].min(axis=0).tolist()
    right, bottom = corners[:, 2:].max(axis=0).tolist()
    return left, top, right - left, bottom - top


# Sentences.


def captions(scene: Scene) -> tuple[str, ...]:
    """Five different captions; most mention everything, each at least one thing."""
    rng = generator(scene, 1)
    found: dict[str, None] = {}
    while len(found) < CAPTIONS:
        found[caption(scene, rng)] = None
    return tuple(found)


def regions(scene: Scene) -> tuple[Region, ...]:
    """Descriptions of single things: each at least once, at least five in all, no two the same."""
    rng = generator(scene, 2)
    found: dict[tuple[int, str], Region] = {}
    turn = 0
    while len(found) < max(REGIONS, len(scene.items) + 1):
        number = turn % len(scene.items)
        item = scene.items[number]
        article = pick(("a", "a", "the"), rng)
        # The last two are true of anything, so that each thing has more than five phrases.
        places = (*where(item), "in the photo", "in the picture")
        phrase = " ".join([describe(item, rng, article, 0.75), *maybe(places, 0.25, rng)])
        found.setdefault((number, phrase), Region(item, phrase))
        turn += 1
    return tuple(found.values())


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One sentence with a capital and a full stop."""
    present = groups(scene)
    detail = 0.45
    while True:
        order = [present[number] for number in rng.permutation(len(present))]
        if rng.random() < 0.15:
            order = order[: rng.integers(1, len(order) + 1)]
        body = sentence(scene, order, detail, rng)
        if len(body.split()) <= LONGEST:
            return f"{body[0].upper()}{body[1:]}."
        detail *= 0.6


def sentence(scene: Scene, order: Sequence[Group], detail: float, rng: np.random.Generator) -> str:
    names = [name(group, rng, detail) for group in order]
    if len(order) == 1:
        item = order[0].single
        tail = maybe(where(item), 0.35, rng) if item else []
        body = " ".join([names[0], *tail])
        close = item is not None and item.share > 0.3
    else:
        related = relations(order[0], order[1], scene)
        link = pick(related, rng) if related and rng.random() < 0.7 else pick(("and", "with"), rng)
        body = f"{names[0]} {link} {names[1]}"
        if len(order) == 3:
            body = pick((f"{names[0]}, {names[1]} and {names[2]}", f"{body} with {names[2]}",
                         f"{body} and {names[2]}"), rng)  # fmt: skip
        elif len(order) > 3:
            body = f"{', '.join(names[:-1])} and {names[-1]}"
        close = False
    plural = len(order[0].items) > 1
    openers = ["", "", "", "", "there are " if plural else "there is ", "a photo of ",
               "a picture of ", "an image of ", "this is a photo of ", "we can see ",
               "the picture shows "]  # fmt: skip
    if close:
        openers.append("a close up of ")
    return pick(openers, rng) + body


def name(group: Group, rng: np.random.Generator, detail: float) -> str:
    """A group as a noun phrase: one thing described, or several counted."""
    item = group.single
    if item is not None:
        return describe(item, rng, "a", detail)
    kinds = {known_kind(item) for item in group.items}
    colours = [colour(item) for item in group.items]
    differ = len(group.items) == 2 and all(colours) and colours[0] != colours[1]
    if differ and rng.random() < detail / 2:
        noun = noun_of(group.items[0], rng)
        return f"{an(f'{colours[0]} {noun[0]}')} and {an(f'{colours[1]} {noun[0]}')}"
    nouns = noun_of(group.items[0], rng) if len(kinds) == 1 else pick(NOUNS[group.category], rng)
    shared = [colours[0]] if colours[0] and len(set(colours)) == 1 else []
    words = [pick(COUNTS[len(group.items)], rng)]
    if rng.random() < detail:
        words += shared
    return " ".join([*words, nouns[1]])


def describe(item: Item, rng: np.random.Generator, article: str, detail: float) -> str:
    """One thing with its article and, each by chance, what is visible of it."""
    nouns = noun_of(item, rng)
    before = maybe(size(item), detail / 3, rng)
    after = maybe(part(item), detail / 2, rng) or maybe(action(item), detail / 2, rng)
    whole = not after or item.category not in TWO_TONE
    coloured = rng.random() < detail
    if coloured:
        before += [word for word in (colour(item) if whole else main_colour(item),) if word]
    before += maybe(pattern(item), detail, rng)
    phrase = " ".join([*before, nouns[0], *after])
    return an(phrase) if article == "a" else f"{article} {phrase}"


def noun_of(item: Item, rng: np.random.Generator) -> tuple[str, str]:
    kind = known_kind(item)
    if kind and rng.random() < 0.8:
        return pick(KINDS[kind], rng)
    return pick(NOUNS[item.category], rng)


# What can be said of one thing: all possible wordings, none where it is not visible.


def known_kind(item: Item) -> str:
    return item.appearance.kind if item.seen > 0.8 else ""


def main_colour(item: Item) -> str:
    """The name of the body's colour; empty where it is hidden, mixed or goes without saying."""
    shown = item.appearance.colours.get("body", "") if "body" in item.parts else ""
    return "" if item.category in ("traffic light", "zebra") else shown


def colour(item: Item) -> str:
    """The thing's one or two colours ("red and yellow"), the main one first; empty if unknown."""
    main, other = main_colour(item), TWO_TONE.get(item.category)
    if other is None or not main:
        return main
    if other not in item.parts:
        return ""
    second = item.appearance.colours[other]
    return main if second == main else f"{main} and {second}"


def size(item: Item) -> tuple[str, ...]:
    if item.seen < 0.8:
        return ()
    return LARGE if item.share > 0.3 else SMALL if item.share < 0.06 else ()


def pattern(item: Item) -> tuple[str, ...]:
    appearance = item.appearance
    if item.category == "umbrella" and " and " in colour(item):
        return ("striped",)
    plain = appearance.pattern == "plain" or item.category == "person" or "body" not in item.parts
    return () if plain else (appearance.pattern,)


def part(item: Item) -> tuple[str, ...]:
    """Phrases about a part or the clothes, such as "with a yellow cap"."""
    colours = item.appearance.colours
    if item.category == "person" and "shirt" in item.parts:
        worn = colours["shirt"]
        if not known_kind(item):
            return (f"in {worn}",)
        garment = CLOTHES[item.appearance.kind]
        plain = item.appearance.pattern == "plain"
        named = (
            (worn,)
            if plain
            else (worn, item.appearance.pattern, f"{worn} {item.appearance.pattern}")
        )
        return tuple(
            f"{verb} {an(f'{how} {garment}')}" for how in named for verb in ("in", "wearing")
        )
    found, verbs = WITH_PART.get(item.category, ("", ()))
    if found not in item.parts:
        return ()
    return tuple(f"{verb} {an(f'{colours[found]} {found}')}" for verb in verbs)


def action(item: Item) -> tuple[str, ...]:
    """Phrases about the pose: a person waves, a traffic light shows a colour, a pizza is cut."""
    pose = item.appearance.pose
    if item.category == "traffic light":
        return (f"showing {pose}",) if f"lit-{pose}" in item.parts else ()
    if item.seen < 0.85 or not pose:
        return ()
    if item.category == "pizza":
        return ("with a missing slice",) if pose == "cut" else ()
    return (pose,)


def where(item: Item) -> tuple[str, ...]:
    """Phrases about the place in the photo."""
    x, y = item.center
    sides = {"on the left": x < 0.36, "on the right": x > 0.64, "at the top": y < 0.36,
             "at the bottom": y > 0.64}  # fmt: skip
    found = tuple(side for side, holds in sides.items() if holds)
    if not found and abs(x - 0.5) < 0.1 and abs(y - 0.5) < 0.1:
        return "in the middle", "in the center"
    return found


def relations(a: Group, b: Group, scene: Scene) -> tuple[str, ...]:
    """All wordings that are true of a with respect to b, by the boxes of their visible pixels.

    *Left of*: each box ends before the other's middle begins, and the middles are further apart
    sideways than up and down; *above* likewise. *Next to*: left or right of, with a gap of at most
    a tenth of the photo's shorter side. *In front of*: covers part of it, where both are single.
    """
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.box, b.box
    dx, dy = bx + bw / 2 - ax - aw / 2, by + bh / 2 - ay - ah / 2
    level = abs(dx) > abs(dy)
    apart_x = aw / 2 <= abs(dx) and bw / 2 <= abs(dx)
    apart_y = ah / 2 <= abs(dy) and bh / 2 <= abs(dy)
    found: list[str] = []
    if level and apart_x:
        found += ["to the left of", "left of"] if dx > 0 else ["to the right of", "right of"]
        gap = abs(dx) - (aw + bw) / 2
        if gap <= 0.1 * min(scene.pixels.shape[:2]):
            found += ["next to", "beside"]
    elif not level and apart_y:
        found += ["above", "over"] if dy > 0 else ["below", "under"]
    if a.single and b.single:
        places = [scene.items.index(item) for item in (a.items[0], b.items[0])]
        if places[1] in a.items[0].hides:
            found += ["in front of"]
        if places[0] in b.items[0].hides:
            found += ["behind"]
    return tuple(found)


# Small tools.


def generator(scene: Scene, stream: int) -> np.random.Generator:
    """A generator that belongs to the scene, another for each stream from 1 (0: the photo's)."""
    return np.random.default_rng(np.random.SeedSequence([scene.seed, scene.index, stream]))


def pick(choices: Sequence[T], rng: np.random.Generator) -> T:
    return choices[int(rng.integers(len(choices)))]


def maybe(choices: Sequence[str], chance: float, rng: np.random.Generator) -> list[str]:
    """One of the choices with that probability, as a list of one or none."""
    return [pick(choices, rng)] if rng.random() < chance and choices else []


def an(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
