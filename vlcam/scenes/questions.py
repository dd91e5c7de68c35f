"""Questions about a scene in the manner of VQA v2, with the answers ten people might give.

The answer of a yes/no question is drawn first, and what a question names is drawn without regard to
what is likely, so that the words of a question say little about its answer.
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
    where,
)
from vlcam.scenes.things import THING, THINGS

PEOPLE = 10  # answers per question
MOST = {"what": 2, "where": 2, "colour": 3, "count": 2, "yes/no": 4}  # questions per kind and scene
SIDES = ("on the left", "on the right", "at the top", "at the bottom", "in the middle")
# Weights of asking for a category with 0, 1, 2, ... things, so that answers are less uneven.
COUNT_WEIGHTS = (0.5, 0.5, 3.0, 6.0, 12.0)
# Weights of the subjects of yes/no questions.
YES_NO_WEIGHTS = {"presence": 4, "colour": 3, "pose": 1, "side": 1}
TYPES = ("what color is the", "what animal is", "what is in the", "what is", "where is the",
         "how many", "is there a", "is the", "are there")  # fmt: skip


@dataclass(frozen=True, eq=False)
class SceneQuestion:
    """A question, the answer that most people give and other right ones; ``items`` are the things
    that show the answer."""

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


def questions(scene: Scene) -> tuple[SceneQuestion, ...]:
    """Different questions of each kind that the scene allows, at most :data:`MOST` of each."""
    rng = generator(scene, 3)
    kinds = {
        "what": what(scene, rng),
        "where": where_is(scene),
        "colour": [question for item in singles(scene) for question in colours_of(item)],
        "count": count(scene, rng),
        "yes/no": [yes_no(scene, rng) for _ in range(MOST["yes/no"])],
    }
    asked = [
        found[number]
        for kind, found in kinds.items()
        for number in rng.permutation(len(found))[: MOST[kind]]
    ]
    return tuple({question.text: question for question in asked}.values())


def what(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """Questions for the name of a thing: the only one, the only animal, or the only one on some
    side of the photo."""
    present = groups(scene)
    found = list(on_sides(scene))
    animals = [group for group in present if THING[group.category].supercategory == "animal"]
    if len(animals) == 1 and animals[0].single:
        found.append(named("what animal is in the picture?", animals[0].items[0]))
    if len(present) == 1 and present[0].single:
        wording = pick(("what is this?", "what is in the picture?", "what is shown?"), rng)
        found.append(named(wording, present[0].items[0]))
    return found


def named(text: str, item: Item) -> SceneQuestion:
    """A question answered by a thing's name or its synonyms."""
    nouns = dict.fromkeys(noun for noun, _ in NOUNS[item.category])
    answer, *others = [item.appearance.kind, *nouns] if known_kind(item) else nouns
    return SceneQuestion(text, answer, tuple(others), (item,))


def on_sides(scene: Scene) -> Iterator[SceneQuestion]:
    """ "What is on the left?" where only one thing is, and no other leans to that side."""
    for side in SIDES:
        there = [item for item in scene.items if side in where(item)]
        rest = [item for item in scene.items if leans(item, side) and item not in there]
        if len(there) == 1 and not rest:
            yield named(f"what is {side}?", there[0])


def leans(item: Item, side: str) -> bool:
    """Whether the thing's middle is nearer to that side of the photo than to the opposite one (of
    the middle: within the middle third, both ways)."""
    x, y = item.center
    near = {
        "on the left": x < 0.5,
        "on the right": x > 0.5,
        "at the top": y < 0.5,
        "at the bottom": y > 0.5,
        "in the middle": max(abs(x - 0.5), abs(y - 0.5)) < 1 / 6,
    }
    return near[side]


def where_is(scene: Scene) -> list[SceneQuestion]:
    """Where the only thing of its category is, if one word says it."""
    found = []
    for item in singles(scene):
        sides = where(item)
        if len(sides) == 1 or sides == ("in the middle", "in the center"):
            words = tuple(side.split()[-1] for side in sides)
            others = (*words[1:], *sides)
            found.append(SceneQuestion(f"where is the {item.category}?", words[0], others, (item,)))
    return found


