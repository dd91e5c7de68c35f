"""How raw maps are shown: scaled, coloured, laid over the photo; shared by figure and page.

Every map is scaled by itself, so colours compare places within one word's map, never two words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vlcam.explanation.result import Answer, AttentionMap, Result, Word
from vlcam.geometry.grid import Cells, Grid, Placement, place

OPACITY = 0.75
"""Of a map over the photo, unless the viewer says otherwise."""

_PERCENTILE = 99.5  # single pixels outshine all others in maps made at the pixels

# Control points of the colours, evenly spaced: red, green, blue, alpha in 0..1. A dark, cool veil
# where there is no support, clearing into fire where there is most.
_STRENGTH = (
    (0.04, 0.03, 0.14, 0.80),
    (0.20, 0.05, 0.35, 0.82),
    (0.45, 0.10, 0.43, 0.84),
    (0.72, 0.18, 0.36, 0.86),
    (0.93, 0.38, 0.19, 0.88),
    (0.99, 0.64, 0.14, 0.90),
    (1.00, 0.92, 0.42, 0.92),
)
# Against: blue; neither: clear; for: red.
_SIGNED = (
    (0.02, 0.19, 0.55, 0.95),
    (0.20, 0.50, 0.90, 0.75),
    (0.95, 0.95, 0.95, 0.10),
    (0.96, 0.45, 0.25, 0.75),
    (0.65, 0.02, 0.12, 0.95),
)


def palette(signed: bool) -> np.ndarray:
    """256 colours with their alpha, uint8 (256, 4): from none to most, or from against to for."""
    points = np.array(_SIGNED if signed else _STRENGTH)
    at = np.linspace(0, len(points) - 1, 256)
    channels = [np.interp(at, np.arange(len(points)), points[:, c]) for c in range(4)]
    return np.rint(255 * np.stack(channels, axis=1)).astype(np.uint8)


def levels(raw: np.ndarray, signed: bool, speckled: bool = False) -> np.ndarray:
    """A map as indices into :func:`palette`, uint8 of the same shape.

    The strongest value gets the last colour (signed: 0 is in the middle, the strongest of either
    sign at its end). A map without support is 0 (signed: the middle) everywhere.

    Args:
        raw: finite values.
        speckled: made of single pixels, a few of which outshine all others: the 99.5th percentile
            is taken for the strongest, and square roots are shown.
    """
    size = np.abs(raw) if signed else raw.clip(min=0)
    strongest = size.max()
    if speckled:
        # Where most pixels are zero the percentile may be, too.
        strongest = np.percentile(size, _PERCENTILE) or strongest
    scaled = np.clip(size / strongest, 0, 1) if strongest > 0 else np.zeros_like(size)
    if speckled:
        scaled = np.sqrt(scaled)
    shown = 127.5 + 127.5 * np.sign(raw) * scaled if signed else 255 * scaled
    return np.rint(shown).astype(np.uint8)


def fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(height, width) scaled down, where needed, to at most ``longest`` pixels a side."""
    factor = min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def shown_map(explanation: Result, index: int, size: tuple[int, int]) -> np.ndarray:
    """The map of word ``index`` drawn over the whole photo at another size, float32 (h, w)."""
    placement = _at_size(explanation.placement, size)
    return place(*explanation.map(index), placement).cpu().numpy()


def shown_levels(explanation: Result, index: int, size: tuple[int, int]) -> np.ndarray:
    """The same as indices into the explanation's palette, uint8 (h, w)."""
    raw = shown_map(explanation, index, size)
    speckled = at_pixels(explanation) and index < len(explanation.maps)
    return levels(raw, explanation.signed, speckled)


def at_pixels(explanation: Result) -> bool:
    """Whether the maps were made at the input's pixels, not at a layer's cells."""
    return is_at_pixels(explanation.grid)


def is_at_pixels(grid: Cells) -> bool:
    """Whether the cells are the input's pixels."""
    return isinstance(grid, Grid) and grid.stride == (1.0, 1.0)


def scaling(explanation: Result) -> str:
    """How the maps' values became colours, in words."""
    own = "maximum"
    if at_pixels(explanation):
        own = f"{_PERCENTILE}th percentile, square roots are shown"
    kind = "words" if explanation.by_word else "answers"
    return f"Each map is scaled by its own {own}: colours compare places, not {kind}."


def unlikes(explanations: Sequence[Result]) -> list[str]:
    """What is told of a photo unlike a model's training photos; with the model's name, where there
    are others."""
    models = {one.model for one in explanations}
    lines = {one.model: one.unlike for one in explanations if one.unlike}
    return [line if len(models) == 1 else f"{model}: {line}" for model, line in lines.items()]


def scalings(explanations: Sequence[Result]) -> list[str]:
    """The same of several, and what readers of their methods' maps should know; each line once,
    with the methods it is about where it is not about all."""
    lines: dict[str, dict[str, None]] = {}  # methods in order, each once
    for one in explanations:
        for line in (scaling(one), one.caveat):
            if line:
                lines.setdefault(line, {})[one.method] = None
    every = {one.method for one in explanations}
    return [
        line if set(about) == every else f"{', '.join(about)}: {line}"
        for line, about in lines.items()
    ]


def ends(explanation: Result) -> tuple[str, str]:
    """What the first and the last colour of the palette stand for, in words."""
    if explanation.signed:
        return "against", "for"
    if explanation.method == "counterfactual":
        return "not against", "most against"
    return "no support", "most support"


def blend(
    photo: np.ndarray, indices: np.ndarray, colours: np.ndarray, opacity: float = OPACITY
) -> np.ndarray:
    """A coloured map laid over a photo, uint8 (h, w, 3).

    Args:
        photo: uint8 (h, w, 3).
        indices: uint8 (h, w) into ``colours``.
        colours: uint8 (256, 4), of :func:`palette`.
        opacity: 0..1, multiplies the colours' alpha.
    """
    layer = colours[indices].astype(np.float32)
    alpha = layer[..., 3:] * (opacity / 255)
    return np.rint(photo * (1 - alpha) + layer[..., :3] * alpha).astype(np.uint8)


def chance(item: Word | Answer | AttentionMap) -> str:
    """An item's probability as a person reads it; that a look is one, which has none."""
    return "attention" if isinstance(item, AttentionMap) else percent(item.probability)


def percent(probability: float) -> str:
    """A probability as a person reads it."""
    if probability < 0.001:
        return "<0.1 %"
    if probability < 0.01:
        return f"{100 * probability:.1f} %"
    return ">99 %" if 0.995 <= probability < 1 else f"{100 * probability:.0f} %"


def settings(explanation: Result) -> list[tuple[str, str]]:
    """What made the maps: names and values, in the order they are shown."""
    names = ("model", "layer", "method", "target")
    shown = [(name, getattr(explanation, name)) for name in names]
    patch = explanation.details.get("occlusion")
    if isinstance(patch, dict):  # details may come from a file
        values = ", ".join(f"{name} {patch.get(name)}" for name in ("size", "stride", "fill"))
        shown.insert(3, ("patch", values))
    return shown


def _at_size(placement: Placement, size: tuple[int, int]) -> Placement:
    """The placement of the same photo resized to ``size``; pixel centres stay over each other."""
    ratio = [placement.photo_size[a] / size[a] for a in (0, 1)]
    shift = [placement.shift[a] + placement.scale[a] * (ratio[a] - 1) / 2 for a in (0, 1)]
    scale = [placement.scale[a] * ratio[a] for a in (0, 1)]
    return replace(
        placement, photo_size=size, scale=(scale[0], scale[1]), shift=(shift[0], shift[1])
    )
