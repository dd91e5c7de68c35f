"""What every adapter promises of its feature maps, rows, gradients and cells."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vlcam.attribution.derivative.check import LostGradientError
from vlcam.attribution.encoding import encode
from vlcam.attribution.targets import Target
from vlcam.geometry.cells import measure
from vlcam.testing.trial import Trial, close, size_of
from vlcam.utils.untouched import untouched

_NEAR = 0.4  # of a cell: a map stretched over a ResNet's input is off by almost half a cell
_STEPS = (1e-3, 1e-2, 1e-4, 1e-5)  # along a gradient, relative to the maps; two of them are taken
_ROUNDS = 6  # of random inputs, to measure where cells lie


def photos_are_independent(trial: Trial) -> Iterator[str]:
    """encode: rows are apart"""
    prompts = trial.prompts[:1] * 2 if trial.adapter.encode_reads_prompt else None
    both = encode(trial.adapter, torch.cat(trial.pixels), prompts)
    for row in (0, 1):
        if not close(both.maps[row : row + 1], trial.features[row].maps):
            yield (
                "encode: photos in one batch influence each other (a BatchNorm in training mode, a"
                " normalisation over the batch?)"
            )
            return
    again = encode(trial.adapter, trial.pixels[0], prompts and prompts[:1])
    if not close(again.maps, trial.features[0].maps):
        yield "encode: the same photo gives other feature maps each time (dropout?)"


def maps_fit_their_grid(trial: Trial) -> Iterator[str]:
    """grid: as many cells as the maps"""
    maps, size = trial.features[0].maps, size_of(trial.pixels[0])
    if maps.ndim != 4:
        yield f"encode: gives maps {tuple(maps.shape)}, expected (B, K, u, v)"
    elif tuple(trial.adapter.grid(size).size) != tuple(maps.shape[2:]):
        yield (
            f"grid: {trial.adapter.grid(size).size} cells, but the maps have"
            f" {tuple(maps.shape[2:])}"
        )


def rows_are_independent(trial: Trial) -> Iterator[str]:
    """decode: rows are apart"""
    if trial.adapter.encode_reads_prompt:
        pairs = [(row, trial.prompts[0]) for row in (0, 1)]
    else:
        pairs = [(row, prompt) for row in (0, 1) for prompt in trial.prompts]
    # Backwards, too: rows that come back in an order of their own might be in order by chance.
    orders = (trial.decode(pairs), trial.decode(pairs[::-1]).flip(0))
    for row, (photo, prompt) in enumerate(pairs):
        alone = trial.decode([(photo, prompt)])[0]
        columns = trial.read_columns(prompt)
        kind = trial.features[0].maps.dtype
        if not all(close(rows[row][columns], alone[columns], kind) for rows in orders):
            yield (
                "decode: rows influence each other: a row's scores are others alone than in a batch"
                " (padding that is read, a normalisation over the batch, rows in another order?)"
            )
            return


def seam_carries_the_score(trial: Trial) -> Iterator[str]:
    """decode: the score depends on the feature maps, as its gradient says"""
    names = []
    try:
        gradients = trial.gradients(trial.asked)
    except LostGradientError as error:
        if error.wholly:
            yield f"decode: the seam is not connected to the score: {error}"
        else:
            part = "a part of the way from maps to score is cut off from autograd"
            yield f"decode: {part}: {error}"
        return
    for target, gradient in zip(trial.asked, gradients, strict=True):
        if not gradient.isfinite().all():
            yield f"decode: the gradient of {target.name} is not finite"
        elif not gradient.any():
            names.append(target.name)
    if len(names) == len(trial.asked):
        yield (
            "decode: the seam is not connected to the score: no target's gradient reaches the"
            " feature maps (a detach, torch.no_grad, or a path around the layer?)"
        )
        return
    strongest = max(range(len(gradients)), key=lambda row: float(gradients[row].norm()))
    claimed, found = _slopes(trial, trial.asked[strongest], gradients[strongest])
    if not 0.5 <= found / claimed <= 2:
        yield (
            f"decode: along its gradient {trial.asked[strongest].name} changes by {found:.3g} where"
            f" the gradient says {claimed:.3g}: a part of the way from maps to score is cut"
            " off from autograd"
        )


def _slopes(trial: Trial, target: Target, gradient: Tensor) -> tuple[float, float]:
    """How fast a score grows along its gradient: as the gradient says, and as small steps find.

    Smaller ones where the score is no number elsewhere (a logarithm of maps that are never
    negative)."""
    direction = gradient / gradient.norm()
    norm, found = float(trial.features[0].maps.norm()), list[float]()
    for size in _STEPS:
        ends = [_value(trial, target, sign * size * norm * direction) for sign in (1, -1)]
        if all(map(math.isfinite, ends)):
            found.append((ends[0] - ends[1]) / (2 * size * norm))
        if len(found) == 2:
            break
    claimed = float(gradient.norm())
    return claimed, min(found, key=lambda slope: abs(slope - claimed), default=math.nan)


def _value(trial: Trial, target: Target, step: Tensor) -> float:
    """A score a step away from the first photo's feature maps."""
    rows = [(0, term.prompt) for term in target.terms]
    scores = trial.decode(rows, change=lambda maps: maps + step)
    values = [
        term.weight * float(row[list(term.scores)].double().sum())
        for term, row in zip(target.terms, scores, strict=True)
    ]
    return sum(values)


def targets_are_independent(trial: Trial) -> Iterator[str]:
    """maps: many targets at once as one by one"""
    try:
        together = trial.gradients(trial.asked)
    except LostGradientError:
        return  # told already
    for row, target in enumerate(trial.asked):
        if not close(together[row : row + 1], trial.gradients([target])):
            yield f"maps: {target.name} has another gradient by itself than beside other targets"
            return


def cells_lie_where_claimed(trial: Trial) -> Iterator[str]:
    """grid: cells answer to the pixels they are said to lie at"""
    adapter, pixels = trial.adapter, trial.pixels[0]
    size = size_of(pixels)
    grid = adapter.grid(size)
    rows, columns = grid.size
    middle = (rows // 2, columns // 2)
    corner = (max(middle[0] - 2, 0), max(middle[1] - 2, 0))
    if not hasattr(grid, "center") or middle == corner:
        return

    def run(inputs: Tensor) -> Tensor:
        prompts = trial.prompts[:1] * len(inputs) if adapter.encode_reads_prompt else None
        return adapter.encode(inputs.clone(), prompts).maps

    with untouched(adapter.module):
        found = measure(run, pixels, [middle, corner], rounds=_ROUNDS)
    for axis, name in enumerate(("rows", "columns")):
        stride = grid.stride[axis]
        claimed = [grid.center(*cell)[axis] for cell in (middle, corner)]
        off = float(found[0, axis] - claimed[0]) / stride
        if abs(off) > _NEAR:
            yield (
                f"grid: wrong geometry: the middle cell answers to pixels around"
                f" {found[0, axis]:.1f} ({name}), but is said to lie at {claimed[0]:.1f}, which is"
                f" {abs(off):.1f} cells off"
            )
            continue
        if middle[axis] > corner[axis]:
            ratio = float(found[0, axis] - found[1, axis]) / (claimed[0] - claimed[1])
            if not 0.4 < ratio < 1.6:
                yield (
                    f"grid: wrong geometry: two cells are {claimed[0] - claimed[1]:.1f} pixels"
                    f" apart ({name}) as claimed, {found[0, axis] - found[1, axis]:.1f} as measured"
                    " (cells in another order, a wrong stride?)"
                )
