"""Do maps tell the truth about the model? Per method, on the visual words of its own captions.

    python benchmarks/faithfulness.py --photos DIR [--model scenes] [--limit 50]
        [--methods grad-cam guided-backprop ...]

* Spearman's rank correlation with the occlusion map, on the places of the patch (section 8.2);
  constant maps are counted apart.
* Deletion and insertion: the mean log-probability as the pixels that the map ranks first go, or are
  all that is shown (Petsiuk et al., 2018), less that of a ranking from the photo's centre: below 0
  and above 0 is good. (A random ranking leaves noise, which no model has seen.)
* Cascading randomisation (Adebayo et al., 2018): rank correlation of the map with that of the model
  whose top layers' weights are drawn anew. What stays near 1 does not explain the model.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import report
import torch
from report import Table
from torch import Tensor
from tqdm import tqdm

import vlcam
import word_maps
from vlcam import methods, targets
from vlcam.adapter import Adapter
from vlcam.explaining import Encoded, explain_targets
from vlcam.faithfulness import cascade, curves, on_patches, rank_correlation
from vlcam.geometry import Grid, Placement, place
from vlcam.metrics import centred_gaussian
from vlcam.occlusion import Patch
from vlcam.tables import table
from vlcam.targets import Target


def asked_of(model: Adapter, photo: Encoded, most: int) -> list[Target]:
    """The visual words of the caption the model writes of a photo, at most so many of them."""
    explained = vlcam.explain(model, photo)
    words = [word.text for word in explained.words]
    reading = model.read(explained.caption)  # type: ignore[attr-defined]
    found = []
    for start, stop, _ in word_maps.visual_words(words)[:most]:
        columns = tuple(c for unit in reading.units[start:stop] for c in unit.scores)
        found.append(
            Target(" ".join(words[start:stop]), (targets.Term(1.0, reading.prompt, columns),))
        )
    return found


def drawn(maps: Tensor, grid: Grid, photo: Encoded) -> Tensor:
    """Maps (T, u, v) at input size."""
    size = (photo.pixels.shape[2], photo.pixels.shape[3])
    return place(maps, grid, Placement.identity(size))


def add(results: Table, method: str, measure: str, value: float | None, photo: str) -> None:
    """A value, or one more map that was constant."""
    if value is None:
        results.add(method, "constant", 1, photo)
    else:
        results.add(method, measure, value, photo)


def compare(model: Adapter, photo: Encoded, args: argparse.Namespace, results: Table) -> None:
    """Occlusion, deletion and insertion of one photo's words."""
    asked = asked_of(model, photo, args.words)
    if not asked:
        return
    patch = Patch(args.patch, args.stride)
    size = (photo.pixels.shape[2], photo.pixels.shape[3])
    occluded = explain_targets(model, photo, asked, methods.get("occlusion"), patch=patch).maps
    centre = torch.from_numpy(centred_gaussian(size))
    baseline = [curves(model, photo.pixels, target, centre) for target in asked]
    for name in args.methods:
        found = explain_targets(model, photo, asked, methods.get(name))
        on_grid = on_patches(found.maps, found.grid, patch, size)
        at_input = drawn(found.maps, found.grid, photo)
        for i, target in enumerate(asked):
            value = rank_correlation(on_grid[i], occluded[i])
            add(results, name, "occlusion", value, photo.photo)
            run = curves(model, photo.pixels, target, at_input[i])
            less = run.deletion_area - baseline[i].deletion_area
            more = run.insertion_area - baseline[i].insertion_area
            results.add(name, "deletion", less, photo.photo)
            results.add(name, "insertion", more, photo.photo)


def randomise(model: Adapter, photo: Encoded, args: argparse.Namespace, results: Table) -> None:
    """How alike maps stay as layers lose what they learned, from the top."""
    asked = asked_of(model, photo, args.words)
    if not asked:
        return
    size = (photo.pixels.shape[2], photo.pixels.shape[3])
    patch = Patch(args.patch, args.stride)

    def maps(of: Adapter, name: str) -> Tensor:
        seen = Encoded(
            photo.photo,
            photo.image,
            photo.pixels,
            None if of is not model else photo.features,
            photo.placement,
        )
        found = explain_targets(of, seen, asked, methods.get(name))
        return on_patches(found.maps, found.grid, patch, size)

    before = {name: maps(model, name) for name in args.methods}
    for step, (layer, changed) in enumerate(cascade(model, args.seed)):
        if step not in args.steps:
            continue
        for name in args.methods:
            after = maps(changed, name)
            for one, other in zip(before[name], after, strict=True):
                value = rank_correlation(one, other)
                add(results, name, f"randomised to {layer}", value, photo.photo)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder of photos")
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--limit", type=int, default=50, help="photos (default 50)")
    parser.add_argument("--randomised", type=int, default=10, help="photos of the cascade")
    parser.add_argument("--words", type=int, default=3, help="visual words a photo, at most")
    parser.add_argument("--patch", type=int, default=32, help="pixels (default 32)")
    parser.add_argument("--stride", type=int, default=16, help="pixels (default 16)")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[0, 1, 3, 6, 12], help="of the cascade"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--methods",
        nargs="+",
        default=[
            "grad-cam",
            "layercam",
            "hirescam",
            "gradient",
            "guided-backprop",
            "guided-grad-cam",
        ],
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start, results = time.perf_counter(), Table()
    model = vlcam.load(args.model)
    paths = sorted(p for p in args.photos.iterdir() if p.suffix in (".jpg", ".jpeg", ".png"))[
        : args.limit
    ]
    for path in tqdm(paths, "photos", unit="photo"):
        compare(model, vlcam.look(model, path), args, results)
    randomised = Table()
    for path in tqdm(paths[: args.randomised], "randomised", unit="photo"):
        randomise(model, vlcam.look(model, path), args, randomised)
    measures = ("occlusion", "deletion", "insertion")
    rows = [
        [m, *(results.figure(m, x) for x in measures), results.count(m, "constant")]
        for m in args.methods
    ]
    layers = list(
        dict.fromkeys(measure for _, measure in randomised.values if measure != "constant")
    )
    below = [[m, *(randomised.figure(m, x) for x in layers)] for m in args.methods]
    parts = [
        f"{len(paths)} photos of {args.photos.name}, at most {args.words} visual words of each"
        f" caption; patches of {args.patch} pixels at stride {args.stride}.",
        table(["method", "correlation with occlusion", "deletion", "insertion", "constant"], rows),
        f"Rank correlation with the map before, {args.randomised} photos, as layers are randomised"
        " one after the other from the top:",
        table(["method", *layers], below),
    ]
    seconds = time.perf_counter() - start
    report.write(args.out, f"Faithfulness of maps of {args.model}", parts, seconds)


if __name__ == "__main__":
    main()
