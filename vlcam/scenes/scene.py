"""One scene: which things, where, how they look and exactly which pixels show them.

Things are drawn from back to front as sprites of inks (see pen.py) on a canvas of twice the photo's
size; a second canvas keeps which thing each pixel shows. The photo is the first canvas averaged
over 2 x 2 pixels, and a photo pixel belongs to the thing that most of its four canvas pixels show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
from PIL import Image

from vlcam.scenes.backdrop import backdrop
from vlcam.scenes.colours import Paint, darker, lighter, shade
from vlcam.scenes.pen import Pen, Sprite
from vlcam.scenes.things import THING, THINGS, Thing

FINE = 2  # canvas pixels to a photo pixel, each way (see quarters)
PHOTO_SIZES = ((256, 256), (240, 320), (320, 240))  # (height, width)
MOST = 4  # things in a scene
SEEN = 0.65  # the least share of a thing that others may leave visible
TRIES = 40  # to find a thing a place

Box = tuple[int, int, int, int]
"""(x, y, width, height), in pixels of the photo: COCO's form."""


@dataclass(frozen=True)
class Appearance:
    """What captions may say of a thing: colours by part, the body's pattern, kind and pose."""

    colours: dict[str, str]
    pattern: str = "plain"
    kind: str = ""
    pose: str = ""


@dataclass(frozen=True, eq=False)
class Item:
    """One thing in a scene.

    Attributes:
        mask: its visible pixels, bool (h, w) at photo size.
        seen: the share of it that is visible.
        parts: names of the parts that are mostly visible (and, of a traffic light, its lamp as
            "lit-COLOUR").
        hides: positions, in the scene's items, of those that it partly covers.
        inks: the number of its ink at each pixel (the first of the four canvas pixels), (h, w); 0
            where it shows none.
        ink_parts: the part that each ink belongs to, that of ink 1 first.
    """

    thing: Thing
    appearance: Appearance
    mask: np.ndarray
    seen: float
    parts: tuple[str, ...]
    hides: tuple[int, ...]
    inks: np.ndarray
    ink_parts: tuple[str, ...]

    def part_mask(self, part: str) -> np.ndarray:
        """The visible pixels (h, w) that show a part: "body", "cap", ..."""
        numbers = [n for n, name in enumerate(self.ink_parts, start=1) if name == part]
        shown: np.ndarray = self.mask & np.isin(self.inks, numbers)
        return shown

    @property
    def category(self) -> str:
        return self.thing.name

    @property
    def area(self) -> int:
        """Visible pixels."""
        return int(self.mask.sum())

    @cached_property
    def box(self) -> Box:
        """(x, y, width, height) of the visible pixels."""
        columns, rows = np.flatnonzero(self.mask.any(0)), np.flatnonzero(self.mask.any(1))
        left, top = int(columns[0]), int(rows[0])
        return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) of the box's middle as shares of the photo's width and height."""
        x, y, width, height = self.box
        rows, columns = self.mask.shape
        return (x + width / 2) / columns, (y + height / 2) / rows

    @property
    def share(self) -> float:
        """The box's share of the photo."""
        return self.box[2] * self.box[3] / self.mask.size


@dataclass(frozen=True, eq=False)
class Scene:
    """A photo, uint8 (h, w, 3), and its things from back to front."""

    seed: int
    index: int
    pixels: np.ndarray
    items: tuple[Item, ...]

    @property
    def photo(self) -> Image.Image:
        return Image.fromarray(self.pixels)


@dataclass(frozen=True, eq=False)
class Placed:
    """A sprite with its top left corner at (x, y) on the canvas, which it may overhang."""

    thing: Thing
    appearance: Appearance
    sprite: Sprite
    x: int
    y: int


Colours = Mapping[str, Mapping[str, str]]
"""By category and part: ``{"fire hydrant": {"body": "red", "cap": "yellow"}}``."""


