"""Do maps change when a model forgets what it learned? (Adebayo et al., NeurIPS 2018.)

    python -m benchmarks.scenes.randomisation --photos DIR [--model scenes] [--limit 10]
        [--methods grad-cam guided-backprop ...]

Of the visual words of the captions that a model writes: the rank correlation of each method's map
with that of the same model whose layers' weights are drawn anew, one after the other from the top.
What stays near 1 does not explain the model. Constant maps are counted apart.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from torch import Tensor

import vlcam
from benchmarks.shared import program
from benchmarks.shared.report import Table
from captioning.experiments.faithfulness import OfWords
from vlcam.adapters.adapter import Adapter
from vlcam.attribution import methods
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import explain_targets
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.cli.arguments import methods_argument
from vlcam.evaluation.tables import table
from vlcam.metrics.faithfulness import cascade, on_patches, rank_correlation
from vlcam.utils.terminal import progress

METHODS = (
    "grad-cam",
    "layercam",
    "hirescam",
    "gradient",
    "guided-backprop",
    "guided-grad-cam",
    "deconv",
)


def randomise(
    model: Adapter,
    photo: Encoded,
    targets: list[Target],
    *,
    args: argparse.Namespace,
    results: Table,
) -> None:
    """How alike maps stay as layers lose what they learned."""
    size = (photo.pixels.shape[2], photo.pixels.shape[3])
    patch = Patch(args.patch, args.stride)

    def maps(of: Adapter, name: str) -> Tensor:
        seen = photo if of is model else replace(photo, features=None)
        found = explain_targets(of, seen, targets, methods.get(name))
        return on_patches(found.maps, found.grid, patch, size)

    before = {name: maps(model, name) for name in args.methods}
    for step, (layer, changed) in enumerate(cascade(model, args.seed)):
        if step not in args.steps:
            continue
        for name in args.methods:
            for one, other in zip(before[name], maps(changed, name), strict=True):
                value = rank_correlation(one, other)
                if value is None:
                    results.add(name, "constant", 1, photo=photo.photo)
                else:
                    results.add(name, f"down to {layer}", value, photo=photo.photo)


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of photos")
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--limit", type=int, default=10, help="photos (default 10)")
    parser.add_argument("--words", type=int, default=3, help="visual words a photo, at most")
    parser.add_argument("--patch", type=int, default=32, help="pixels (default 32)")
    parser.add_argument("--stride", type=int, default=16, help="pixels (default 16)")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[0, 1, 3, 6, 12], help="of the cascade"
    )
    parser.add_argument("--seed", type=int, default=0)
    methods_argument(parser, default=list(METHODS), nargs="+")
    program.run(parser, measure)


def measure(args: argparse.Namespace) -> tuple[str, list[str]]:
    results, without = Table(), 0
    model = vlcam.load(args.model, kind="captioner")
    experiment = OfWords(args.photos, words=args.words, limit=args.limit, seed=args.seed)
    for item in progress.each(experiment.items, "photos", unit="photo"):
        photo = vlcam.look(model, item.photo)
        if targets := experiment.targets(model, photo):
            randomise(model, photo, targets, args=args, results=results)
        else:
            without += 1
    layers = list(dict.fromkeys(column for _, column in results.values if column != "constant"))
    rows = [
        [name, *(results.figure(name, layer) for layer in layers), results.count(name, "constant")]
        for name in args.methods
    ]
    parts = [
        f"{len(experiment.items)} photos of {args.photos.name} ({without} without a visual word),"
        f" at most {args.words} visual words of each caption. Rank correlation with the map before,"
        f" on the places of a patch of {args.patch} pixels at stride {args.stride}.",
        table(["method", *layers, "constant"], rows),
    ]
    return f"Randomising {model.name} from the top", parts


if __name__ == "__main__":
    main()
