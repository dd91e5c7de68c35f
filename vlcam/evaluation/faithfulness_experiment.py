"""Whether maps tell the truth about the model: correlation with occlusion, deletion, insertion.

What is asked of a photo is a subclass's business; the rest is the same for every model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter
from vlcam.attribution import methods
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import TargetMaps, explain_targets
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.evaluation.baselines import ACTIVATION, GAUSSIAN, NOISE, UNIFORM, maps_at_input
from vlcam.evaluation.experiment import Asked, Experiment, Item
from vlcam.evaluation.records import Columns, Record
from vlcam.evaluation.summary import Cell, Summary, Table, difference, differences
from vlcam.geometry.grid import Cells, Grid, Placement, place
from vlcam.metrics.estimates import mean
from vlcam.metrics.faithfulness import curves, on_patches, rank_correlation

BASELINES = (GAUSSIAN, NOISE, ACTIVATION, UNIFORM)
PAPER = (
    "Selvaraju et al. (2019), section 8.2: rank correlation with occlusion, VQA: Grad-CAM 0.60,"
    " Guided Backprop 0.42."
)


@dataclass(frozen=True)
class Occluded(Asked):
    """What was asked of a photo, with its occlusion maps (T, u, v)."""

    occlusion: Tensor


class Faithfulness(Experiment[Occluded]):
    """Maps against occlusion (section 8.2) and against the score as pixels go (Petsiuk et al.).

    Args:
        patch: what covers the photo; maps are compared on its places.
        curves: whether deletion and insertion are measured too: some twenty passes a map.
        seed: of the noise.
    """

    name: ClassVar = "faithfulness"
    title = "Faithfulness of maps"
    columns: ClassVar = {
        "image": str, "target": int, "asked": str, "map": str, "constant": bool, "occlusion": float,
        "deletion": float, "insertion": float,
    }  # fmt: skip
    worth: ClassVar = "occlusion"
    worth_says: ClassVar = "rank correlation with occlusion {:.2f}"
    batch: ClassVar = 1  # each takes seconds
    scores_by_model: ClassVar = True

    def __init__(self, patch: Patch, with_curves: bool, seed: int) -> None:
        self.patch, self.with_curves, self.seed = patch, with_curves, seed

    def measures(self) -> dict[str, Any]:
        """Its settings, for subclasses to add theirs."""
        patch = {"size": self.patch.size, "stride": self.patch.stride, "fill": self.patch.fill}
        return {"patch": patch, "curves": self.with_curves, "seed": self.seed}

    def occluded(
        self, model: Adapter, item: Item, photo: Encoded, targets: list[Target]
    ) -> Occluded:
        """What was asked, with its occlusion maps."""
        occlusion = methods.get("occlusion")
        found = explain_targets(model, photo, targets, occlusion, patch=self.patch)
        return Occluded(item, photo, targets, found.maps)

    def score(
        self, model: Adapter, asked: Occluded, method: str, found: TargetMaps
    ) -> Iterator[Record]:
        yield from self._records(model, asked, method, found.maps, found.grid)

    def label(self, record: Record) -> str:
        return str(record["asked"])

    def baselines(self, model: Adapter, asked: Occluded) -> Iterator[Record]:
        item, photo = asked.item, asked.photo
        each = [
            maps_at_input(
                model, photo, seed=self.seed, name=item.name, prompt=target.terms[0].prompt
            )
            for target in asked.targets
        ]
        grid = Grid.pixels(photo.placement.input_size)
        for name in BASELINES if each else ():
            maps = torch.stack([torch.from_numpy(some[name]).float() for some in each])
            yield from self._records(model, asked, name, maps, grid)

    def _records(
        self, model: Adapter, asked: Occluded, name: str, maps: Tensor, grid: Cells
    ) -> Iterator[Record]:
        photo = asked.photo
        size = (photo.pixels.shape[2], photo.pixels.shape[3])
        coarse = on_patches(maps, grid, self.patch, size)
        placed = place(maps, grid, Placement.identity(size))
        ranked = self.with_curves and name != UNIFORM
        for i, target in enumerate(asked.targets):
            value = rank_correlation(coarse[i], asked.occlusion[i])
            run = curves(model, photo.pixels, target, drawn=placed[i]) if ranked else None
            yield {
                "image": asked.item.name,
                "target": i,
                "asked": target.name,
                "map": name,
                "constant": value is None,
                "occlusion": value or 0.0,
                "deletion": run.deletion_area if run else 0.0,
                "insertion": run.insertion_area if run else 0.0,
            }

    def summarise(self, records: Columns) -> Summary:
        by_map = records.by("map")
        names = [name for name in by_map if name not in BASELINES] + list(BASELINES)
        less = tuple(f"{kind}, less the Gaussian's" for kind in ("deletion", "insertion"))
        head = ("map", "correlation with occlusion", *(less if self.with_curves else ()))
        rows = [(name, *self._row(by_map, name)) for name in names if name in by_map]
        table = Table(
            "Faithfulness",
            (*head, "constant", "maps"),
            tuple(rows),
            unit="figure",
            note="Spearman's rank correlation on the places of a patch of"
            f" {self.patch.size} pixels at stride {self.patch.stride}; a constant map counts as 0."
            + (
                " Deletion and insertion: the mean score as the pixels that the map ranks first go,"
                " or are all that is shown, less that of a ranking from the photo's centre: below 0"
                " and above 0 is good."
                if self.with_curves
                else ""
            ),
        )
        return Summary((table, *self._differences(by_map)), (PAPER,))

    @staticmethod
    def _differences(by_map: dict[str, Columns]) -> tuple[Table, ...]:
        """Of correlations with occlusion, between methods."""
        chosen = {name: some for name, some in by_map.items() if name not in BASELINES}
        sums = {name: (some["occlusion"], np.ones(len(some))) for name, some in chosen.items()}
        images = [some["image"] for some in chosen.values()]
        of = "correlation with occlusion"
        return differences(sums, images[0], of, unit="figure") if images else ()

    def _row(self, by_map: dict[str, Columns], name: str) -> list[Cell]:
        some, centred = by_map[name], by_map[GAUSSIAN]
        images = some["image"]
        cells: list[Cell] = [mean(some["occlusion"], images)]
        for column in ("deletion", "insertion") if self.with_curves else ():
            # A uniform map ranks no pixel above another.
            less = difference(some[column], centred[column], images) if name != UNIFORM else ""
            cells.append(less)
        return [*cells, int(some["constant"].sum()), len(some)]
