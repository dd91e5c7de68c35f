"""Questions about a scene in the manner of VQA v2, with the answers ten people might give.

Yes/no questions are asked by drawing the answer first, and what a question names is drawn without
regard to what is likely, so that the words of a question say little about its answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vlcam.scenes.scene import Item, Scene
from vlcam.scenes.text import (
    CLOTHES,
    NOUNS,
    TWO_TONE,
    WITH_PART,
    Group,
    an,
    colour,
    generator,
    groups,
    known_kind,
    pick,
    relations,
    where,
)
from vlcam.scenes.things import THING, THINGS

PEOPLE = 10  # answers to a question
OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
# How gladly a number of things is asked for, so that the answers come out less uneven.
COUNT_WEIGHTS = (0.5, 0.5, 3.0, 6.0, 12.0)
TYPES = ("what color is the", "what animal is", "what is in the", "what is", "where is the",
         "how many", "is there a", "is the", "are there")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Question:
    """A question, the answer most people give and other right ones; ``items`` show the answer."""

    text: str
    answer: str
    others: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()

    @property
    def type(self) -> str:
        """The official ``question_type``: how the question begins."""
        return next((start for start in TYPES if self.text.startswith(start)), "none of the above")

    @property
    def answer_type(self) -> str:
        if self.answer in ("yes", "no"):
            return "yes/no"
        return "number" if self.answer.isdigit() else "other"

    def answers(self, rng: np.random.Generator) -> tuple[str, ...]:
        """What ten people answer: seven to ten give the answer, the rest another right one."""
        different = int(rng.integers(0, 4)) if self.others else 0
        said = [self.answer] * (PEOPLE - different)
        said += [pick(self.others, rng) for _ in range(different)]
        return tuple(said[number] for number in rng.permutation(PEOPLE))


def questions(scene: Scene) -> tuple[Question, ...]:
    """At most one question of each kind, for the kinds the scene allows: what, where, colour, count
    and yes/no."""
    rng = generator(scene, 3)
    asked = (what(scene, rng), place(scene, rng), color(scene, rng), count(scene, rng))
    return (*(question for question in asked if question is not None), yes_no(scene, rng))


def what(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Name a thing: the only one, the only animal, or the only one on some side of another."""
    present = groups(scene)
    found = [*neighbours(present, scene)]
    animals = [group for group in present if THING[group.category].supercategory == "animal"]
    if len(animals) == 1 and animals[0].single:
        found.append(named("what animal is in the picture?", animals[0].items[0]))
    if len(present) == 1 and present[0].single:
        wording = pick(("what is this?", "what is in the picture?", "what is shown?"), rng)
        found.append(named(wording, present[0].items[0]))
    return pick(found, rng) if found else None


def named(text: str, item: Item) -> Question:
    """A question answered by a thing's name, in its synonyms too."""
    nouns = dict.fromkeys(noun for noun, _ in NOUNS[item.category])
    answer, *others = [item.look.kind, *nouns] if known_kind(item) else nouns
    return Question(text, answer, tuple(others), (item,))


def neighbours(present: tuple[Group, ...], scene: Scene) -> Iterator[Question]:
    """ "What is to the left of the dog?" where only one thing is on that side at all."""
    for here in present:
        for side in OPPOSITE:
            there = [group for group in present if group is not here and lies(group, side, here)]
            if not here.single or len(there) != 1 or not there[0].single:
                continue
            if side in relations(there[0], here, scene):
                yield named(f"what is {side} the {here.category}?", there[0].items[0])


