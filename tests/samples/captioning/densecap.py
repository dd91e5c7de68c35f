"""Photos of coloured squares for dense captioners."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from captioning.models import densecap

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
SIDE = 96
BUNDLED_CAPTIONER = densecap.BUNDLED.parents[1] / "bundled" / "scenes"


def squares(folder: Path, count: int, seed: int) -> list[dict[str, object]]:
    """Grey photos with a red and a blue square each, and their entries in Visual Genome's form."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries = []
    for number in range(1, count + 1):
        picture = np.full((SIDE, SIDE, 3), 128, np.uint8)
        regions = []
        for half, name in enumerate(rng.permutation(list(COLOURS)).tolist()):
            size = int(rng.integers(26, 40))
            x = int(rng.integers(0, SIDE // 2 - size)) + half * SIDE // 2
            y = int(rng.integers(0, SIDE - size))
            picture[y : y + size, x : x + size] = COLOURS[name]
            box = {"x": x, "y": y, "width": size, "height": size}
            regions.append({"phrase": f"a {name} square", **box})
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
        entries.append({"id": number, "regions": regions})
    return entries
