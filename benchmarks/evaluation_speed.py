"""How fast ``vlcam evaluate`` is beside its encoder, and what memory it takes as photos get more.

    vlcam scenes /tmp/unseen --images 1000 --seed 20261125
    python benchmarks/evaluation_speed.py --scenes /tmp/unseen

1. Throughput with the bundled captioner, all that a run does (reading, decoding, preparing,
   encoding, explaining, scoring, writing), as a share of the encoder's own on batches of the same
   size that lie ready in memory: the model's CNN as PyTorch runs it; the same with channels last in
   memory, as vlcam runs it, one batch after the other, PyTorch's threads sharing each; and as a run
   does it, a batch a thread, side by side. All take turns.
2. Memory of runs over 1,000 and 20,000 photos, each in a process of its own: once the annotations
   are loaded, and at its highest. Where the scenes do not suffice they are repeated, as hard links.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import report
import torch
from tqdm import tqdm

import captioning
from captioning.captioner import Captioner
from captioning.regions_experiment import BoxRatios
from captioning.words_experiment import Words
from vlcam import methods
from vlcam.engine import encode
from vlcam.evaluation import runner
from vlcam.evaluation.evaluating import How, evaluate
from vlcam.evaluation.experiment import Experiment
from vlcam.evaluation.store import opened
from vlcam.explaining import look_at
from vlcam.tables import table

PART = 64
ROUND = 15  # parts, one after the other, as a run over 1,000 photos has them


def experiments(scenes: Path) -> dict[str, Callable[[], Experiment]]:
    genome = scenes / "annotations" / "region_descriptions.json"
    return {
        "words, first captions": lambda: Words(scenes, captions="first"),
        "words, all five captions": lambda: Words(scenes),
        "words, the model's own captions": lambda: Words(scenes, captions="generated"),
        "regions": lambda: BoxRatios(genome, scenes),
        "regions of the dense captioner": lambda: BoxRatios(Path("densecap"), scenes),
    }


def throughput(args: argparse.Namespace) -> str:
    """Photos a second, and beside the encoder's own."""
    model, rows = captioning.load("scenes"), list[tuple[object, ...]]()
    for name, build in experiments(args.scenes).items():
        rounds, records = turns(model, build(), args.rounds, name)
        *alone, whole = zip(*rounds, strict=True)
        shares = [[a / b for a, b in zip(x, whole, strict=True)] for x in alone]
        rows.append(
            (
                name,
                *(f"{PART * ROUND / statistics.median(x):.1f}" for x in zip(*rounds, strict=True)),
                f"{100 * statistics.median(shares[0]):.0f}",
                f"{100 * min(shares[0]):.0f} ... {100 * max(shares[0]):.0f}",
                f"{100 * statistics.median(shares[1]):.0f}",
                f"{100 * statistics.median(shares[2]):.0f}",
                f"{records / (PART * ROUND * len(whole)):.1f}",
            )
        )
    head = (
        "experiment",
        "encoder, PyTorch's, photos/s",
        "vlcam's",
        "side by side",
        "whole run, photos/s",
        "share of PyTorch's %",
        "range %",
        "of vlcam's %",
        "side by side %",
    )
    return (
        f"## Throughput, {torch.get_num_threads()} threads\n\nThe bundled captioner, Grad-CAM,"
        f" batches of {Experiment.batch}, {args.rounds} rounds of {PART * ROUND} photos; medians"
        " over them. The encoder alone, on batches that lie ready in memory: the model's CNN as"
        " PyTorch runs it, and as vlcam does (channels last), one batch after the other, each"
        " shared by all threads; and side by side, a batch a thread, as a run works on them."
        " Records: one for each word or region and map, the baselines' among them.\n\n"
        + table((*head, "records a photo"), rows)
    )


def turns(
    model: Captioner, experiment: Experiment, rounds: int, name: str
) -> tuple[list[tuple[float, ...]], int]:
    """Of every round the seconds for its photos: of the encoder as PyTorch runs it, as vlcam does,
    and side by side, and of all that is done; and the records that came of them."""
    work = runner.Work(experiment, (methods.get("grad-cam"),), PART)
    seconds, records = list[tuple[float, ...]](), 0
    pixels = ready(model, experiment)
    usual = [batch.contiguous() for batch in pixels]
    parts = [part for part in work.parts if len(part) == PART]
    groups = len(parts) // ROUND  # which take turns as well
    for number in tqdm(range(rounds + 1), name):
        with (
            tempfile.TemporaryDirectory() as folder,
            opened(Path(folder) / "out", {}, experiment.columns, False) as store,
        ):
            first = number % groups * ROUND
            some = dict(enumerate(parts[first : first + ROUND]))
            times = [time.perf_counter()]
            with torch.no_grad():
                for batch in usual * ROUND:
                    model.module.encoder(batch)
            times.append(time.perf_counter())
            for batch in pixels * ROUND:
                encode(model, batch)
            times.append(time.perf_counter())
            side_by_side(model, pixels * ROUND)
            times.append(time.perf_counter())
            for part, found in runner.measured(work, model, some):
                store.write(part, found)
            times.append(time.perf_counter())
            if number:  # the first is for warming up
                seconds.append(tuple(b - a for a, b in pairwise(times)))
                records += sum(len(store.read(part)[0]) for part in some)
    return seconds, records


