"""How faithful maps of one photo are to the model, by :mod:`vlcam.metrics.faithfulness`.

What depends on the photo and its words or answers alone is computed once: the occlusion maps, the
scores of the whole photo and of an empty one. What depends on a map is computed once for all layers
and methods that give the same map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter
from vlcam.attribution import methods
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import TargetMaps, alike, explain_targets, explain_targets_by
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.choosing.asking import ends
from vlcam.geometry.grid import Cells, Grid, Placement, place
from vlcam.metrics.faithfulness import Curves, curves, on_patches, rank_correlation
from vlcam.metrics.pointing import centred_gaussian
from vlcam.utils.messages.errors import one_line

STEPS = 8
"""In how many equal parts pixels are removed, or shown."""

_ACROSS = 7
_OFF = 1e-2  # what half precision may change of a score
_EQUAL = 1e-5
"""What rounding may change of a map, of its greatest value."""


def patch_for(size: tuple[int, int]) -> Patch:
    """What covers an input of (height, width): a seventh of its shorter side at half of that
    stride: some 13 x 13 places of a square input."""
    side = max(1, min(size) // _ACROSS)
    return Patch(side, max(1, side // 2))


@dataclass(frozen=True)
class Measured:
    """Of one target's map.

    Attributes:
        occlusion: its rank correlation with the occlusion map; None of a constant map.
        curves: deletion and insertion; None of a constant map, which ranks no pixel above another.
        same: the number of the map among those of this target that differ.
    """

    occlusion: float | None
    curves: Curves | None
    same: int


@dataclass(frozen=True)
class _Known:
    """A map that was measured: on the places of the patch, its greatest value being 1."""

    fingerprint: Tensor
    measured: Measured


class OnPhoto:
    """A photo, what is asked of it, and what was measured of maps of it.

    Args:
        model: which the scores are of, at any layer.
        name: of the photo.
        photo: as the model at that layer sees it.
        targets: T words or answers.
        patch: what covers the photo.

    Attributes:
        pixels: what the model is fed, (1, 3, H, W).
        name, targets, patch: as given.
        encoded: the photo.
    """

    def __init__(
        self, model: Adapter, name: str, photo: Encoded, *, targets: list[Target], patch: Patch
    ) -> None:
        self.name, self.targets = name, targets
        self.encoded, self.pixels = photo, photo.pixels
        self._model, self.patch = model, patch
        found = explain_targets(model, photo, targets, methods.get("occlusion"), patch=patch)
        self._scores, self._drops = found.scores.double(), found.maps.double()
        self._ends = ends(model, photo.pixels, targets, patch.fill)
        self._known: list[list[_Known]] = [[] for _ in targets]

    @property
    def _size(self) -> tuple[int, int]:
        return (self.pixels.shape[2], self.pixels.shape[3])

    def coarse(self, found: TargetMaps) -> Tensor:
        """Maps on the places of the patch, (T, rows, columns)."""
        return on_patches(found.maps.cpu(), found.grid, self.patch, self._size)

    def measure(self, found: TargetMaps) -> list[Measured]:
        """Of the targets' maps, by one method at one layer.

        Raises:
            ValueError: the scores are others than those of the photo: of another model.
        """
        for target, own, other in zip(
            self.targets, self._scores, found.scores.double(), strict=True
        ):
            if abs(own - other.cpu()) > _OFF * (1 + abs(own)):
                raise ValueError(
                    f"the score of {target.name} is {float(own):.4g} and then {float(other):.4g}:"
                    " of another model, or of one whose scores change from call to call"
                )
        coarse = self.coarse(found)
        return [self._of(i, found.maps[i], found.grid, coarse[i]) for i in range(len(coarse))]

    def of_centre(self) -> list[Measured]:
        """Of a map that is the same whatever the model: a Gaussian about the photo's centre."""
        maps = torch.from_numpy(centred_gaussian(self._size)).float()
        every = maps.expand(len(self.targets), *self._size)
        return self.measure(TargetMaps(self._scores, every, Grid.pixels(self._size)))

    def _of(self, target: int, own: Tensor, grid: Cells, coarse: Tensor) -> Measured:
        known = self._known[target]
        fingerprint = coarse / coarse.abs().max().clamp(min=torch.finfo(coarse.dtype).tiny)
        for one in known:
            if (one.fingerprint - fingerprint).abs().max() <= _EQUAL:
                return one.measured
        value = rank_correlation(coarse.numpy(), self._drops[target].numpy())
        flat = (
            rank_correlation(coarse.numpy(), torch.arange(coarse.numel()).view_as(coarse)) is None
        )
        run = None if flat else self._curves(target, own, grid)
        if not flat and value is None:
            value = 0.0  # nothing that is covered changes the score: there is nothing to rank
        known.append(_Known(fingerprint, Measured(value, run, len(known))))
        return known[-1].measured

    def _curves(self, target: int, own: Tensor, grid: Cells) -> Curves:
        drawn = place(own[None].cpu().float(), grid, Placement.identity(self._size))[0]
        whole, blank = self._ends[target].tolist()
        return curves(
            self._model,
            self.pixels,
            self.targets[target],
            drawn=drawn.to(self.pixels.device),
            steps=STEPS,
            fill=self.patch.fill,
            ends=(whole, blank),
        )

    def spans(self) -> list[float]:
        """The range of all scores that were seen of each target, whatever was covered: the unit of
        deletion and insertion."""
        found = []
        for i, known in enumerate(self._known):
            runs = [one.measured.curves for one in known]
            seen = [value for run in runs if run for value in (*run.deletion, *run.insertion)]
            covered = (self._scores[i] - self._drops[i]).flatten().tolist()
            every = [*self._ends[i].tolist(), *covered, *seen]
            found.append(max(every) - min(every))
        return found


def maps_by(
    model: Adapter, photo: Encoded, targets: list[Target], by: Sequence[methods.Method]
) -> dict[str, TargetMaps | str]:
    """Maps by each method, by its name; where there can be none, why, in one line."""
    found: dict[str, TargetMaps | str] = {}
    for group in alike(by):
        try:
            maps = explain_targets_by(model, photo, targets, group)
            found |= {method.name: own for method, own in zip(group, maps, strict=True)}
        except (ValueError, RuntimeError) as error:  # torch's, of what does not fit
            if isinstance(error, torch.OutOfMemoryError):
                raise
            if len(group) > 1:
                for method in group:
                    found |= maps_by(model, photo, targets, [method])
            else:
                found[group[0].name] = one_line(error)
    return found
