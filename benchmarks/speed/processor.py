"""What precision, memory order and chunk sizes are worth, by the instructions there are.

    python -m benchmarks.speed.processor [--rounds 5] [--only SETS]

A process of its own for each instruction set, in which PyTorch and its libraries are told to use
none beyond it (``ATEN_CPU_CAPABILITY``, ``ONEDNN_MAX_CPU_ISA``, ``MKL_ENABLE_INSTRUCTIONS``).
Contenders take turns on one thread; each figure is the least of that thread's own time of some
rounds (so other work on the machine counts little), relative to the first contender of its row.
Random weights, photos of noise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.shared import report
from benchmarks.speed.caption import LAYERS, Case
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels
from vlcam.attribution.guards import KeptBytes
from vlcam.attribution.methods import METHODS
from vlcam.attribution.rows import differentiate, rows_of
from vlcam.evaluation.tables import table
from vlcam.networks.encoder import Encoder
from vlcam.training.precision import autocast

SETS: dict[str, dict[str, str]] = {
    "all there are": {},
    "AVX-512, no bfloat16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "AVX2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}
NETWORKS = {"small": (320, 4), "mobilenet_v2": (320, 4), "resnet50": (224, 1)}
"""Size of the photos, and how many are computed at once."""

WORDS, CHUNKS = 20, (20, 10, 5, 2)

Run = Callable[[], object]
Row = tuple[str, dict[str, float]]
"""What is compared, and the seconds of each contender."""


def least(contenders: Mapping[str, Run], rounds: int) -> dict[str, float]:
    """Seconds of each, the least of some rounds in which they take turns."""
    found = dict.fromkeys(contenders, float("inf"))
    for number in range(1 + rounds):  # the first is for warming up
        for name, run in contenders.items():
            begun = time.thread_time()
            run()
            spent = time.thread_time() - begun
            if number or spent > 2:  # what is emulated has no need of it
                found[name] = min(found[name], spent)
    return found


def step(net: nn.Module, pixels: torch.Tensor, kind: torch.dtype, trained: bool) -> None:
    with torch.set_grad_enabled(trained), autocast(pixels.device, kind):
        feature = net(pixels)
    if trained:
        torch.autograd.grad(feature.float().sum(), list(net.parameters()), allow_unused=True)


def precision(rounds: int) -> Iterator[Row]:
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    for name, (size, count) in NETWORKS.items():
        net = Encoder(name, (size, size)).eval().to(memory_format=torch.channels_last)
        pixels = torch.randn(count, 3, size, size).contiguous(memory_format=torch.channels_last)
        for trained, what in ((False, "forward"), (True, "forward and backward")):
            runs = {
                title: partial(step, net, pixels, kind, trained) for title, kind in kinds.items()
            }
            yield f"{name}, {size} pixels, {what}", least(runs, rounds)


def memory_order(rounds: int) -> Iterator[Row]:
    for name, (size, count) in (NETWORKS | {"vgg16": (224, 2)}).items():
        plain = torch.randn(count, 3, size, size)
        last = plain.contiguous(memory_format=torch.channels_last)
        net = Encoder(name, (size, size)).eval()
        runs = {
            title: partial(step, net, pixels, torch.float32, False)
            for title, pixels in (("as it comes", plain), ("channels last", last))
        }
        yield f"{name}, forward", least(runs, rounds)


def chunks(rounds: int) -> Iterator[Row]:
    for cnn, layer in LAYERS.items():
        case = Case(cnn, layer, WORDS)
        features = encode(case.ours, case.pixels)
        asked = case.targets()
        one = kept(case)
        runs = {
            f"{size} rows": partial(
                explain_at_layer, case.ours, features, asked, METHODS["grad-cam"], memory=size * one
            )
            for size in CHUNKS
        }
        yield f"{cnn} + LSTM, Grad-CAM of {WORDS} words, decode", least(runs, rounds)
    runs = {
        name: partial(explain_at_pixels, case.ours, case.pixels, asked[:5], METHODS[name])
        for name in ("gradient", "guided-grad-cam")
    }
    yield f"{cnn} + LSTM, 5 words at the pixels", least(runs, rounds)


def kept(case: Case) -> int:
    """Bytes that the graph of one row keeps."""
    features, seen = encode(case.ours, case.pixels), KeptBytes(case.ours)
    with seen:
        differentiate(case.ours, features, rows_of(case.targets()[:1], [0]), rule=None)
    return seen.bytes


SECTIONS = {
    "Precision": precision,
    "Memory order of the pixels": memory_order,
    "Rows that are decoded at once": chunks,
}


def one(rounds: int) -> None:
    """Measure in this process, and print it as JSON."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    found = {title: list(measure(rounds)) for title, measure in SECTIONS.items()}
    print(json.dumps({"set": torch.backends.cpu.get_cpu_capability(), "found": found}))


def in_a_process(name: str, rounds: int) -> dict[str, list[Row]]:
    command = [sys.executable, "-m", "benchmarks.speed.processor", "--one", "--rounds", str(rounds)]
    print(f"{name} ...", file=sys.stderr)
    done = subprocess.run(command, env=os.environ | SETS[name], stdout=subprocess.PIPE, check=True)
    found: dict[str, list[Row]] = json.loads(done.stdout)["found"]
    return found


def tables(by_set: Mapping[str, dict[str, list[Row]]]) -> Iterator[str]:
    for title in SECTIONS:
        yield f"## {title}"
        rows = []
        for place, (what, seconds) in enumerate(next(iter(by_set.values()))[title]):
            first, *others = seconds
            for other in others:
                cells = []
                for found in by_set.values():
                    own = found[title][place][1]
                    cells.append(f"{own[other] / own[first]:.2f} ({1000 * own[first]:.0f} ms)")
                rows.append((what, f"{other} / {first}", *cells))
        yield table(("", "ratio (ms of the latter)", *by_set), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    if options.one:
        one(options.rounds)
        return
    begun = time.perf_counter()
    by_set = {name: in_a_process(name, options.rounds) for name in options.only}
    parts = list(tables(by_set))
    report.write(
        options.out, "By instruction set of the processor", parts, time.perf_counter() - begun
    )


if __name__ == "__main__":
    main()