def lies(a: Group, side: str, b: Group) -> bool:
    """Whether a's middle lies on that side of b's, however little."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.box, b.box
    dx, dy = bx + bw / 2 - ax - aw / 2, by + bh / 2 - ay - ah / 2
    return {"to the left of": dx, "to the right of": -dx, "above": dy, "below": -dy}[side] > 0


def place(scene: Scene, rng: np.random.Generator) -> Question | None:
    """Where the only thing of its category is, if that can be said in a word."""
    found = []
    for item in singles(scene):
        sides = where(item)
        if len(sides) == 1 or sides == ("in the middle", "in the center"):
            words = tuple(side.split()[-1] for side in sides)
            others = (*words[1:], *sides)
            found.append(Question(f"where is the {item.category}?", words[0], others, (item,)))
    return pick(found, rng) if found else None


def color(scene: Scene, rng: np.random.Generator) -> Question | None:
    """The colour or colours of the only thing of its category, of its part or of clothes."""
    found = [question for item in singles(scene) for question in colours_of(item)]
    return pick(found, rng) if found else None


def colours_of(item: Item) -> Iterator[Question]:
    start, look = "what color is the", item.look
    seen = colour(item)
    if seen and len(item.thing.parts["body"]) > 2:
        first, _, second = seen.partition(" and ")
        others = (f"{second} and {first}",) if second else ()
        yield Question(f"{start} {item.category}?", seen, others, (item,))
    part, _ = WITH_PART.get(item.category, ("", ()))
    if part in item.parts:
        yield Question(f"{start} {item.category}'s {part}?", look.colours[part], (), (item,))
    if known_kind(item) and "shirt" in item.parts:
        worn = CLOTHES[look.kind]
        yield Question(f"{start} {look.kind}'s {worn}?", look.colours["shirt"], (), (item,))
    if f"lit-{look.pose}" in item.parts:
        yield Question(f"{start} traffic light?", look.pose, (), (item,))


def count(scene: Scene, rng: np.random.Generator) -> Question | None:
    """How many there are of a category, maybe none."""
    present = {group.category: group.items for group in groups(scene)}
    absent = pick([thing.name for thing in THINGS if thing.name not in present], rng)
    choices = [(absent, ()), *present.items()]
    weights = np.array([COUNT_WEIGHTS[len(items)] for _, items in choices])
    if rng.random() > weights.sum() / 3:  # nothing but ones: do not always ask
        return None
    category, items = choices[rng.choice(len(choices), p=weights / weights.sum())]
    plural = pick(NOUNS[category], rng)[1]
    ending = pick(("are there?", "are in the picture?", "can you see?"), rng)
    return Question(f"how many {plural} {ending}", str(len(items)), (), items)


def yes_no(scene: Scene, rng: np.random.Generator) -> Question:
    """A question that is answered by yes in one half of the cases, whatever it is about."""
    truth = bool(rng.random() < 0.5)
    present = groups(scene)
    found = [presence(present, truth, rng)]
    for item in singles(scene):
        found += is_coloured(item, truth, rng)
        found += is_posed(item, truth, rng)
    found += [is_beside(*pair, truth) for pair in sided(present, scene)]
    return pick(found, rng)


def presence(present: tuple[Group, ...], truth: bool, rng: np.random.Generator) -> Question:
    names = {group.category: group.items for group in present}
    category = pick([thing.name for thing in THINGS if (thing.name in names) == truth], rng)
    noun, plural = pick(NOUNS[category], rng)
    wordings = (f"is there {an(noun)} in the picture?", f"are there any {plural}?")
    return Question(pick(wordings, rng), "yes" if truth else "no", (), names.get(category, ()))


def is_coloured(item: Item, truth: bool, rng: np.random.Generator) -> list[Question]:
    seen = colour(item)
    choices = item.thing.parts.get("body", ())
    if not seen or len(choices) < 3 or item.category in TWO_TONE:
        return []
    asked = seen if truth else pick([name for name in choices if name != seen], rng)
    return [answered(f"is the {item.category} {asked}?", truth, item)]


def is_posed(item: Item, truth: bool, rng: np.random.Generator) -> list[Question]:
    poses, pose = item.thing.poses, item.look.pose
    if len(poses) < 2 or item.category in ("traffic light", "pizza") or item.seen < 0.85:
        return []
    asked = pose if truth else pick([name for name in poses if name != pose], rng)
    return [answered(f"is the {item.category} {asked}?", truth, item)]


def sided(present: tuple[Group, ...], scene: Scene) -> Iterator[tuple[Item, str, Item]]:
    """Pairs of single things and a side on which the first lies of the second."""
    for a in present:
        for b in present:
            if a is not b and a.single and b.single:
                for side in relations(a, b, scene):
                    if side in OPPOSITE:
                        yield a.items[0], side, b.items[0]


def is_beside(a: Item, side: str, b: Item, truth: bool) -> Question:
    asked = side if truth else OPPOSITE[side]
    return answered(f"is the {a.category} {asked} the {b.category}?", truth, a, b)


def answered(text: str, truth: bool, *items: Item) -> Question:
    return Question(text, "yes" if truth else "no", (), items)


def singles(scene: Scene) -> list[Item]:
    """The things that are the only ones of their category."""
    return [group.items[0] for group in groups(scene) if group.single]
