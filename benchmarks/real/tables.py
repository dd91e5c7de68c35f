"""``vlcam evaluate`` on real photos: the tables of a captioner of Flickr8k.

    python -m benchmarks.real.tables --data ../shared/data --model CHECKPOINT --size 448 \
        --methods grad-cam layercam ...

1. ``words``: all reference captions of all COCO photos under ``--data`` (both splits in one);
2. ``regions``: phrases of Flickr30k Entities of the 500 test photos of Flickr8k, alone and in their
   sentences.

Each summary goes to ``--out`` as ``words.md`` and so on (``NAME_words.md`` with ``--name``);
nothing of single photos does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from captioning.experiments.regions import BoxRatios
from captioning.experiments.words import Words
from vlcam.cli.arguments import methods_argument
from vlcam.evaluation.evaluate import How, evaluate
from vlcam.evaluation.experiment import Experiment
from vlcam.utils.files.text_files import read_lines
from vlcam.utils.terminal import progress


def one_coco(coco: Path, folder: Path) -> Path:
    """A folder in COCO's layout with the photos of all splits, as links."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    for kind in ("instances", "captions"):
        merged: dict[str, list[dict[str, object]]] = {}
        for path in sorted((coco / "annotations").glob(f"{kind}_*2017.json")):
            data = json.loads(path.read_bytes())
            for name in ("images", "annotations", "categories"):
                merged[name] = [*merged.get(name, ()), *data.get(name, ())]
        merged["categories"] = list({one["id"]: one for one in merged["categories"]}.values())
        (folder / "annotations" / f"{kind}.json").write_text(json.dumps(merged))
    for photo in coco.resolve().glob("*2017/*.jpg"):
        (folder / "images" / photo.name).symlink_to(photo)
    return folder


def experiments(data: Path, folder: Path, limit: int | None) -> dict[str, Callable[[], Experiment]]:
    flickr = data / "flickr8k"
    names = read_lines(flickr / "testImages.txt")
    entities = data / "flickr30k_entities" / "annotations.zip"

    def regions(protocol: str) -> BoxRatios:
        return BoxRatios(entities, flickr / "Images", names=names, protocol=protocol, limit=limit)  # type: ignore[arg-type]

    return {
        "words": lambda: Words(one_coco(data / "coco", folder / "coco"), limit=limit),
        "phrases": lambda: regions("alone"),
        "phrases_in_sentences": lambda: regions("sentence"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--model", type=Path, required=True, help="a captioner's folder")
    add("--size", type=int, help="input height and width (default: the model's)")
    add("--layer", help="of the CNN (default: the model's)")
    methods_argument(parser, default=["grad-cam", "layercam"], nargs="+")
    add("--limit", type=int, help="only so many photos of each")
    add("--only", nargs="+", default=["words", "phrases", "phrases_in_sentences"])
    add("--threads", type=int, default=2)
    add("--name", default="", help="beginning of the tables' names; default: none")
    add("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)  # before what takes minutes
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, build in experiments(args.data, work, args.limit).items():
            if name not in args.only:
                continue
            how = How(
                str(args.model), args.methods, out=work / name, layer=args.layer, size=args.size
            )
            evaluate(build(), how)
            text = (work / name / "summary.md").read_text("utf-8")
            file = f"{args.name}_{name}.md" if args.name else f"{name}.md"
            (args.out / file).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    with progress.shown():
        sys.exit(main())
