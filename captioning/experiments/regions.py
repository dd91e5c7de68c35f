"""The box ratio of region captions (section 8.1 of the paper).

A captioner of whole photos explains a region's caption (teacher forcing); the ratio is the map's
mean inside the region's box over its mean outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from captioning.data import regions
from captioning.data.regions import Photo, Region
from captioning.language.captioner import Captioner
from captioning.models import densecap
from vlcam.adapters.adapter import Adapter, Reading
from vlcam.attribution import targets
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import TargetMaps
from vlcam.evaluation import baselines, tables
from vlcam.evaluation.experiment import Asked, Experiment, Item, sample
from vlcam.evaluation.records import Columns, Record
from vlcam.evaluation.summary import Cell, Summary, Table, differences
from vlcam.geometry.grid import Placement, place
from vlcam.metrics.box_ratio import BoxMeans, box_means, box_ratio, boxes_in_input, every_box_means
from vlcam.metrics.pointing import Mask

Protocol = Literal["alone", "sentence"]
BASELINES = (baselines.GAUSSIAN, baselines.NOISE, baselines.ACTIVATION, baselines.UNIFORM)
PAPER = (
    "Selvaraju et al. (2019), section 8.1, five region captions of DenseCap a photo, neuraltalk2:"
    " Guided Backprop 2.32, Grad-CAM 3.27, Guided Grad-CAM 6.38; uniform 1 (means of ratios)."
)


def target_of(model: Captioner, region: Region, protocol: Protocol) -> targets.Target | None:
    """The target of a region's caption; None where the model knows no word of it.

    Args:
        protocol: ``alone``: the log-probability of its caption as a whole caption (the paper's
            way); ``sentence``: of its words in the sentence they are from, where there is one.
    """
    if protocol == "sentence" and region.sentence:
        before = len(model.words(" ".join(region.sentence[: region.start])))
        length = len(model.words(region.text))
        reading = model.read(" ".join(region.sentence))
        units = reading.units[before : before + length]
    elif model.words(region.text):
        reading = model.read(region.text)
        units = reading.units
    else:
        return None
    known = tuple(unit for unit in units if not unit.unknown)
    return targets.whole(Reading(region.text, reading.prompt, known)) if known else None


@dataclass(frozen=True)
class AskedRegions(Asked):
    """A photo's regions, one per target, each with its mask (H, W) in the input; and records of
    those that cannot be explained."""

    regions: list[tuple[Region, Mask]]
    missing: list[Record]


class BoxRatios(Experiment[AskedRegions]):
    """Box ratio of region captions, at input resolution.

    Args:
        source, photos, top: see :func:`captioning.data.regions.read`; or ``source`` is a dense
            captioner (``densecap``: the bundled one), which describes the photos' ``top`` surest
            regions, as in the paper.
        names: of photos, where only some count.
        protocol: see :func:`target_of`.
        limit: so many photos, chosen by ``seed``.
    """

    name: ClassVar = "regions"
    title = "Box ratio of region captions"
    kind: ClassVar = "captioner"
    columns: ClassVar = {
        "image": str, "target": int, "text": str, "map": str, "reason": str, "status": str,
        "inside": float, "outside": float,
    }  # fmt: skip
    worth: ClassVar = "inside"
    worth_says: ClassVar = "inside the outline the map is {:.2f} times its mean"

    def __init__(
        self,
        source: Path,
        photos: Path,
        *,
        names: Sequence[str] | None = None,
        protocol: Protocol = "alone",
        top: int = 5,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        self.source, self.folder, self.protocol = source, photos, protocol
        self.names, self.top, self.limit, self.seed = names, top, limit, seed
        self._dense = densecap.Source.found(source)
        if self._dense:
            self._regions = regions.photos_of(photos, names)
        else:
            self._regions = regions.read(source, photos, names=names, top=top)

    def settings(self) -> dict[str, Any]:
        plain = {n: getattr(self, n) for n in ("protocol", "top", "limit", "seed")}
        # Which they are is in the manifest as a hash of all items.
        plain["names"] = None if self.names is None else len(self.names)
        dense = {"dense captioner": self._dense.digest()} if self._dense else {}
        return {"regions": str(self.source), "photos": str(self.folder), **dense, **plain}

    @property
    def skipped(self) -> Sequence[str]:
        return self._regions.problems

    @cached_property
    def _photos(self) -> dict[str, Photo]:
        found = sample(self._regions.photos, self.limit, self.seed)
        return {photo.name: photo for photo in found}

    @cached_property
    def items(self) -> Sequence[Item]:
        return [Item(photo.name, photo.path) for photo in self._photos.values()]

    def ask(self, model: Adapter, item: Item, photo: Encoded, written: Any) -> AskedRegions:
        asked, kept, missing = [], list[tuple[Region, Mask]](), list[Record]()
        found = self._photos[item.name].regions
        if self._dense:
            described = self._dense.model.describe(photo.image, self.top)
            found = tuple(Region(one.text, (one.box,)) for one in described)
        if not found:
            missing.append(self._record(item, -1, "", reason="none"))
        for region in found:
            target = target_of(cast(Captioner, model), region, self.protocol)
            if target is None:
                missing.append(self._record(item, -1, region.text, reason="unknown"))
                continue
            asked.append(target)
            kept.append((region, boxes_in_input(region.boxes, photo.placement)))
        return AskedRegions(item, photo, asked, kept, missing)

    def score(
        self, model: Adapter, asked: AskedRegions, method: str, found: TargetMaps
    ) -> Iterator[Record]:
        kept = asked.regions
        if kept:
            whole = Placement.identity(asked.photo.placement.input_size)
            placed = place(found.maps, found.grid, whole).cpu().numpy()
            for which, ((region, inside), values) in enumerate(zip(kept, placed, strict=True)):
                means = box_means(values, inside)
                yield self._measured(asked.item, which, region, name=method, found=means)

    def label(self, record: Record) -> str:
        return str(record["text"])

    def outline(self, asked: AskedRegions, which: int) -> Mask | None:
        region, _ = asked.regions[which]
        whole = Placement.identity(asked.photo.placement.photo_size)
        return boxes_in_input(region.boxes, whole)

    def baselines(self, model: Adapter, asked: AskedRegions) -> Iterator[Record]:
        yield from asked.missing
        kept, item = asked.regions, asked.item
        if not kept:
            return
        maps = baselines.maps_at_input(model, asked.photo, seed=self.seed, name=item.name)
        found = every_box_means(list(maps.values()), [inside for _, inside in kept])
        for which, ((region, _), of_maps) in enumerate(zip(kept, found, strict=True)):
            for name, means in zip(maps, of_maps, strict=True):
                yield self._measured(item, which, region, name=name, found=means)

    def _measured(
        self, item: Item, which: int, region: Region, *, name: str, found: BoxMeans
    ) -> Record:
        means: Record = {"inside": found.inside, "outside": found.outside, "status": found.status}
        return self._record(item, which, region.text, name=name) | means

    @staticmethod
    def _record(item: Item, which: int, text: str, name: str = "", reason: str = "") -> Record:
        about: Record = {"image": item.name, "target": which, "text": text, "map": name}
        return about | {"reason": reason, "status": "", "inside": 0.0, "outside": 0.0}

    def summarise(self, records: Columns) -> Summary:
        reasons = records["reason"]
        scored = records.rows(reasons == "").by("map")
        names = [name for name in scored if name not in BASELINES]
        names += [name for name in BASELINES if name in scored]
        head = ("map", "ratio of means", "95 %", "mean of ratios (paper's)", "regions")
        unknown, none = (int((reasons == reason).sum()) for reason in ("unknown", "none"))
        ratios = Table(
            "Box ratio of region captions",
            (*head, "not measured"),
            tuple((name, *self._row(scored[name])) for name in names),
            "figure",
            "Ratio of means: the mean of the means inside over the mean of the means outside, so"
            " that no single region can dominate it. A degenerate map counts as a uniform one."
            f" Regions without a word that the model knows: {unknown}; photos without a region:"
            f" {none}.",
        )
        methods = [name for name in names if name not in BASELINES]
        return Summary((ratios, *self._differences(scored, methods)), (PAPER,))

    @staticmethod
    def _differences(scored: dict[str, Columns], names: Sequence[str]) -> tuple[Table, ...]:
        """Of ratios of means, between methods."""
        sums = {}
        images: Sequence[str] = ()
        for name in names:
            status = scored[name]["status"]
            some = scored[name].rows((status != "empty box") & (status != "whole picture"))
            sums[name], images = (some["inside"], some["outside"]), some["image"].tolist()
        return differences(sums, images, "ratio of means", "figure")

    @staticmethod
    def _row(some: Columns) -> tuple[Cell, ...]:
        rows = zip(some["inside"].tolist(), some["outside"].tolist(), some["status"], strict=True)
        ratio = box_ratio([BoxMeans(*row) for row in rows], some["image"])
        missing = ", ".join(f"{n} {s}" for s, n in ratio.statuses.items() if s != "measured")
        bounds = tables.interval(ratio.ratio_of_means)
        return ratio.ratio_of_means, bounds, ratio.mean_of_ratios, len(some), missing or "0"
