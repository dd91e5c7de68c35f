"""What makes maps of real photos better: input size, layer, method, and what is explained.

    python -m benchmarks.real.ablation --data ../shared/data --model CHECKPOINT

A captioner of ours (``vlcam train captioner``) on photos for tuning only: pointing with the visual
words of the first captions of the COCO *train* photos, and the box ratio of phrases of Flickr30k
Entities, each in its sentence, on *validation* photos of Flickr8k. Whatever is chosen here is to be
reported on other photos (``vlcam evaluate``, ``benchmarks/real/photos.py``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as arrow
from torch import Tensor

from benchmarks.shared import program
from captioning.experiments.regions import BoxRatios
from captioning.experiments.words import CENTRE, Words
from captioning.models.neuraltalk import neuraltalk
from captioning.models.neuraltalk.neuraltalk import NeuralTalkCaptioner
from vlcam.attribution import methods
from vlcam.cli.arguments import methods_argument
from vlcam.evaluation import runner, tables
from vlcam.evaluation.baselines import GAUSSIAN
from vlcam.evaluation.experiment import Experiment
from vlcam.evaluation.records import Columns
from vlcam.evaluation.summary import difference
from vlcam.metrics.estimates import mean, ratio_of_sums
from vlcam.utils.files.text_files import read_lines
from vlcam.utils.terminal import progress


class OfLogits(NeuralTalkCaptioner):
    """The same captioner, whose words' logits are explained in place of their log-probabilities."""

    def log_probabilities(self, states: Tensor) -> Tensor:
        logits: Tensor = self.module.logits(states)
        return logits.float()


@dataclass(frozen=True)
class Variant:
    """What is varied."""

    size: int
    layer: str | None
    target: str


def measure(
    module: neuraltalk.NeuralTalk, variant: Variant, names: Sequence[str], experiment: Experiment
) -> Columns:
    """All records of an experiment."""
    kind = OfLogits if variant.target == "logit" else NeuralTalkCaptioner
    model = kind(module, "ablated", variant.layer)
    model.resize((variant.size, variant.size))
    work = runner.Work(experiment, tuple(methods.get(name) for name in names))
    part = runner.measure(work, model, experiment.items)
    return Columns.of(arrow.Table.from_pylist(list(part.records)))


def rows(
    words: Columns, regions: Columns, *, variant: Variant, names: Sequence[str]
) -> list[tuple[object, ...]]:
    """The table's rows of one variant, one for each map of these names."""
    pointed = words.rows(words["reason"] == "").by("map")
    measured = regions.rows(
        (regions["reason"] == "")
        & ~np.isin(regions["status"], ("empty box", "whole picture")).astype(bool)
    ).by("map")

    def row(name: str) -> tuple[object, ...]:
        hits = pointed.get(name)
        cells: list[object] = ["", "", ""]
        if hits is not None:
            images = hits["image"]
            less = difference(hits["hit"], pointed[CENTRE]["hit"], images)
            cells = [tables.share(mean(hits["hit"], images)), tables.share(less)]
            cells.append(tables.share(mean(hits["near"], images)))
        boxes = measured.get(name)
        ratio = ratio_of_sums(boxes["inside"], boxes["outside"], boxes["image"]) if boxes else None
        return name, *cells, tables.figure(ratio) if ratio else ""

    about = (variant.size, variant.layer or "default", variant.target)
    return [(*about, *row(name)) for name in names]


def main() -> None:
    parser = program.options(__file__, __doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--model", type=Path, required=True, help="a captioner's folder")
    add("--sizes", type=int, nargs="+", default=[320, 448, 576])
    add("--layers", nargs="+", default=["default"])
    add("--targets", nargs="+", default=["log-probability"], help="log-probability, logit")
    methods_argument(parser, default=["grad-cam", "hirescam", "layercam", "xgrad-cam"], nargs="+")
    add("--photos", type=int, default=156, help="of COCO; default: 156, all")
    add("--phrase-photos", type=int, default=50, help="of Flickr8k; default: 50")
    program.run(parser, ablation)


def ablation(args: argparse.Namespace) -> tuple[str, list[str]]:
    module = neuraltalk.load_module(args.model)
    flickr = args.data / "flickr8k"
    validation = read_lines(flickr / "valImages.txt")
    words = Words(args.data / "coco", split="train2017", captions="first", limit=args.photos)
    regions = BoxRatios(
        args.data / "flickr30k_entities" / "annotations.zip",
        flickr / "Images",
        names=validation,
        protocol="sentence",
        limit=args.phrase_photos,
    )
    layers = [None if name == "default" else name for name in args.layers]
    variants = [Variant(s, n, t) for s in args.sizes for n in layers for t in args.targets]
    found: list[tuple[object, ...]] = []
    for variant in progress.each(variants, "variants", unit="variant"):
        pointed = measure(module, variant, args.methods, words)
        boxes = measure(module, variant, args.methods, regions)
        if not found:
            found += rows(pointed, boxes, variant=Variant(0, "", ""), names=(CENTRE, GAUSSIAN))
        found += rows(pointed, boxes, variant=variant, names=args.methods)
    head = (
        "px",
        "layer",
        "target",
        "map",
        "hits %",
        "less the centre",
        "within 15 px %",
        "box ratio",
    )
    text = (
        f"{len(words.items)} COCO train photos, first captions; phrases in their sentences of"
        f" {len(regions.items)} Flickr8k validation photos, ratio of means.\n\n"
        + tables.table(head, found)
    )
    return f"Ablation: {args.model.name}", [text]


if __name__ == "__main__":
    main()
