"""The eleven colours things are painted in, by the names captions use for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (208, 34, 38),
    "orange": (240, 134, 28),
    "yellow": (245, 213, 48),
    "green": (52, 150, 64),
    "blue": (38, 92, 205),
    "purple": (124, 52, 158),
    "pink": (244, 138, 182),
    "brown": (122, 74, 40),
    "black": (36, 35, 40),
    "white": (243, 243, 238),
    "gray": (139, 143, 149),
}

BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white")
VEHICLE = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white", "gray")
FUR = ("brown", "black", "white", "gray", "orange")


@dataclass(frozen=True)
class Paint:
    """The paint of one part: a colour, and a second one where it is striped or spotted."""

    rgb: RGB
    pattern: str = "plain"  # "plain", "striped" or "spotted"
    second: RGB = (0, 0, 0)


def shade(name: str, rng: np.random.Generator) -> RGB:
    """One of the many shades that go by this name."""
    return jitter(COLOURS[name], 11, rng)


def jitter(rgb: RGB, spread: int, rng: np.random.Generator) -> RGB:
    """A neighbour of a colour: a common change of brightness and a smaller one of hue."""
    moved = np.array(rgb) + rng.uniform(-spread, spread) + rng.uniform(-spread, spread, 3) / 2
    red, green, blue = (int(value) for value in np.clip(moved, 0, 255))
    return red, green, blue


def darker(rgb: RGB, factor: float = 0.72) -> RGB:
    return int(rgb[0] * factor), int(rgb[1] * factor), int(rgb[2] * factor)


def lighter(rgb: RGB, share: float = 0.35) -> RGB:
    red, green, blue = (int(value + (255 - value) * share) for value in rgb)
    return red, green, blue