def scene(seed: int, index: int, colours: Colours = MappingProxyType({})) -> Scene:
    """Scene number ``index`` of the endless series of a seed; always the same one.

    Args:
        colours: of things of some categories, instead of random ones; the scene is otherwise the
            same.

    Raises:
        ValueError: there is no such category, part, or colour of that part.
    """
    for category, parts in colours.items():
        choices = THING[category].parts if category in THING else {}
        for part, name in parts.items():
            if name not in choices.get(part, ()):
                raise ValueError(f"no {name} {part} of {category!r}")
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    height, width = PHOTO_SIZES[rng.integers(len(PHOTO_SIZES))]
    canvas = (height * FINE, width * FINE)
    picture = backdrop(canvas, rng)
    placed = arrange(canvas, rng, colours)
    owners, inks = paint(picture, placed, rng)
    shown = majority(owners, len(placed))
    items = tuple(
        Item(
            thing=one.thing,
            appearance=one.appearance,
            mask=shown == number,
            seen=in_sight(one, placed[number:], canvas).sum() / (one.sprite.inks > 0).sum(),
            parts=visible_parts(one, placed[number:], canvas),
            hides=hidden_by(number, placed, canvas),
            inks=np.where(owners == number, inks, 0)[::FINE, ::FINE],
            ink_parts=one.sprite.parts,
        )
        for number, one in enumerate(placed, start=1)
    )
    return Scene(seed, index, develop(picture, rng), items)


# Choosing and placing the things.


def arrange(
    canvas: tuple[int, int], rng: np.random.Generator, colours: Colours = MappingProxyType({})
) -> list[Placed]:
    """One to four things, each mostly visible behind those in front of it."""
    things = choose(rng)
    placed: list[Placed] = []
    for thing in things:
        appearance = appearance_of(thing, rng)
        appearance = replace(
            appearance, colours=appearance.colours | dict(colours.get(thing.name, {}))
        )
        one = put(thing, appearance, placed, total=len(things), canvas=canvas, rng=rng)
        if one is not None:
            placed.append(one)
    return placed


def choose(rng: np.random.Generator) -> list[Thing]:
    """The things of a scene, in random order: categories occur once or several times."""
    total = int(rng.integers(1, MOST + 1))
    things: list[Thing] = []
    while len(things) < total:
        count = int(rng.integers(1, total - len(things) + 1)) if rng.random() < 0.4 else 1
        fresh = [thing for thing in THINGS if thing not in things]
        things += [fresh[rng.integers(len(fresh))]] * count
    return [things[position] for position in rng.permutation(total)]


def appearance_of(thing: Thing, rng: np.random.Generator) -> Appearance:
    colours = {part: str(rng.choice(choices)) for part, choices in thing.parts.items()}
    return Appearance(
        colours,
        str(rng.choice(thing.patterns)),
        str(rng.choice(thing.kinds)),
        str(rng.choice(thing.poses)),
    )


