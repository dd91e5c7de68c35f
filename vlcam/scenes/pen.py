"""Drawing one thing, once: shapes in a frame of 100 x 100 units, turned into a sprite of inks.

A sprite does not hold colours but, at each pixel, the number of the ink that covers it (0: none).
Its picture and its mask both follow from this one array, so they cannot disagree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from vlcam.scenes.colours import RGB, Paint, darker, lighter

Point = tuple[float, float]
Ink = str | RGB

FIXED: dict[str, RGB] = {
    "tyre": (38, 38, 42),
    "metal": (158, 164, 172),
    "steel": (92, 98, 108),
    "glass": (186, 216, 232),
    "night": (28, 28, 34),
    "snow": (247, 247, 243),
    "wood": (142, 94, 54),
    "beak": (240, 158, 40),
    "nose": (40, 32, 34),
    "blush": (238, 158, 164),
    "lamp": (252, 232, 150),
    "leaf": (70, 140, 58),
    "lit-red": (236, 38, 34),
    "lit-yellow": (255, 214, 40),
    "lit-green": (48, 214, 92),
}


@dataclass(frozen=True)
class Sprite:
    """A drawn thing, cropped to what was drawn.

    Attributes:
        inks: the number of the ink at each pixel, (h, w); 0: none.
        paints: that of ink number k + 1 at index k.
        parts: the ink's name likewise, without "dark" or "light"; empty for an ink that was given
            as red, green and blue.
    """

    inks: np.ndarray
    paints: tuple[Paint, ...]
    parts: tuple[str, ...]


class Pen:
    """Draws in a frame of 100 x 100 units, x to the right and y down, facing right.

    The frame is scaled to ``size`` pixels, mirrored if ``flip``, then turned by ``angle`` degrees.
    Inks are given by the name of one of the thing's own paints, of one of the ``FIXED`` ones (both
    also as "dark NAME" or "light NAME"), or as red, green and blue.
    """

    def __init__(
        self, paints: Mapping[str, Paint], size: float, angle: float = 0.0, flip: bool = False
    ) -> None:
        side = math.ceil(size * 1.7)
        self._image = Image.new("L", (side, side))
        self._draw = ImageDraw.Draw(self._image)
        self._own = paints
        self._inks: list[tuple[str, Paint]] = []
        turn = math.radians(angle)
        unit = size / 100
        mirror = -unit if flip else unit
        self._matrix = np.array(
            [
                [math.cos(turn) * mirror, math.sin(turn) * mirror],
                [-math.sin(turn) * unit, math.cos(turn) * unit],
            ]
        )
        self._middle = side / 2

    def sprite(self) -> Sprite:
        """What was drawn, cropped to it."""
        left, top, right, bottom = self._image.getbbox() or (0, 0, 1, 1)
        parts, paints = zip(*self._inks, strict=True)
        return Sprite(np.asarray(self._image)[top:bottom, left:right], paints, parts)

    # The shapes. All end as polygons, so that turning and mirroring need no care.

    def polygon(self, points: Sequence[Point] | np.ndarray, ink: Ink) -> None:
        placed = (np.asarray(points, dtype=float) - 50) @ self._matrix + self._middle
        self._draw.polygon(placed.ravel().tolist(), fill=self._number(ink))

    def box(self, left: float, top: float, right: float, bottom: float, ink: Ink) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], ink)

    def panel(
        self, left: float, top: float, right: float, bottom: float, ink: Ink, corner: float = 5
    ) -> None:
        """A box with rounded corners."""
        arcs = [
            arc(right - corner, top + corner, corner, corner, -90, 0, 6),
            arc(right - corner, bottom - corner, corner, corner, 0, 90, 6),
            arc(left + corner, bottom - corner, corner, corner, 90, 180, 6),
            arc(left + corner, top + corner, corner, corner, 180, 270, 6),
        ]
        self.polygon(np.concatenate(arcs), ink)

    def oval(
        self, x: float, y: float, across: float, down: float, ink: Ink, tilt: float = 0.0
    ) -> None:
        """An ellipse about (x, y) with half axes ``across`` and ``down``, turned clockwise."""
        points = arc(0, 0, across, down, 0, 360)
        turn = math.radians(tilt)
        spin = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        self.polygon(points @ spin + (x, y), ink)

    def dot(self, x: float, y: float, radius: float, ink: Ink) -> None:
        self.polygon(arc(x, y, radius, radius, 0, 360, 24), ink)

    def ring(
        self,
        x: float,
        y: float,
        radius: float,
        width: float,
        ink: Ink,
        start: float = 0,
        stop: float = 360,
    ) -> None:
        """Part of a circle's line; angles in degrees, clockwise from the right."""
        outer = arc(x, y, radius + width / 2, radius + width / 2, start, stop)
        inner = arc(x, y, radius - width / 2, radius - width / 2, start, stop)
        self.polygon(np.concatenate([outer, inner[::-1]]), ink)

    def line(self, points: Sequence[Point] | np.ndarray, width: float, ink: Ink) -> None:
        """A line of some width with round ends and joints."""
        corners = np.asarray(points, dtype=float)
        for start, end in pairwise(corners):
            along = end - start
            length = math.hypot(*along)
            if length > 0:
                aside = np.array([-along[1], along[0]]) / length * width / 2
                self.polygon([start + aside, end + aside, end - aside, start - aside], ink)
        for x, y in corners:
            self.dot(x, y, width / 2, ink)

    def blob(self, points: Sequence[Point], ink: Ink) -> None:
        """A smooth closed outline through the points."""
        self.polygon(smooth(points), ink)

    def _number(self, ink: Ink) -> int:
        named = self._mixed(ink)
        if named not in self._inks:
            self._inks.append(named)
        return self._inks.index(named) + 1

    def _mixed(self, ink: Ink) -> tuple[str, Paint]:
        if not isinstance(ink, str):
            return "", Paint(ink)
        change, _, name = ink.rpartition(" ")
        paint = self._own[name] if name in self._own else Paint(FIXED[name])
        if change == "dark":
            paint = Paint(darker(paint.rgb))
        elif change == "light":
            paint = Paint(lighter(paint.rgb))
        return name, paint


def arc(
    x: float, y: float, across: float, down: float, start: float, stop: float, steps: int = 40
) -> np.ndarray:
    """Points (steps + 1, 2) on an ellipse; angles in degrees, clockwise from the right."""
    angles = np.radians(np.linspace(start, stop, steps + 1))
    return np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], axis=1)


def smooth(points: Sequence[Point], steps: int = 6) -> np.ndarray:
    """A closed Catmull-Rom curve through the points, (len(points) * steps, 2)."""
    now = np.asarray(points, dtype=float)[:, None]
    before, after, beyond = (np.roll(now, shift, axis=0) for shift in (1, -1, -2))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    slope, bend, twist = (
        after - before,
        2 * before - 5 * now + 4 * after - beyond,
        3 * (now - after) + beyond - before,
    )
    return (now + (slope * t + bend * t**2 + twist * t**3) / 2).reshape(-1, 2)
