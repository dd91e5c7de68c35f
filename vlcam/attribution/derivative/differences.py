"""A gradient compared with how fast the score really changes: central differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_DIRECTIONS = 4
STEPS = (1e-2, 1e-3, 1e-4)
"""Of the maps' own size, along a direction."""

WIDE = (1e-1, 3e-2)
"""Steps across those of a score that rounds: it is flat between, and its gradient zero there."""

HALF = (3e-1, 1e-1)
"""In half precision."""

TOLERANCE = 0.1
"""Of the fastest change along any of the directions: a gradient that lost a smaller part gives
nearly the same map, and scores curve along a step."""

LOOSE = 0.25
"""Of steps that are wide though perhaps nothing rounds: scores curve more along these."""

_NOISE = 16
"""How many roundings of the score a difference may be off by; in half precision 2, of steps wide
enough for that."""


def agrees(
    score: Callable[[Tensor], float],
    maps: Tensor,
    gradient: Tensor,
    steps: Sequence[float] = STEPS,
    tolerance: float = TOLERANCE,
) -> bool:
    """Whether a score changes as its gradient says, along random directions and steps of some size.

    A direction scales each channel and each cell of the maps by a number of its own, so that it
    moves the score by more than rounding does, whatever the path from the maps to it.

    Args:
        score: of maps like those given, without gradients.
        maps: (1, K, u, v), or pixels.
        gradient: of the same shape.
        steps: any of these sizes will do.
        tolerance: of the fastest change along any of the directions.
    """
    size = float(maps.detach().double().norm()) or 1.0
    directions = list(_directions(maps, size))
    claimed = torch.tensor([float((d * gradient.double()).sum()) for d in directions])
    here = abs(score(maps))
    eps = torch.finfo(maps.dtype).eps
    half = eps > 1e-4
    if half and steps == WIDE:
        return True  # steps of its own are wider than those
    steps = HALF if half else steps
    rounding = (2 if half else _NOISE) * eps * max(here, 1e-30)
    for step in steps:
        found = torch.tensor(
            [(score(_moved(maps, d, step)) - score(_moved(maps, d, -step))) for d in directions]
        ) / (2 * step)
        scale = float(torch.cat([found, claimed]).abs().max())
        limit = tolerance * scale + rounding / (2 * step)
        if scale == 0 or bool(((found - claimed).abs() <= limit).all()):
            return True
    return False


def _moved(maps: Tensor, direction: Tensor, step: float) -> Tensor:
    return (maps.detach().double() + step * direction).to(maps.dtype)


def _directions(maps: Tensor, size: float) -> Iterator[Tensor]:
    """Each of that size, float64."""
    generator = torch.Generator().manual_seed(0)
    values = maps.detach().double()
    for _ in range(_DIRECTIONS):
        channels, cells, own = (
            torch.randn(shape, generator=generator, dtype=torch.float64).to(maps.device)
            for shape in ((1, maps.shape[1], 1, 1), (1, 1, *maps.shape[2:]), maps.shape)
        )
        direction = values * (channels + cells) + 0.3 * values.std(correction=0) * own
        yield direction * (size / max(float(direction.norm()), 1e-300))