def put(
    thing: Thing,
    appearance: Appearance,
    placed: list[Placed],
    *,
    total: int,
    canvas: tuple[int, int],
    rng: np.random.Generator,
) -> Placed | None:
    """Draw a thing and find it a place in front of the others; None where there is no room.

    After every ten failed tries it is drawn smaller.

    Args:
        total: number of things in the scene: the more, the smaller.
        canvas: (height, width).
    """
    low, high = ((0.5, 0.9), (0.4, 0.68), (0.36, 0.56), (0.33, 0.5))[total - 1]
    size = thing.span * rng.uniform(low, high) * min(canvas)
    angle, flip = rng.normal(0, 6), thing.mirrored and bool(rng.random() < 0.5)
    paints = {part: paint_of(thing, appearance, part, rng) for part in appearance.colours}
    details = int(rng.integers(2**32))  # what no caption mentions stays the same when redrawn
    for attempt in range(TRIES):
        if attempt % 10 == 0:
            pen = Pen(paints, size * 0.88 ** (attempt // 10), angle, flip)
            thing.draw(pen, appearance.kind, appearance.pose, np.random.default_rng(details))
            sprite = pen.sprite()
        rows, columns = sprite.inks.shape
        over = 0.06  # the share of a thing that may lie outside the photo, on each side
        x = int(rng.uniform(-over * columns, canvas[1] - (1 - over) * columns))
        y = int(rng.uniform(-over * rows, canvas[0] - (1 - over) * rows))
        one = Placed(thing, appearance, sprite, x, y)
        if leaves_in_sight(one, placed, canvas):
            return one
    return None


def paint_of(thing: Thing, appearance: Appearance, part: str, rng: np.random.Generator) -> Paint:
    """A shade of the part's colour; the main part also wears the pattern."""
    rgb = shade(appearance.colours[part], rng)
    if appearance.pattern == "plain" or part != next(iter(thing.parts)):
        return Paint(rgb)
    light = sum(rgb) > 330
    return Paint(rgb, appearance.pattern, darker(rgb, 0.5) if light else lighter(rgb, 0.62))


def leaves_in_sight(new: Placed, placed: list[Placed], canvas: tuple[int, int]) -> bool:
    """Whether all things stay mostly visible, and the new one, in front, mostly in the photo."""
    return (
        all(
            in_sight(one, [*placed[number:], new], canvas).sum()
            >= SEEN * (one.sprite.inks > 0).sum()
            for number, one in enumerate(placed, start=1)
        )
        and in_sight(new, [], canvas).sum() >= 0.85 * (new.sprite.inks > 0).sum()
    )


def in_sight(one: Placed, front: list[Placed], canvas: tuple[int, int]) -> np.ndarray:
    """Which pixels of the sprite, clipped by :func:`clip`, show the thing: bool (h, w)."""
    mine, window = clip(one, canvas)
    seen = mine > 0
    for other in front:
        theirs, area = clip(other, canvas)
        top, left = max(window[0], area[0]), max(window[1], area[1])
        bottom, right = min(window[2], area[2]), min(window[3], area[3])
        if top < bottom and left < right:
            seen[top - window[0] : bottom - window[0], left - window[1] : right - window[1]] &= (
                theirs[top - area[0] : bottom - area[0], left - area[1] : right - area[1]] == 0
            )
    return seen


def visible_parts(one: Placed, front: list[Placed], canvas: tuple[int, int]) -> tuple[str, ...]:
    """Names of the parts that are more than half visible."""
    names = one.sprite.parts
    total = np.bincount(one.sprite.inks.ravel(), minlength=len(names) + 1)[1:]
    inks = clip(one, canvas)[0][in_sight(one, front, canvas)]
    shown = np.bincount(inks, minlength=len(names) + 1)[1:]
    return tuple(
        part
        for part in dict.fromkeys(names)
        if part
        and 2 * sum(n for n, name in zip(shown, names, strict=True) if name == part)
        > sum(n for n, name in zip(total, names, strict=True) if name == part)
    )


def clip(one: Placed, canvas: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """The inks of a sprite within the canvas, and its (top, left, bottom, right) there."""
    rows, columns = one.sprite.inks.shape
    top, left = max(one.y, 0), max(one.x, 0)
    bottom, right = min(one.y + rows, canvas[0]), min(one.x + columns, canvas[1])
    inks = one.sprite.inks[top - one.y : bottom - one.y, left - one.x : right - one.x]
    return inks, (top, left, bottom, right)


def hidden_by(number: int, placed: list[Placed], canvas: tuple[int, int]) -> tuple[int, ...]:
    """Positions of the things of which thing ``number`` (from 1) covers a noticeable part."""
    front = placed[number - 1]
    return tuple(
        behind
        for behind, one in enumerate(placed[: number - 1])
        if in_sight(one, [front], canvas).sum() < 0.95 * in_sight(one, [], canvas).sum()
    )


# Painting.


def paint(
    picture: np.ndarray, placed: list[Placed], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Paint the things over the picture, in place; returns, for each pixel, the number of the thing
    it shows (from 1; 0: the backdrop) and the number of that thing's ink."""
    canvas = (picture.shape[0], picture.shape[1])
    owners, shown = np.zeros(canvas, np.uint8), np.zeros(canvas, np.uint8)
    for number, one in enumerate(placed, start=1):
        inks, (top, left, bottom, right) = clip(one, canvas)
        colours = coloured(inks, one.sprite.paints, rng)
        inside = inks > 0
        picture[top:bottom, left:right][inside] = colours[inside]
        owners[top:bottom, left:right][inside] = number
        shown[top:bottom, left:right][inside] = inks[inside]
    return owners, shown


def coloured(inks: np.ndarray, paints: tuple[Paint, ...], rng: np.random.Generator) -> np.ndarray:
    """The sprite in colour, float32 (h, w, 3): patterns, outlines, light and a little grain."""
    table = np.array([(0, 0, 0), *(paint.rgb for paint in paints)], np.float32)
    second = np.array([(0, 0, 0), *(paint.second for paint in paints)], np.float32)
    colours = table[inks]
    period = max(inks.shape) / rng.uniform(6, 9)
    angle = rng.uniform(0, np.pi)
    for number, one in enumerate(paints, start=1):
        if one.pattern != "plain":
            marked = (inks == number) & PATTERNS[one.pattern](inks.shape, period, angle)
            colours[marked] = second[number]
    outline = np.zeros(inks.shape, bool)
    outline[1:] |= inks[1:] != inks[:-1]
    outline[:, 1:] |= inks[:, 1:] != inks[:, :-1]
    colours[outline] *= rng.uniform(0.45, 0.75)
    rows, columns = inks.shape
    fall = np.linspace(rng.uniform(1.02, 1.1), rng.uniform(0.86, 0.98), rows, dtype=np.float32)
    lean = rng.uniform(-0.07, 0.07)
    across = np.linspace(1 - lean, 1 + lean, columns, dtype=np.float32)
    noise = rng.normal(0, 5, (rows // 4 + 1, columns // 4 + 1)).astype(np.float32)
    noise = noise.repeat(4, axis=0).repeat(4, axis=1)[:rows, :columns]
    return colours * (fall[:, None] * across)[..., None] + noise[..., None]


def stripes(shape: tuple[int, ...], period: float, angle: float) -> np.ndarray:
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    return (x * np.cos(angle) + y * np.sin(angle)) % period < period * 0.45


def spots(shape: tuple[int, ...], period: float, angle: float) -> np.ndarray:
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    along = (x * np.cos(angle) + y * np.sin(angle)) % period - period / 2
    aside = (y * np.cos(angle) - x * np.sin(angle)) % period - period / 2
    return along**2 + aside**2 < (0.32 * period) ** 2


PATTERNS = {"striped": stripes, "spotted": spots}


def majority(owners: np.ndarray, things: int) -> np.ndarray:
    """The thing that most of the 2 x 2 canvas pixels of each photo pixel show; of several the one
    in front."""
    counts = [quarters(owners == number, np.uint8) for number in range(things, -1, -1)]
    return things - np.argmax(counts, axis=0)


def develop(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The canvas at photo size in the scene's light: tint, brightness, vignette, sensor noise."""
    photo = quarters(picture, np.float32) / FINE**2
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in photo.shape[:2])
    vignette = 1 - rng.uniform(0, 0.11) * (x[None, :] ** 2 + y[:, None] ** 2)
    tint = rng.uniform(0.82, 1.12) * rng.uniform(0.97, 1.03, 3)
    photo *= vignette[..., None] * tint.astype(np.float32)
    photo += rng.uniform(1, 5) * rng.standard_normal(photo.shape, dtype=np.float32)
    return np.clip(photo, 0, 255).astype(np.uint8)


def quarters(canvas: np.ndarray, kind: type[np.generic]) -> np.ndarray:
    """Sums of the 2 x 2 canvas pixels of each photo pixel, as numbers of some kind."""
    columns = canvas[:, 0::FINE].astype(kind) + canvas[:, 1::FINE]
    return columns[0::FINE] + columns[1::FINE]
