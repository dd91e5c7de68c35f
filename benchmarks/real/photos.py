"""Explaining real photos: word pointing on COCO (section 8.1.1), box ratio on Flickr30k Entities.

    python -m benchmarks.real.photos --data ../shared/data --model CHECKPOINT --size 448

Needs, under --data, ``coco/`` (instances, captions, photos) and ``flickr8k/`` with
``flickr30k_entities/annotations.zip``. Results are sums over many items; nothing of the data is
written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.shared import pointing, program, report
from captioning.data import regions
from captioning.experiments.regions import Protocol, target_of
from captioning.language.captioner import Captioner
from captioning.models.neuraltalk import neuraltalk
from vlcam import look
from vlcam.attribution import methods
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import explain_targets
from vlcam.attribution.targets import Target
from vlcam.cli.arguments import methods_argument
from vlcam.evaluation.entities import Entities
from vlcam.geometry.grid import Placement, place
from vlcam.metrics.box_ratio import BoxMeans, box_means, boxes_in_input
from vlcam.metrics.pointing import centred_gaussian
from vlcam.utils.files.text_files import read_lines
from vlcam.utils.terminal import progress

PROTOCOLS: dict[str, Protocol] = {
    "phrase as a caption": "alone",
    "phrase in its sentence": "sentence",
}


def boxes(model: Captioner, args: argparse.Namespace) -> str:
    """The box ratio's table."""
    data = args.data / "flickr8k"
    names = read_lines(data / "testImages.txt")[: args.photos]
    rows: dict[tuple[str, str], list[tuple[str, BoxMeans]]] = {}
    unknown = 0
    entities = Entities(args.data / "flickr30k_entities" / "annotations.zip")
    for name in progress.each(names, "phrases", unit="photo"):
        path = data / "Images" / name
        encoded = look(model, path)
        size = encoded.placement.photo_size
        phrases = list(regions.phrases(entities.read(name.split("_")[0], size)))
        for protocol, kind in PROTOCOLS.items():
            found = [(phrase, target_of(model, phrase, kind)) for phrase in phrases]
            asked = [(phrase, target) for phrase, target in found if target is not None]
            unknown += len(phrases) - len(asked)
            if not asked:
                continue
            masks = [boxes_in_input(p.boxes, encoded.placement) for p, _ in asked]
            rows.setdefault(("centred Gaussian", protocol), []).extend(
                (name, box_means(centred_gaussian(m.shape), m)) for m in masks
            )
            for method in args.box_methods:
                placed = placed_maps(model, encoded, [t for _, t in asked], method=method)
                rows.setdefault((method, protocol), []).extend(
                    (name, box_means(v, m)) for v, m in zip(placed, masks, strict=True)
                )
    return (
        f"## Box ratio: phrases of Flickr30k Entities, {len(names)} test photos of Flickr8k\n\n"
        "All phrases with boxes in all five sentences; the box is the union of the phrase's boxes, "
        f"at input resolution. Phrases without a known word: {unknown}.\n\n"
        + report.box_table(("method", "target"), rows)
    )


def placed_maps(
    model: Captioner, encoded: Encoded, wanted: list[Target], method: str
) -> np.ndarray:
    """Maps of T targets at the input's resolution, (T, H, W)."""
    found = explain_targets(model, encoded, wanted, methods.get(method))
    return place(found.maps, found.grid, Placement.identity(encoded.placement.input_size)).numpy()


def pointings(model: Captioner, args: argparse.Namespace) -> str:
    """Word pointing's tables."""
    results = pointing.Results.empty()
    done = silent = 0
    for split in ("val2017", "train2017"):
        folder = args.data / "coco"
        coco = pointing.instances(folder / "annotations" / f"instances_{split}.json")
        captions = pointing.captions(folder / "annotations" / f"captions_{split}.json")
        for image in progress.each(sorted(coco.imgs), split, unit="photo"):
            if args.photos is not None and done >= args.photos:
                break
            done += 1
            encoded = look(model, folder / split / coco.imgs[image]["file_name"])
            first, *others = [model.read(text) for text in captions[image]]
            readings = [("first", first), *(("others", r) for r in others)]
            if words := model.generate(encoded.features, args.beam):
                text = " ".join(word.text for word in words)
                readings.append(("generated", model.read(text)))
            else:
                silent += 1
            masks = pointing.Masks(coco, image)
            pointing.point(
                model, encoded, readings, masks=masks, names=args.methods, results=results
            )
    sources = {
        "first caption": {"first"},
        "all five captions": {"first", "others"},
        "generated caption": {"generated"},
    }
    return (
        f"## Word pointing: {done} COCO photos\n\nGenerated captions: beam {args.beam}, "
        f"{silent} empty.\n\n" + pointing.tables(results, sources)
    )


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="a captioner's folder")
    parser.add_argument("--layer", help="of the CNN (default: the model's)")
    parser.add_argument("--size", type=int, help="input height and width (default: the model's)")
    parser.add_argument("--beam", type=int, default=1, help="for generated captions")
    methods_argument(parser, default=["grad-cam", "layercam", "hirescam"], nargs="+")
    parser.add_argument("--box-methods", nargs="*", default=["grad-cam", "layercam", "hirescam"])
    parser.add_argument("--photos", type=int, help="only so many of each data set")
    program.run(parser, measure)


def measure(args: argparse.Namespace) -> tuple[str, list[str]]:
    model = neuraltalk.load(args.model, args.layer)
    if args.size:
        model.resize((args.size, args.size))
    parts = [pointings(model, args)]
    if args.box_methods:
        parts.append(boxes(model, args))
    pixels, _ = model.prepare(Image.new("RGB", (8, 8)))
    cells = model.grid((pixels.shape[1], pixels.shape[2])).size
    title = f"Real photos: {model.name}, layer {model.layer}, {pixels.shape[1]} px, {cells} cells"
    return title, parts


if __name__ == "__main__":
    main()