def colours_of(item: Item) -> Iterator[SceneQuestion]:
    """The colour or colours of a thing, of a part of it, or of clothes."""
    start, appearance = "what color is the", item.appearance
    seen = colour(item)
    if seen and len(item.thing.parts["body"]) > 2:
        first, _, second = seen.partition(" and ")
        # Of two colours some people name only one.
        others = (f"{second} and {first}", first, second) if second else ()
        yield SceneQuestion(f"{start} {item.category}?", seen, others, (item,))
    part, _ = WITH_PART.get(item.category, ("", ()))
    if part in item.parts:
        yield SceneQuestion(
            f"{start} {item.category}'s {part}?", appearance.colours[part], (), (item,)
        )
    if known_kind(item) and "shirt" in item.parts:
        worn = CLOTHES[appearance.kind]
        yield SceneQuestion(
            f"{start} {appearance.kind}'s {worn}?", appearance.colours["shirt"], (), (item,)
        )
    if f"lit-{appearance.pose}" in item.parts:
        yield SceneQuestion(f"{start} traffic light?", appearance.pose, (), (item,))


def count(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """How many things of a category there are; of an absent category, too."""
    present = {group.category: group.items for group in groups(scene)}
    absent = pick([thing.name for thing in THINGS if thing.name not in present], rng)
    choices: list[tuple[str, tuple[Item, ...]]] = [(absent, ()), *present.items()]
    weights = np.array([COUNT_WEIGHTS[len(items)] for _, items in choices])
    if rng.random() > weights.sum() / 3:  # nothing but ones: do not always ask
        return []
    most = min(MOST["count"], len(choices))
    chosen = rng.choice(len(choices), most, replace=False, p=weights / weights.sum())
    return [how_many(choices[number][0], choices[number][1], rng) for number in chosen]


def how_many(category: str, items: tuple[Item, ...], rng: np.random.Generator) -> SceneQuestion:
    plural = pick(NOUNS[category], rng)[1]
    ending = pick(("are there?", "are in the picture?", "can you see?"), rng)
    return SceneQuestion(f"how many {plural} {ending}", str(len(items)), (), items)


def yes_no(scene: Scene, rng: np.random.Generator) -> SceneQuestion:
    """A question whose answer is yes in half of the cases, whatever it is about."""
    truth = bool(rng.random() < 0.5)
    present, alone = groups(scene), singles(scene)
    found = {
        "presence": [presence(present, truth, rng)],
        "colour": [one for item in alone for one in is_coloured(item, truth, rng)],
        "pose": [one for item in alone for one in is_posed(item, truth, rng)],
        "side": [one for item in alone for one in is_placed(item, truth, rng)],
    }
    kinds = [kind for kind, some in found.items() if some]
    weights = np.array([YES_NO_WEIGHTS[kind] for kind in kinds])
    return pick(found[kinds[rng.choice(len(kinds), p=weights / weights.sum())]], rng)


def presence(present: tuple[Group, ...], truth: bool, rng: np.random.Generator) -> SceneQuestion:
    names = {group.category: group.items for group in present}
    category = pick([thing.name for thing in THINGS if (thing.name in names) == truth], rng)
    noun, plural = pick(NOUNS[category], rng)
    wordings = (f"is there {an(noun)} in the picture?", f"are there any {plural}?")
    return SceneQuestion(pick(wordings, rng), "yes" if truth else "no", (), names.get(category, ()))


def is_coloured(item: Item, truth: bool, rng: np.random.Generator) -> list[SceneQuestion]:
    seen = colour(item)
    choices = item.thing.parts.get("body", ())
    if not seen or len(choices) < 3 or item.category in TWO_TONE:
        return []
    asked = seen if truth else pick([name for name in choices if name != seen], rng)
    return [answered(f"is the {item.category} {asked}?", truth, item)]


def is_posed(item: Item, truth: bool, rng: np.random.Generator) -> list[SceneQuestion]:
    poses, pose = item.thing.poses, item.appearance.pose
    if len(poses) < 2 or item.category in ("traffic light", "pizza") or item.seen < 0.85:
        return []
    asked = pose if truth else pick([name for name in poses if name != pose], rng)
    return [answered(f"is the {item.category} {asked}?", truth, item)]


def is_placed(item: Item, truth: bool, rng: np.random.Generator) -> list[SceneQuestion]:
    choices = [side for side in SIDES if (side in where(item)) == truth]
    if not truth:  # and clearly so
        choices = [side for side in choices if not leans(item, side)]
    if not choices:
        return []
    return [answered(f"is the {item.category} {pick(choices, rng)}?", truth, item)]


def answered(text: str, truth: bool, *items: Item) -> SceneQuestion:
    return SceneQuestion(text, "yes" if truth else "no", (), items)


def singles(scene: Scene) -> list[Item]:
    """The things that are the only ones of their category."""
    return [group.items[0] for group in groups(scene) if group.single]
