"""The categories of the scenes: COCO's names and numbers, and how each one is drawn.

A drawing function gets a pen (a frame of 100 x 100 units, facing right), the thing's kind and pose
and a generator for what no caption mentions. Inks named "body", "cap", ... are the thing's parts,
whose colours the scene knows by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vlcam.scenes.colours import BRIGHT, FUR, VEHICLE, jitter
from vlcam.scenes.pen import Pen, Point, arc

Draw = Callable[[Pen, str, str, np.random.Generator], None]


@dataclass(frozen=True)
class Thing:
    """One category.

    Attributes:
        id, name, supercategory: COCO's.
        draw: draws one with a pen, given its kind, its pose and a generator.
        parts: the colours that each part may have.
        kinds: man or woman, of people.
        poses, patterns: what captions may say of it; patterns are those of the part called body.
        mirrored: whether it may face left (writing must not).
        span: the size of the frame it is drawn in; a thing that fills its frame has 1.
    """

    id: int
    name: str
    supercategory: str
    draw: Draw
    parts: dict[str, tuple[str, ...]]
    kinds: tuple[str, ...] = ("",)
    poses: tuple[str, ...] = ("",)
    patterns: tuple[str, ...] = ("plain",)
    mirrored: bool = True
    span: float = 1.0


SKINS = ((247, 212, 184), (232, 184, 144), (196, 140, 98), (140, 90, 58), (92, 58, 40))
HAIRS = ((40, 30, 28), (86, 54, 32), (150, 100, 52), (214, 176, 98), (150, 148, 146))


def person(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    skin = jitter(SKINS[rng.integers(len(SKINS))], 8, rng)
    hair = jitter(HAIRS[rng.integers(len(HAIRS))], 8, rng)
    stride = rng.uniform(9, 13) if pose == "walking" else rng.uniform(4, 5)
    woman = kind == "woman"
    if woman:
        pen.polygon([(40, 8), (60, 8), (63, 30), (37, 30)], hair)
    for side in (-1, 1):
        foot = (50 + side * stride, 95)
        if woman:
            pen.line([(50 + side * 4, 60), foot], 6, skin)
        else:
            pen.line([(50 + side * 5, 54), (50 + side * (stride + 4) / 2, 74), foot], 9.5, "legs")
        pen.oval(foot[0] + 3, 97, 6.5, 3, "night")
    swing = rng.uniform(2, 8)
    arms = {-1: (36 - swing, 56.0), 1: (64 + swing, 56.0)}
    if pose == "waving":
        arms[1] = (72 + swing, 8.0)
    for side, hand in arms.items():
        shoulder = (50 + side * 11, 31)
        elbow = ((shoulder[0] + hand[0]) / 2 + side * 3, (shoulder[1] + hand[1]) / 2)
        pen.line([shoulder, elbow, hand], 6, skin)
        pen.line([shoulder, elbow], 7.5, "dark shirt")
    if woman:
        pen.polygon([(40, 27), (60, 27), (59, 45), (70, 73), (30, 73), (41, 45)], "shirt")
    else:
        pen.blob([(38, 28), (50, 25.5), (62, 28), (62, 42), (60.5, 59), (39.5, 59), (38, 42)],
                 "shirt")  # fmt: skip
    pen.box(46.5, 21, 53.5, 27, skin)
    pen.oval(50, 14, 8.6, 10, skin)
    pen.polygon(arc(50, 12, 9.4, 10, 175, 365), hair)
    pen.dot(47, 14.5, 1.1, "night")
    pen.dot(54, 14.5, 1.1, "night")
    pen.line([(48.5, 19.5), (52.5, 19.5)], 1, (170, 70, 70))


def four_legs(pen: Pen, pose: str, rng: np.random.Generator, *, xs: tuple[float, ...], top: float,
              foot: float, width: float) -> None:  # fmt: skip
    """Two far legs in a darker shade, two near ones, at ``xs``; a walking animal's are spread."""
    reach = rng.uniform(4, 7) if pose == "walking" else rng.uniform(0, 1.5)
    for number, (x, way) in enumerate(zip(xs, (-1, 1, 1, -1), strict=True)):
        ink = "dark body" if number < 2 else "body"
        pen.line([(x, top), (x + way * reach / 2, (top + foot) / 2), (x + way * reach, foot)],
                 width, ink)  # fmt: skip