def side_by_side(model: Captioner, batches: list[torch.Tensor]) -> None:
    """Encode batches, each in a thread that computes by itself."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
        list(pool.map(lambda batch: encode(model, batch), batches))
    torch.set_num_threads(threads)


def ready(model: Captioner, experiment: Experiment) -> list[torch.Tensor]:
    """A part's photos, in batches that could be encoded at once."""
    found = [runner._read(model, item) for item in experiment.items[:PART]]
    seen = look_at(model, [one for one in found if not isinstance(one, str)])
    return list(torch.cat([one.pixels for one in seen]).split(experiment.batch))


# -- memory ---------------------------------------------------------------------------------


def repeated(scenes: Path, photos: int, folder: Path) -> Path:
    """A folder in COCO's layout of so many photos, the scenes' again and again."""
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for name in ("instances", "captions"):
        data = json.loads((scenes / "annotations" / f"{name}.json").read_bytes())
        count = len(data["images"])
        rounds = range(-(-photos // count))
        ids = {one["id"]: row for row, one in enumerate(data["images"], start=1)}
        images, annotations = [], []
        for again in rounds:
            for one in data["images"]:
                number = again * count + ids[one["id"]]
                if number <= photos:
                    images.append(one | {"id": number, "file_name": f"{number}.jpg"})
                    link = folder / "images" / f"{number}.jpg"
                    if name == "instances":
                        os.link(scenes / "images" / one["file_name"], link)
            step = 1 + max(one["id"] for one in data["annotations"])
            for one in data["annotations"]:
                image = again * count + ids[one["image_id"]]
                if image <= photos:
                    number = again * step + one["id"]
                    annotations.append(one | {"id": number, "image_id": image})
        content = data | {"images": images, "annotations": annotations}
        (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return folder


def resident() -> tuple[float, float]:
    """Memory of this process now, and at its highest, in MiB."""
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    now, highest = (int(status[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return now, highest


def one_run(data: Path) -> None:
    """Evaluate a folder, and say what memory it took."""
    experiment = Words(data, captions="first")
    assert experiment.items
    loaded = resident()[0]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        stdout, sys.stdout = sys.stdout, sys.stderr
        evaluate(experiment, How("scenes", ["grad-cam"], Path(folder) / "out"))
        sys.stdout = stdout
    spent = time.perf_counter() - start
    print(json.dumps({"loaded": loaded, "highest": resident()[1], "seconds": spent}))


def memory(args: argparse.Namespace) -> str:
    rows = []
    for photos in args.memory:
        with tempfile.TemporaryDirectory(dir=args.scenes.parent) as folder:
            data = repeated(args.scenes, photos, Path(folder) / "data")
            command = [sys.executable, __file__, "--scenes", str(data), "--one-run"]
            out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        found = json.loads(out.splitlines()[-1])
        rows.append(
            (
                photos,
                f"{found['loaded']:.0f}",
                f"{found['highest']:.0f}",
                f"{found['highest'] - found['loaded']:.0f}",
                f"{photos / found['seconds']:.1f}",
            )
        )
    head = ("photos", "MiB with annotations loaded", "MiB at most", "difference", "photos/s")
    return (
        "## Memory\n\n`vlcam evaluate words`, first captions, Grad-CAM, from the first photo to the"
        " last page of the report.\n\n" + table(head, rows)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--scenes", type=Path, required=True, help="vlcam scenes wrote")
    parser.add_argument("--rounds", type=int, default=4, help="of seven parts; default: 4")
    parser.add_argument("--memory", type=int, nargs="*", default=[1000, 20000], metavar="PHOTOS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one-run", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/evaluation_speed.md"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one_run:
        one_run(args.scenes)
        return 0
    begun = time.perf_counter()
    parts = [throughput(args)] if args.rounds else []
    parts += [memory(args)] if args.memory else []
    report.write(args.out, "Evaluating many photos", parts, time.perf_counter() - begun)
    return 0


if __name__ == "__main__":
    sys.exit(main())
