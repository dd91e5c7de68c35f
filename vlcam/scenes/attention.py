"""Simulated human attention: what people might uncover of a blurred photo to answer a question.

In VQA-HAT people sharpen a blurred photo stroke by stroke until they can answer. Here strokes are
drawn at random around the things that show the answer, never exactly on them. Nobody was asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vlcam.scenes.scene import Item

VIEWERS = 3  # maps per question


def attention(items: Sequence[Item], rng: np.random.Generator) -> np.ndarray:
    """One viewer's map for a question that these things answer: uint8 (H, W), at photo size."""
    rows, columns = items[0].mask.shape
    image = Image.new("L", (columns, rows))
    draw = ImageDraw.Draw(image)
    brush = rng.uniform(0.05, 0.09) * min(rows, columns)
    for item in items:
        visible = np.argwhere(item.mask)
        for _ in range(rng.integers(5, 11)):
            ends = visible[rng.integers(len(visible), size=2)][:, ::-1]
            stroke(draw, ends + rng.normal(0, brush / 2, (2, 2)), brush)
    if rng.random() < 0.4:  # a look at something else
        start = rng.uniform((0, 0), (columns, rows))
        stroke(draw, np.stack([start, start + rng.normal(0, 2 * brush, 2)]), brush)
    soft = image.filter(ImageFilter.GaussianBlur(brush * 0.8))
    return np.asarray(soft)


def stroke(draw: ImageDraw.ImageDraw, ends: np.ndarray, brush: float) -> None:
    draw.line(ends.ravel().tolist(), fill=255, width=round(2 * brush))
    for x, y in ends.tolist():
        draw.ellipse((x - brush, y - brush, x + brush, y + brush), fill=255)
