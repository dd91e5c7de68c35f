"""What stands behind the things. Drawn before anything is known of them, so it hints at nothing."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from vlcam.scenes.colours import RGB

Size = tuple[int, int]
"""(height, width), in pixels."""


def backdrop(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A wall, a plain under a sky, hills or boards, with grain and clutter: float32 (h, w, 3) in
    0..255."""
    style = rng.choice(("wall", "plain", "hills", "boards"))
    image = gradient(muted(rng), muted(rng), rng).resize(size[::-1], Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    height, width = size
    if style == "plain":
        low_ground(draw, size, np.full(2, rng.uniform(0.4, 0.8) * height), muted(rng))
    elif style == "hills":
        for level in sorted(rng.uniform(0.35, 0.85, 3)):
            crest = level * height + rng.uniform(-0.1, 0.1, 6) * height
            low_ground(draw, size, crest, muted(rng))
    elif style == "boards":
        boards(draw, size, muted(rng), rng)
    for _ in range(rng.integers(3, 12)):
        clutter(draw, size, muted(rng), rng)
    picture = np.asarray(image, dtype=np.float32)
    return picture + grain((height, width), rng)[..., None]


def muted(rng: np.random.Generator) -> RGB:
    """A colour too dull to be taken for one of a thing."""
    level = rng.uniform(70, 225)
    red, green, blue = (int(value) for value in np.clip(level + rng.uniform(-32, 32, 3), 0, 255))
    return red, green, blue


def gradient(start: RGB, stop: RGB, rng: np.random.Generator, side: int = 48) -> Image.Image:
    """From one colour to another in a random direction; a small square, to be enlarged."""
    angle = rng.uniform(0, 2 * np.pi)
    at = np.linspace(-0.5, 0.5, side)
    share = np.clip(0.5 + (np.sin(angle) * at[:, None] + np.cos(angle) * at[None, :]) / 1.5, 0, 1)
    mixed = np.array(start) * (1 - share[..., None]) + np.array(stop) * share[..., None]
    return Image.fromarray(mixed.astype(np.uint8))


def low_ground(draw: ImageDraw.ImageDraw, size: Size, crest: np.ndarray, colour: RGB) -> None:
    """Fill everything below a crest given by heights at equal distances."""
    height, width = size
    x = np.arange(width + 8, step=8)
    y = np.interp(x, np.linspace(0, width, len(crest)), crest)
    outline = [*zip(x.tolist(), y.tolist(), strict=True), (width, height), (0, height)]
    draw.polygon(outline, fill=colour)


def boards(draw: ImageDraw.ImageDraw, size: Size, colour: RGB, rng: np.random.Generator) -> None:
    """Parallel seams, upright or level, as of boards, tiles or a fence."""
    height, width = size
    upright = rng.random() < 0.5
    across = width if upright else height
    seam = int(rng.integers(2, 6))
    for at in np.arange(rng.uniform(0, 40), across, rng.uniform(40, 110)).tolist():
        ends = (at, 0, at, height) if upright else (0, at, width, at)
        draw.line(ends, fill=colour, width=seam)


def clutter(draw: ImageDraw.ImageDraw, size: Size, colour: RGB, rng: np.random.Generator) -> None:
    """One shapeless patch, smudge or twig."""
    height, width = size
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    reach = rng.uniform(0.03, 0.16) * min(size)
    kind = rng.integers(3)
    if kind == 0:
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        radii = reach * rng.uniform(0.4, 1, 7)
        points = zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True)
        draw.polygon([(float(px), float(py)) for px, py in points], fill=colour)
    elif kind == 1:
        flat = reach * rng.uniform(0.2, 0.5)
        draw.ellipse((x - reach, y - flat, x + reach, y + flat), fill=colour)
    else:
        dx, dy = rng.uniform(-2, 2, 2) * reach
        draw.line((x, y, x + dx, y + dy), fill=colour, width=int(rng.integers(2, 8)))


def grain(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Soft unevenness at two scales, (h, w), to be added."""
    total = np.zeros(size, dtype=np.float32)
    for cells, strength in ((5, 14.0), (40, 7.0)):
        coarse = rng.normal(0, rng.uniform(0.2, 1) * strength, (cells, cells)).astype(np.float32)
        total += np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR))
    return total
