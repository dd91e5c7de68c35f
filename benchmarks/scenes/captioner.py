"""The bundled captioner on scenes it has never seen, where everything is known.

    vlcam scenes /tmp/unseen --images 1000 --seed SEED
    python -m benchmarks.scenes.captioner --scenes /tmp/unseen

1. visual words of its own (greedy) captions that are really in the photo;
2. word pointing with them and with reference captions, and what the geometry changes in it;
3. the box ratio of region captions (section 8.1), at input resolution.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import cast

import numpy as np

import vlcam
from benchmarks.shared import pointing, program, report
from captioning.language.captioner import Captioner
from vlcam import look
from vlcam.attribution import methods, targets
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import explain_targets
from vlcam.cli.arguments import methods_argument
from vlcam.geometry.grid import Grid, Placement, place
from vlcam.metrics.box_ratio import Box, BoxMeans, box_in_input, box_mask, box_means
from vlcam.utils.terminal import progress

BOX_METHODS = ("guided-backprop", "grad-cam", "guided-grad-cam")


def region_boxes(path: Path) -> dict[int, list[tuple[str, Box]]]:
    """Phrases and boxes (edges, photo pixels) by image id, of a Visual Genome file."""
    return {
        image["id"]: [
            (r["phrase"], (r["x"], r["y"], r["x"] + r["width"], r["y"] + r["height"]))
            for r in image["regions"]
        ]
        for image in json.loads(path.read_text("utf-8"))
    }


def pixel_maps(
    model: Captioner, encoded: Encoded, asked: list[targets.Target]
) -> dict[str, np.ndarray]:
    """Maps of all ``BOX_METHODS`` at the input's resolution, (T, H, W).

    Guided Grad-CAM is the product of the other two (section 3.2), so one guided backward pass
    serves both; :func:`check` compares with the method of that name.
    """
    identity = Placement.identity(encoded.placement.input_size)
    cam = explain_targets(model, encoded, asked, methods.get("grad-cam"))
    guided = explain_targets(model, encoded, asked, methods.get("guided-backprop")).maps
    coarse = place(cam.maps, cam.grid, identity)
    return {
        "guided-backprop": guided.numpy(),
        "grad-cam": coarse.numpy(),
        "guided-grad-cam": (guided * coarse).numpy(),
    }


def check(model: Captioner, encoded: Encoded, asked: list[targets.Target]) -> None:
    """The shortcut against the method by its name, on one photo."""
    slow = explain_targets(model, encoded, asked, methods.get("guided-grad-cam")).maps
    fast = pixel_maps(model, encoded, asked)["guided-grad-cam"]
    if not np.allclose(fast, slow.numpy(), rtol=1e-3, atol=1e-5 * float(slow.max())):
        raise AssertionError("Guided Grad-CAM is not the product of its two maps")


def measure_boxes(
    model: Captioner,
    encoded: Encoded,
    regions: list[tuple[str, Box]],
    *,
    found: dict[str, list[BoxMeans]],
    first: bool,
) -> int:
    """Adds the box means of a photo's region captions by method; returns how many."""
    readings = [(model.read(phrase), box) for phrase, box in regions]
    known = [(r, box) for r, box in readings if not all(u.unknown for u in r.units)]
    if not known:
        return 0
    asked = [targets.whole(reading) for reading, _ in known]
    if first:
        check(model, encoded, asked)
    size = encoded.placement.input_size
    masks = [box_mask(box_in_input(box, encoded.placement), size) for _, box in known]
    maps = pixel_maps(model, encoded, asked)
    cam = explain_targets(model, encoded, asked, methods.get("grad-cam"))
    stretched = place(cam.maps, Grid.stretched(cam.grid.size, size), Placement.identity(size))
    maps["grad-cam, stretched"] = stretched.numpy()
    for name, values in maps.items():
        found.setdefault(name, []).extend(
            box_means(v, m) for v, m in zip(values, masks, strict=True)
        )
    return len(known)


def box_table(found: dict[str, list[BoxMeans]], images: list[int]) -> str:
    rows = {(name,): list(zip(images, items, strict=True)) for name, items in found.items()}
    return (
        "## Box ratio of region captions\n\nPaper, on its own photos: Guided Backprop 2.32, "
        "Grad-CAM 3.27, Guided Grad-CAM 6.38.\n\n" + report.box_table(("method",), rows)
    )


def present_table(results: pointing.Results, wrong: list[str]) -> str:
    asked = results.counts["generated", "visual words"]
    absent = results.counts["generated", "absent"]
    return (
        f"## Generated captions (greedy)\n\n{asked} visual words, {asked - absent} of them "
        f"({100 * (1 - absent / max(asked, 1)):.2f} %) name something really in the photo.\n"
        f"Some that do not: {'; '.join(wrong[:8]) or 'none'}."
    )


def evaluate(args: argparse.Namespace) -> tuple[str, list[str]]:
    model = cast(Captioner, vlcam.load(args.model, args.layer, "captioner"))
    notes = args.scenes / "annotations"
    coco = pointing.instances(notes / "instances.json")
    captions = pointing.captions(notes / "captions.json")
    regions = region_boxes(notes / "region_descriptions.json")
    results = pointing.Results.empty()
    found: dict[str, list[BoxMeans]] = {}
    owners: list[int] = []
    wrong: list[str] = []
    images = sorted(coco.imgs)[: args.images]
    for image in progress.each(images, "scenes", unit="scene"):
        encoded = look(model, args.scenes / "images" / coco.imgs[image]["file_name"])
        written = model.write(encoded.features)
        readings = [("generated", written)]
        readings += [("reference", model.read(text)) for text in captions[image]]
        masks = pointing.Masks(coco, image)
        named = {w.category for w in pointing.visual_words(written)}
        if named - masks.present:
            wrong.append(f"{image}: {written.text!r} ({', '.join(sorted(named - masks.present))})")
        pointing.point(model, encoded, readings, masks=masks, names=args.methods, results=results)
        if len(owners) < args.regions:
            described = regions.get(image, [])
            number = measure_boxes(model, encoded, described, found=found, first=not owners)
            owners += [image] * number
    sources = {"generated captions": {"generated"}, "reference captions": {"reference"}}
    parts = [
        f"{len(images)} scenes of {args.scenes.name}.",
        present_table(results, wrong),
        "## Word pointing\n\n" + pointing.tables(results, sources),
    ]
    if owners:
        parts.append(box_table(found, owners))
    return f"Captioner {model.name} on unseen scenes, layer {model.layer}", parts


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--scenes", type=Path, required=True, help="written by vlcam scenes")
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--layer", help="of the CNN (default: the model's)")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--regions", type=int, default=10**9, help="stop after so many of them")
    methods_argument(parser, default=["grad-cam"], nargs="+")
    program.run(parser, evaluate)


if __name__ == "__main__":
    main()
