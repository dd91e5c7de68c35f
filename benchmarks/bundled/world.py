"""Which photos the bundled models find unlike those they learned from.

    vlcam scenes seen --images 1000 --seed 1
    vlcam scenes others --images 1000 --seed 2
    for model in captioning/bundled/scenes vqa/bundled/scenes; do
        vlcam world $model --photos seen/images --test others/images \\
            --name "rendered scenes" --instead "For real photos: --model photos"
    done
    vlcam scenes /tmp/unseen --images 1000 --seed 20261125
    python -m benchmarks.bundled.world --scenes /tmp/unseen --data ../shared/data

Scenes and photos as they are, and as people have them: greyscale, blurred, compressed, of other
sizes. Of a model of scenes none of the scenes should be told of, nearly all photos should; of a
model of photos it is the other way round.
"""

from __future__ import annotations

import argparse
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter, ImageOps

import vlcam
from benchmarks.shared import program, report
from vlcam.cli.commands.world import photos as photos_in
from vlcam.evaluation.tables import table
from vlcam.formats.world import World
from vlcam.photo.loading import load_photo
from vlcam.training.world import photo_vectors

Change = Callable[[Image.Image], Image.Image]


def as_is(photo: Image.Image) -> Image.Image:
    return photo


def jpeg(quality: int) -> Change:
    def changed(photo: Image.Image) -> Image.Image:
        file = io.BytesIO()
        photo.save(file, "jpeg", quality=quality)
        return Image.open(file).convert("RGB")

    return changed


def sized(factor: float) -> Change:
    return lambda photo: ImageOps.scale(photo, factor)


def grey(photo: Image.Image) -> Image.Image:
    return photo.convert("L").convert("RGB")


def cropped(photo: Image.Image) -> Image.Image:
    return ImageOps.crop(photo, border=20)


def blurred(photo: Image.Image) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(8))


@dataclass(frozen=True)
class Kind:
    """Photos of one kind: files, and what is done to each."""

    name: str
    files: Sequence[Path]
    change: Change = as_is


def scenes(folder: Path, count: int) -> list[Kind]:
    """A kind each, no scene in two of them."""
    files = photos_in(folder / "images")
    changes = {
        "scenes, JPEG of quality 40": jpeg(40),
        "scenes at half the size, JPEG of quality 85": lambda p: jpeg(85)(sized(0.5)(p)),
        "scenes at twice the size": sized(2),
        "scenes without a margin of 20 pixels": cropped,
        "scenes in grey": grey,
    }
    kinds = [Kind("scenes", files[: 4 * count])]
    for place, (name, change) in enumerate(changes.items(), start=4):
        kinds.append(Kind(name, files[place * count : (place + 1) * count], change))
    return kinds


SKIMAGE = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "camera", "clock_motion")
"""The photos that scikit-image ships, among pictures of other kinds."""


def real(data: Path, count: int, seed: int) -> list[Kind]:
    flickr8k = data / "flickr8k"
    test = photos_in(flickr8k / "testImages.txt", flickr8k / "Images")
    draw = random.Random(seed)
    flickr = draw.sample(test, 4 * count)
    coco = draw.sample(photos_in(data / "coco"), 5 * count)
    changes = {"in grey": grey, "blurred": blurred, "JPEG of quality 10": jpeg(10)}
    kinds = [Kind("Flickr8k's test photos", flickr), Kind("COCO's photos", coco[: 2 * count])]
    for place, (name, change) in enumerate(changes.items(), start=2):
        kinds.append(Kind(f"COCO's, {name}", coco[place * count : (place + 1) * count], change))
    import skimage

    own = Path(skimage.__file__).parent / "data"
    files = [file for name in SKIMAGE for file in own.glob(f"{name}.*")]
    return [*kinds, Kind("scikit-image's photos", files)]


def modules() -> dict[str, Any]:
    """The bundled models by name, those that share their CNN once: of photos the captioner stands
    for the VQA model, of scenes the VQA model for the dense captioner."""
    return {
        "scenes, captioner": vlcam.load("scenes", kind="captioner").module,
        "scenes, VQA": vlcam.load("scenes", kind="vqa").module,
        "photos": vlcam.load("photos", kind="captioner").module,
    }


def main() -> None:
    parser = program.options(__file__, __doc__, threads=1)
    parser.add_argument("--scenes", type=Path, required=True, help="vlcam scenes wrote")
    parser.add_argument("--data", type=Path, required=True, help="flickr8k/ and coco/ are in it")
    parser.add_argument("--photos", type=int, default=50, help="of each kind that is changed")
    parser.add_argument("--seed", type=int, default=0)
    program.run(parser, measure)


def measure(args: argparse.Namespace) -> tuple[str, list[str]]:
    kinds = scenes(args.scenes, args.photos) + real(args.data, args.photos, args.seed)
    results = report.Table()
    models = modules()
    for name, module in models.items():
        world: World = module.world
        for kind in kinds:
            found = photo_vectors(
                module.encoder,
                module.config.preprocess,
                kind.files,
                lambda path, change=kind.change: change(load_photo(path)),  # type: ignore[misc]
            )
            for file, score in zip(kind.files, world.scores(found).tolist(), strict=True):
                results.add(kind.name, name, score > world.threshold, photo=file)
    rows = [
        (kind.name, len(kind.files), *(results.share(kind.name, name) for name in models))
        for kind in kinds
    ]
    text = (
        "Shares in % of the photos that are told to be unlike those the model learned from.\n\n"
        + table(("photos", "of them", *models), rows)
    )
    return "Photos unlike those a model learned from", [text]


if __name__ == "__main__":
    main()
