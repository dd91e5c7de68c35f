"""How fast ``vlcam evaluate`` is beside its encoder, and what memory it takes as photos get more.

    vlcam scenes /tmp/unseen --images 1000 --seed 20261125
    python -m benchmarks.speed.evaluation --scenes /tmp/unseen

1. Throughput with the bundled captioner, all that a run does (reading, decoding, preparing,
   encoding, explaining, scoring, writing), as a share of the encoder's own on batches of the same
   size that lie ready in memory: the model's CNN as PyTorch runs it, called in a process of its
   own, and as vlcam runs it, with channels last and memory that is kept; both timed before and
   after each run. Neighbours on the machine make these rough; less so how much of the time of a
   run its encoder took.
2. Memory of runs over 1,000 and 20,000 photos, each in a process of its own: once the annotations
   are loaded, and at its highest. Where the scenes do not suffice they are repeated, as hard links.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from threading import Lock
from typing import Any
from unittest import mock

import torch

import captioning
from benchmarks.shared import report
from captioning.experiments.regions import BoxRatios
from captioning.experiments.words import Words
from captioning.language.captioner import Captioner
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode, encode_photos, prepare
from vlcam.evaluation import runner
from vlcam.evaluation.evaluate import How, evaluate
from vlcam.evaluation.experiment import Experiment, Item
from vlcam.evaluation.store import opened
from vlcam.evaluation.tables import table
from vlcam.photo.loading import load_photo
from vlcam.utils.allocator import keep_freed_memory
from vlcam.utils.terminal import progress

PART = 64
ROUND = 15  # parts, one after the other, as a run over 1,000 photos has them
ALONE = 5  # parts that the encoder has for itself, before and after


def experiments(scenes: Path) -> dict[str, Callable[[], Experiment]]:
    genome = scenes / "annotations" / "region_descriptions.json"
    return {
        "words, first captions": lambda: Words(scenes, captions="first"),
        "words, all five captions": lambda: Words(scenes),
        "words, the model's own captions": lambda: Words(scenes, captions="generated"),
        "regions": lambda: BoxRatios(genome, scenes),
        "regions of the dense captioner": lambda: BoxRatios(Path("densecap"), scenes),
    }


@dataclass(frozen=True)
class Round:
    """What was measured around one run.

    Attributes:
        plain: photos a second of the encoder alone, as PyTorch runs it.
        ours: the same, as vlcam runs it.
        run: photos a second of the run.
        encoding: the share of the run's time that its encoder took.
        records: the run's records per photo.
    """

    plain: float
    ours: float
    run: float
    encoding: float
    records: float


def throughput(args: argparse.Namespace) -> str:
    """Photos a second, and beside the encoder's own."""
    model, rows = captioning.load("scenes"), list[tuple[object, ...]]()
    apart = ProcessPoolExecutor(1, get_context("spawn"))
    for name, build in experiments(args.scenes).items():
        rounds = turns(model, build(), args=args, name=name, apart=apart)
        beside = [100 * one.run / one.plain for one in rounds]
        ours = [100 * one.run / one.ours for one in rounds]
        speeds = ([getattr(one, of) for one in rounds] for of in ("plain", "ours", "run"))
        rows.append(
            (
                name,
                *(f"{median(speed):.1f}" for speed in speeds),
                *(f"{median(of):.0f} ({min(of):.0f} ... {max(of):.0f})" for of in (beside, ours)),
                f"{100 * median(one.encoding for one in rounds):.0f}",
                f"{median(one.records for one in rounds):.1f}",
            )
        )
    head = (
        "experiment",
        "encoder, PyTorch's, photos/s",
        "vlcam's",
        "whole run, photos/s",
        "share of PyTorch's %",
        "of vlcam's %",
        "time encoding %",
        "records a photo",
    )
    return (
        f"## Throughput, {torch.get_num_threads()} threads\n\nThe bundled captioner, Grad-CAM,"
        f" batches of {Experiment.batch}, {args.rounds} rounds of {PART * ROUND} photos; medians"
        " over them (least ... most). The encoder alone, on batches that lie ready in memory: the"
        " model's CNN as PyTorch runs it, in a process of its own, and as vlcam does, with channels"
        " last and memory that is kept; timed before and after each run. Time encoding: of all"
        " threads' time in the run. Records: one for each word or region and map, the baselines'"
        " among them.\n\n" + table(head, rows)
    )