def dog(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    wag = rng.uniform(-6, 6)
    if pose == "sitting":
        pen.line([(28, 88), (16, 80), (10 + wag / 2, 66)], 5.5, "body")
        pen.blob([(58, 40), (66, 58), (64, 92), (26, 94), (24, 78), (36, 58), (46, 44)], "body")
        pen.blob([(24, 78), (36, 70), (48, 80), (50, 95), (26, 95)], "dark body")
        pen.line([(60, 60), (62, 94)], 8, "body")
        pen.oval(65, 95, 6, 3, "body")
        head: Point = (62, 28)
    else:
        pen.line([(20, 46), (10, 34), (8 + wag, 22)], 5.5, "body")
        four_legs(pen, pose, rng, xs=(30, 66, 24, 72), top=58, foot=94, width=8)
        pen.blob([(18, 44), (40, 40), (66, 38), (78, 44), (77, 60), (60, 65), (40, 62), (22, 66),
                  (16, 56)], "body")  # fmt: skip
        pen.line([(70, 50), (77, 34)], 15, "body")
        head = (79, 28)
    x, y = head
    pen.line([(x - 9, y + 13), (x + 5, y + 15)], 4.5, "collar")
    pen.oval(x, y, 12.5, 11.5, "body")
    pen.blob([(x + 5, y - 4), (x + 20, y), (x + 21, y + 7), (x + 14, y + 10), (x + 3, y + 9)],
             "light body")  # fmt: skip
    pen.oval(x + 20, y + 1, 3.4, 2.8, "nose")
    pen.line([(x + 19, y + 7), (x + 11, y + 7)], 1, "nose")
    pen.dot(x + 5, y - 4, 2.1, "snow")
    pen.dot(x + 5.6, y - 4, 1.4, "night")
    pen.blob([(x - 9, y - 10), (x - 2, y - 9), (x - 2, y + 6), (x - 7, y + 14), (x - 13, y + 8),
              (x - 13, y - 4)], "dark body")  # fmt: skip


def cat(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    curl = rng.uniform(-4, 4)
    if pose == "sitting":
        pen.line([(62, 90), (78, 88), (86 + curl, 74), (80, 60 + curl), (86, 50)], 6, "body")
        pen.blob([(50, 36), (64, 50), (70, 76), (66, 94), (34, 94), (30, 76), (36, 50)], "body")
        for x in (43.0, 57.0):
            pen.line([(x, 70), (x, 93)], 8, "light body")
            pen.oval(x, 94.5, 6, 3.5, "light body")
        x, y = 50.0, 28.0
    else:
        pen.line([(18, 50), (8, 36), (10 + curl, 20), (18, 10)], 5.5, "body")
        four_legs(pen, pose, rng, xs=(28, 60, 22, 66), top=60, foot=93, width=7)
        pen.blob([(14, 52), (34, 46), (60, 46), (72, 50), (70, 66), (50, 67), (26, 68), (15, 64)],
                 "body")  # fmt: skip
        x, y = 76.0, 40.0
    for side in (-1, 1):
        pen.polygon([(x + side * 4, y - 11), (x + side * 16, y - 25), (x + side * 17, y - 3)],
                    "body")  # fmt: skip
        pen.polygon([(x + side * 8, y - 11), (x + side * 14.5, y - 20), (x + side * 15, y - 6)],
                    "blush")  # fmt: skip
    pen.oval(x, y, 19, 15.5, "body")
    pen.oval(x, y + 7, 8.5, 5.5, "snow")
    for side in (-1, 1):
        pen.oval(x + side * 8, y - 3, 4, 4.4, (150, 200, 90))
        pen.oval(x + side * 8, y - 3, 1.4, 4, "night")
        for tilt in (-2.5, 0.5, 3.5):
            pen.line([(x + side * 7, y + 6), (x + side * 24, y + 5 + tilt)], 0.9, "light steel")
    pen.polygon([(x - 2.6, y + 3), (x + 2.6, y + 3), (x, y + 6)], "blush")


def bird(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    if pose == "flying":
        lift = rng.uniform(-8, 8)
        pen.polygon([(48, 50), (20, 8 - lift), (40, 4 - lift), (66, 46)], "dark body")
        pen.polygon([(30, 54), (4, 44), (2, 58), (8, 64)], "dark body")
        pen.blob([(24, 54), (46, 44), (74, 44), (84, 50), (70, 62), (44, 64)], "body")
        pen.blob([(40, 54), (8, 24 + lift), (24, 14 + lift), (46, 22), (66, 48)], "light body")
        pen.dot(80, 46, 9, "body")
        pen.polygon([(88, 42), (99, 47), (88, 50)], "beak")
        pen.dot(82, 44, 1.8, "night")
        return
    for x in (48, 56):
        pen.line([(x, 72), (x + 2, 92), (x + 8, 93)], 2.2, "beak")
    pen.polygon([(30, 56), (4, 70), (8, 80), (36, 70)], "dark body")
    pen.blob([(24, 64), (38, 46), (60, 38), (76, 42), (76, 62), (60, 76), (40, 76)], "body")
    pen.blob([(60, 66), (76, 54), (76, 62), (62, 75), (48, 76)], "light body")
    pen.dot(70, 34, 14, "body")
    pen.polygon([(82, 29), (97, 35), (82, 39)], "beak")
    pen.dot(75, 31, 3, "snow")
    pen.dot(75.6, 31, 2, "night")
    pen.blob([(30, 60), (44, 50), (60, 54), (54, 66), (34, 72), (18, 74)], "dark body")


def sheep(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    for x in (30.0, 64.0, 38.0, 56.0):
        pen.line([(x, 66), (x, 92)], 5.5, "night")
    angles = np.arange(11) * 2 * math.pi / 11 + rng.uniform(0, 1)
    pen.oval(47, 52, 31, 21, "body")
    for angle in angles:
        pen.dot(47 + 30 * math.cos(angle), 52 + 19 * math.sin(angle), 9.5, "body")
    for angle in angles[::2]:
        x, y = 47 + 16 * math.cos(angle), 52 + 9 * math.sin(angle)
        pen.ring(x, y, 5, 1.3, "dark body", 20, 200)
    pen.oval(84, 44, 9, 13, (62, 54, 54), -18)
    for x, tilt in ((73, 25), (92, -35)):
        pen.oval(x, 35, 7, 3.4, (62, 54, 54), tilt)
    pen.dot(80, 32, 7.5, "body")
    pen.dot(87, 32, 6.5, "body")
    for x in (82, 89):
        pen.dot(x, 43, 2.2, "snow")
        pen.dot(x + 0.4, 43.4, 1.2, "night")


def equine(pen: Pen, pose: str, rng: np.random.Generator) -> None:
    """What a horse and a zebra share."""
    swish = rng.uniform(-4, 4)
    pen.line([(14, 42), (7, 54), (8 + swish, 72)], 4.5, "mane")
    four_legs(pen, pose, rng, xs=(28, 62, 22, 67), top=58, foot=93, width=6.5)
    for x in (22, 67):
        pen.oval(x + 1, 95.5, 4.5, 2.6, "night")
    pen.blob([(12, 42), (26, 36), (46, 40), (64, 36), (73, 46), (70, 60), (52, 63), (34, 62),
              (18, 62), (12, 54)], "body")  # fmt: skip
    pen.polygon([(56, 44), (72, 10), (84, 16), (74, 56)], "body")
    pen.line([(70, 8), (60, 26), (54, 40)], 6, "mane")
    pen.polygon([(73, 12), (74, 1), (79, 10)], "body")
    pen.blob([(71, 12), (80, 7), (88, 16), (97, 29), (93, 36), (85, 33), (74, 24)], "body")
    pen.oval(93, 31, 4.8, 4.6, "nose")
    pen.dot(82, 15, 1.9, "night")


def horse(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    equine(pen, pose, rng)


def zebra(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    equine(pen, pose, rng)
    shift = rng.uniform(-2, 2)
    for x in np.arange(18.0, 70.0, 8.0).tolist():
        lean = (x - 40) / 12
        pen.polygon([(x + shift - 2.4, 41), (x + shift + 2.4, 41), (x + shift + lean, 60)], "night")
    for step in range(4):
        x, y = 59 + step * 3.6, 42 - step * 8
        pen.polygon([(x, y), (x + 1.6, y - 3.6), (x + 16, y + 4)], "night")
    for knee in ((22, 70), (22, 80), (67, 70), (67, 80)):
        pen.line([(knee[0] - 3, knee[1]), (knee[0] + 3, knee[1])], 3, "night")
    pen.line([(84, 20), (90, 16)], 2, "night")


def wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.dot(x, y, radius, "tyre")
    pen.dot(x, y, radius * 0.55, "metal")
    pen.dot(x, y, radius * 0.2, "steel")


def car(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    back = rng.uniform(16, 26)
    pen.polygon([(back, 50), (back + 13, 31), (62, 31), (80, 51)], "body")
    pen.polygon([(back + 6, 50), (back + 16, 35), (46, 35), (46, 50)], "glass")
    pen.polygon([(50, 50), (50, 35), (61, 35), (74, 50)], "glass")
    pen.blob([(3, 54), (10, 49), (50, 48), (80, 49), (96, 54), (98, 66), (92, 71), (50, 71),
              (8, 71), (2, 66)], "body")  # fmt: skip
    pen.box(47.4, 50, 48.6, 68, "dark body")
    pen.line([(52, 55), (57, 55)], 1.6, "dark body")
    pen.oval(95, 57, 3, 3.4, "lamp")
    pen.oval(4.5, 57, 2.2, 3.2, (190, 30, 30))
    wheel(pen, 24, 70, 10.5)
    wheel(pen, 77, 70, 10.5)


def bus(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    pen.panel(2, 22, 98, 76, "body", 6)
    pen.box(2, 56, 98, 63, "stripe")
    windows = int(rng.integers(4, 6))
    pitch = 70 / windows
    for number in range(windows):
        left = 7 + number * pitch
        pen.panel(left, 29, left + pitch - 3, 47, "glass", 2)
    pen.panel(80, 29, 95, 73, "dark body", 2)
    pen.panel(81.5, 31, 87, 71, "glass", 1)
    pen.panel(88, 31, 93.5, 71, "glass", 1)
    pen.oval(96, 69, 2.4, 3, "lamp")
    wheel(pen, 22, 76, 9.5)
    wheel(pen, 68, 76, 9.5)


def bicycle(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    spin = rng.uniform(0, 60)
    hubs: tuple[Point, Point] = ((23, 66), (77, 66))
    for x, y in hubs:
        pen.dot(x, y, 20, "light metal")
        for angle in np.radians(spin + np.arange(0, 180, 30)):
            across, down = 18 * math.cos(angle), 18 * math.sin(angle)
            pen.line([(x - across, y - down), (x + across, y + down)], 0.9, "metal")
        pen.ring(x, y, 19.5, 4.4, "tyre")
        pen.dot(x, y, 2.6, "steel")
    saddle, crank, head = (39, 38), (47, 66), (69, 38)
    for points in (
        [hubs[0], saddle, head, crank, hubs[0]],
        [saddle, crank],
        [(67, 30), head, hubs[1]],
    ):
        pen.line(points, 4.2, "body")
    pen.line([saddle, (37, 31)], 3, "steel")
    pen.blob([(28, 28), (38, 26), (48, 29), (38, 33), (30, 33)], "night")
    pen.line([(67, 30), (75, 26), (81, 29)], 3.4, "night")
    pen.dot(47, 66, 5, "steel")
    pen.line([(47, 66), (52, 76), (57, 76)], 2.2, "night")


def airplane(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    pen.polygon([(50, 44), (32, 20), (40, 20), (66, 44)], "dark body")
    pen.polygon([(4, 24), (14, 24), (30, 46), (10, 48)], "tail")
    pen.blob([(4, 44), (30, 40), (70, 40), (88, 43), (98, 51), (88, 58), (60, 60), (26, 56)],
             "body")  # fmt: skip
    pen.polygon([(4, 46), (-4, 40), (4, 40), (20, 48)], "tail")
    for x in range(26, 78, 7):
        pen.oval(x, 47.5, 1.8, 2.4, "night")
    pen.polygon([(84, 44.5), (90, 45), (94, 49), (85, 49)], "glass")
    pen.polygon([(40, 53), (66, 53), (34, 84), (24, 84)], "light body")
    pen.oval(45, 71, 8, 3.8, "steel")
    pen.oval(52, 71, 2, 3.8, "night")


def boat(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    reach = rng.uniform(-5, 4)
    pen.line([(48, 6), (48, 74)], 3, "wood")
    pen.polygon([(51, 8), (86 + reach, 66), (51, 66)], "sail")
    pen.polygon([(45, 16), (45, 66), (18 - reach, 66)], "light sail")
    pen.polygon([(48, 2), (62, 5), (48, 9)], (206, 52, 48))
    pen.polygon([(4, 72), (96, 72), (82, 93), (20, 93)], "body")
    pen.polygon([(4, 72), (96, 72), (93, 77), (7, 77)], "dark body")


UNLIT = {"red": (74, 26, 26), "yellow": (84, 72, 24), "green": (22, 66, 36)}


def traffic_light(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    pen.box(47, 66, 53, 98, "steel")
    pen.box(41, 95, 59, 99, "steel")
    pen.panel(33, 2, 67, 72, "body", 6)
    for number, (name, unlit) in enumerate(UNLIT.items()):
        y = 14 + number * 23
        pen.polygon([(33, y - 8), (26, y - 4), (33, y)], "dark body")
        pen.polygon([(67, y - 8), (74, y - 4), (67, y)], "dark body")
        pen.dot(50, y, 10.5, "night")
        pen.dot(50, y, 9, f"lit-{name}" if name == pose else unlit)
        if name == pose:
            pen.dot(47, y - 3, 2.4, "snow")


def fire_hydrant(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    pen.panel(26, 90, 74, 98, "dark body", 2)
    pen.panel(33, 36, 67, 92, "body", 3)
    pen.box(30, 80, 70, 85, "dark body")
    pen.box(20, 48, 80, 62, "body")
    for x in (20, 80):
        pen.panel(x - 5, 46, x + 5, 64, "cap", 2)
    pen.dot(50, 55, 11.5, "dark body")
    pen.dot(50, 55, 8.5, "cap")
    pen.dot(50, 55, 3, "steel")
    pen.panel(27, 30, 73, 38, "dark cap", 2)
    pen.polygon(arc(50, 31, 20, 20, 180, 360), "cap")
    pen.panel(45, 4, 55, 13, "cap", 2)


def octagon(x: float, y: float, radius: float) -> list[Point]:
    angles = [math.radians(22.5 + 45 * corner) for corner in range(8)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def stop_sign(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    pen.box(47, 60, 53, 99, "metal")
    pen.polygon(octagon(50, 34, 34), "snow")
    pen.polygon(octagon(50, 34, 31), "body")
    weight, top, bottom = 3.4, 26.0, 42.0
    middle = (top + bottom) / 2
    letters: list[list[Point]] = [
        [(34, 28), (31, top), (27, top), (25, 30), (33, 38), (31, bottom), (27, bottom),
         (24.5, 40)],
        [(37, top), (47, top)],
        [(42, top), (42, bottom)],
        [(53, top), (57, top), (59, middle - 3), (59, middle + 3), (57, bottom), (53, bottom),
         (51, middle + 3), (51, middle - 3), (53, top)],
        [(65, bottom), (65, top), (72, top), (74, 29), (72, middle), (65, middle)],
    ]  # fmt: skip
    for letter in letters:
        pen.line(letter, weight, "snow")


def bench(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    for x in (14, 86):
        pen.line([(x, 28), (x, 86)], 4, "night")
        pen.line([(x, 64), (x + (4 if x > 50 else -4), 86)], 4, "night")
        pen.line([(x - 4, 52), (x + 4, 52)], 4, "night")
    slats = int(rng.integers(2, 4))
    for number in range(slats):
        y = 28 + number * 24 / slats
        pen.panel(4, y, 96, y + 24 / slats - 2, "body", 2)
    pen.panel(2, 57, 98, 63, "light body", 2)
    pen.panel(2, 64, 98, 70, "body", 2)


def umbrella(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    pen.line([(50, 4), (50, 86)], 2.8, "wood")
    pen.ring(56, 86, 6, 2.8, "wood", 0, 180)
    panels = 6
    edges = 50 + 46 * np.sin(np.radians(np.linspace(-90, 90, panels + 1)))
    rim, crown = 50.0, 9.0
    for number, (left, right) in enumerate(pairwise(edges)):
        lower = arc((left + right) / 2, rim, (right - left) / 2, 5, 180, 360, 10)
        rising = meridian(right, rim, crown)
        falling = meridian(left, rim, crown)[::-1]
        outline = np.concatenate([lower, rising, falling])
        pen.polygon(outline, "body" if number % 2 == 0 else "panels")
    pen.line([(50, 4), (50, 10)], 2.8, "steel")


def meridian(x: float, rim: float, crown: float) -> np.ndarray:
    """From the rim of a dome up to its crown, (9, 2)."""
    angles = np.radians(np.linspace(0, 90, 9))
    return np.stack([50 + (x - 50) * np.cos(angles), rim - (rim - crown) * np.sin(angles)], axis=1)


def kite(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    wave = rng.uniform(-6, 6)
    tail: list[Point] = [(50, 66), (46 + wave, 76), (54 - wave, 86), (48 + wave, 97)]
    pen.line(tail, 1.6, "steel")
    for (x, y), ink in zip(tail[1:], ("body", "other", "body"), strict=True):
        pen.polygon([(x, y), (x - 8, y - 4), (x - 8, y + 4)], ink)
        pen.polygon([(x, y), (x + 8, y - 4), (x + 8, y + 4)], ink)
    top, right, low, left, heart = (50, 1), (80, 26), (50, 66), (20, 26), (50, 26)
    pen.polygon([top, right, heart], "body")
    pen.polygon([heart, right, low], "other")
    pen.polygon([heart, low, left], "body")
    pen.polygon([top, heart, left], "other")
    pen.line([top, low], 1.5, "night")
    pen.line([left, right], 1.5, "night")


def pizza(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    start, stop = (20, 340) if pose == "cut" else (0, 360)
    turn = rng.uniform(0, 360)
    for radius, ink in ((46, (196, 132, 66)), (41, (206, 74, 40)), (38.5, (248, 208, 96))):
        slice_ = arc(50, 50, radius, radius, start + turn, stop + turn, 60)
        pen.polygon(np.concatenate([[(50.0, 50.0)], slice_]), ink)
    toppings = ((0, 0.62), (45, 0.33), (90, 0.68), (140, 0.4), (180, 0.72), (225, 0.36),
                (262, 0.66), (310, 0.42))  # fmt: skip
    for angle, out in toppings:
        spot = math.radians(turn + 8 + angle * (0.9 if pose == "cut" else 1) + 18)
        x, y = 50 + 38 * out * math.cos(spot), 50 + 38 * out * math.sin(spot)
        pen.dot(x, y, 5.6, (188, 44, 34))
        pen.dot(x - 1, y - 1, 3.8, (208, 70, 52))
    for _ in range(7):
        spot, far = math.radians(turn + rng.uniform(25, 335)), rng.uniform(8, 35)
        x, y = 50 + far * math.cos(spot), 50 + far * math.sin(spot)
        pen.oval(x, y, 3.2, 1.5, "leaf", rng.uniform(0, 180))


def clock(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    pen.dot(50, 50, 47, "body")
    pen.dot(50, 50, 39, "snow")
    for hour in range(12):
        angle = math.radians(hour * 30)
        inner = 30 if hour % 3 == 0 else 33
        ends = [(50 + r * math.cos(angle), 50 + r * math.sin(angle)) for r in (inner, 36)]
        pen.line(ends, 3.2 if hour % 3 == 0 else 1.8, "night")
    minutes = rng.uniform(0, 720)
    for turn, length, width in ((minutes / 720, 19, 4.2), (minutes / 60, 29, 2.8)):
        angle = 2 * math.pi * turn
        pen.line([(50, 50), (50 + length * math.cos(angle), 50 + length * math.sin(angle))],
                 width, "night")  # fmt: skip
    pen.dot(50, 50, 3.4, (190, 40, 40))


def apple(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    pen.blob([(50, 26), (62, 19), (82, 24), (90, 46), (80, 76), (62, 92), (50, 88), (38, 92),
              (20, 76), (10, 46), (18, 24), (38, 19)], "body")  # fmt: skip
    pen.blob([(20, 42), (27, 30), (33, 32), (28, 46), (24, 54)], "light body")
    pen.blob([(40, 25), (50, 29), (60, 25), (50, 32)], "dark body")
    pen.line([(50, 28), (52, 16), (57, 6)], 4, "wood")
    pen.blob([(54, 18), (66, 6), (82, 6), (76, 17), (64, 21)], "leaf")


def banana(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    bow = rng.uniform(-3, 3)
    pen.blob([(6, 26), (13, 22), (22, 42), (44, 58 + bow), (70, 56 + bow), (90, 40), (96, 43),
              (90, 60), (66, 79 + bow), (36, 76 + bow), (14, 56)], "body")  # fmt: skip
    pen.blob([(18, 52), (36, 68 + bow), (66, 69 + bow), (90, 54), (66, 79 + bow), (36, 76 + bow),
              (18, 60)], "dark body")  # fmt: skip
    pen.polygon([(4, 16), (11, 14), (15, 27), (6, 30)], (112, 96, 44))
    pen.dot(94, 42, 3.6, "nose")


def cup(pen: Pen, kind: str, pose: str, rng: np.random.Generator) -> None:
    pen.ring(76, 54, 15, 6.5, "dark body", -90, 90)
    pen.polygon(np.concatenate([arc(44, 26, 34, 7, 180, 360, 16), arc(44, 86, 28, 6, 0, 180, 16)]),
                "body")  # fmt: skip
    pen.oval(44, 26, 34, 7.5, "light body")
    pen.oval(44, 27, 29, 5.6, (84, 50, 32))


CALM = ("standing", "walking")
SEATED = ("standing", "sitting")

THINGS: tuple[Thing, ...] = (
    Thing(1, "person", "person", person, {"shirt": BRIGHT, "legs": ("blue", "black", "gray")},
          ("man", "woman"), ("standing", "walking", "waving"),
          ("plain", "plain", "striped", "spotted"), span=1.1),
    Thing(2, "bicycle", "vehicle", bicycle, {"body": VEHICLE}, span=1.05),
    Thing(3, "car", "vehicle", car, {"body": VEHICLE}),
    Thing(5, "airplane", "vehicle", airplane, {"body": VEHICLE, "tail": VEHICLE}, span=1.05),
    Thing(6, "bus", "vehicle", bus, {"body": VEHICLE, "stripe": VEHICLE}),
    Thing(9, "boat", "vehicle", boat, {"body": VEHICLE, "sail": BRIGHT}),
    Thing(10, "traffic light", "outdoor", traffic_light, {"body": ("black", "yellow", "gray")},
          poses=("red", "yellow", "green"), span=1.1),
    Thing(11, "fire hydrant", "outdoor", fire_hydrant, {"body": BRIGHT, "cap": BRIGHT}),
    Thing(13, "stop sign", "outdoor", stop_sign, {"body": ("red",)},
          mirrored=False),
    Thing(15, "bench", "outdoor", bench, {"body": (*VEHICLE, "brown")}),
    Thing(16, "bird", "animal", bird, {"body": BRIGHT}, poses=("standing", "flying"), span=0.9),
    Thing(17, "cat", "animal", cat, {"body": FUR}, poses=SEATED,
          patterns=("plain", "plain", "striped", "spotted")),
    Thing(18, "dog", "animal", dog, {"body": FUR, "collar": BRIGHT}, poses=SEATED,
          patterns=("plain", "plain", "spotted")),
    Thing(19, "horse", "animal", horse, {"body": ("brown", "black", "white", "gray"),
          "mane": ("black",)}, poses=CALM, patterns=("plain", "plain", "spotted"), span=1.05),
    Thing(20, "sheep", "animal", sheep, {"body": ("white", "black", "brown", "gray")}, span=0.95),
    Thing(24, "zebra", "animal", zebra, {"body": ("white",), "mane": ("black",)}, poses=CALM,
          span=1.05),
    Thing(28, "umbrella", "accessory", umbrella, {"body": BRIGHT, "panels": BRIGHT}),
    Thing(38, "kite", "sports", kite, {"body": BRIGHT, "other": BRIGHT}, span=1.1),
    Thing(47, "cup", "kitchen", cup, {"body": BRIGHT}, span=0.85,
          patterns=("plain", "plain", "striped", "spotted")),
    Thing(52, "banana", "food", banana, {"body": ("yellow", "green")}, span=0.95),
    Thing(53, "apple", "food", apple, {"body": ("red", "green", "yellow")}, span=0.75),
    Thing(59, "pizza", "food", pizza, {}, poses=("whole", "cut"), span=0.85),
    Thing(85, "clock", "indoor", clock, {"body": BRIGHT}, span=0.8),
)  # fmt: skip

THING = {thing.name: thing for thing in THINGS}