def turns(
    model: Captioner,
    experiment: Experiment,
    *,
    args: argparse.Namespace,
    name: str,
    apart: Executor,
) -> list[Round]:
    """One round after the other; ``apart`` runs the encoder as PyTorch does."""

    def alone() -> tuple[float, float]:
        plain = apart.submit(as_pytorch_runs_it, args.scenes, args.threads).result()
        return plain, as_vlcam_runs_it(model, pixels)

    work = runner.Work(experiment, (methods.get("grad-cam"),), PART)
    pixels = ready(model, experiment)
    parts = [part for part in work.parts if len(part) == PART]
    groups = len(parts) // ROUND  # which take turns
    found = []
    for number in progress.each(range(args.rounds + 1), name, unit="round"):
        first = number % groups * ROUND
        before = alone()
        seconds, encoding, records = whole(model, work, parts[first : first + ROUND])
        after = alone()
        plain, ours = (2 * PART * ALONE / sum(pair) for pair in zip(before, after, strict=True))
        photos = PART * ROUND
        if number:  # the first is for warming up
            found.append(
                Round(
                    plain,
                    ours,
                    run=photos / seconds,
                    encoding=encoding / seconds,
                    records=records / photos,
                )
            )
    return found


def as_vlcam_runs_it(model: Captioner, pixels: list[torch.Tensor]) -> float:
    """Seconds of the encoder."""
    begun = time.perf_counter()
    for batch in pixels * ALONE:
        encode(model, batch)
    return time.perf_counter() - begun


def as_pytorch_runs_it(scenes: Path, threads: int) -> float:
    """The same, by nothing but PyTorch."""
    torch.set_num_threads(threads)
    encoder, pixels = encoder_apart(scenes)
    begun = time.perf_counter()
    with torch.no_grad():
        for batch in pixels * ALONE:
            encoder(batch)
    return time.perf_counter() - begun


@cache
def encoder_apart(scenes: Path) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    model = captioning.load("scenes")
    pixels = ready(model, Words(scenes, captions="first"))
    return model.module.get_submodule("encoder"), [batch.contiguous() for batch in pixels]


def whole(
    model: Captioner, work: runner.Work, parts: list[Sequence[Item]]
) -> tuple[float, float, int]:
    """Seconds of a run, those that a thread of all spent encoding in it, and its records."""
    spent, lock, threads = 0.0, Lock(), torch.get_num_threads()
    plain = model.encode

    def timed(*args: Any) -> Any:
        nonlocal spent
        begun = time.thread_time()
        result = plain(*args)
        # Threads that it shares a batch with have as much to do.
        own = (time.thread_time() - begun) * torch.get_num_threads() / threads
        with lock:
            spent += own
        return result

    with (
        mock.patch.object(model, "encode", timed),
        tempfile.TemporaryDirectory() as folder,
        opened(Path(folder) / "out", {}, work.experiment.columns, False) as store,
    ):
        begun = time.perf_counter()
        for part, found in runner.measured(work, model, dict(enumerate(parts))):
            store.write(part, found)
        seconds = time.perf_counter() - begun
        return seconds, spent, sum(len(store.read(part)[0]) for part in range(len(parts)))


def ready(model: Captioner, experiment: Experiment) -> list[torch.Tensor]:
    """A part's photos, in batches that could be encoded at once."""
    paths = [item.photo for item in experiment.items[:PART]]
    photos = [prepare(model, str(path), load_photo(path)) for path in paths]
    encoded = encode_photos(model, photos)
    return list(torch.cat([one.pixels for one in encoded]).split(experiment.batch))


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
            command = [sys.executable, "-m", "benchmarks.speed.evaluation", "--one-run"]
            command += ["--scenes", str(data)]
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
    parser.add_argument("--rounds", type=int, default=4, help="of 960 photos; default: 4")
    parser.add_argument("--memory", type=int, nargs="*", default=[1000, 20000], metavar="PHOTOS")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one-run", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    keep_freed_memory()  # as the command does
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
    with progress.shown():
        sys.exit(main())
