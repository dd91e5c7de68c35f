"""Occlusion maps of all T words of a caption: incremental passes against whole ones and captum.

    python -m benchmarks.speed.occlusion [--cnn vgg16 resnet50] [--words 10] [--runs 3]

One model (that of ``benchmarks/speed/caption.py``: random weights, a photo of noise, 224 x 224).
All contenders read every word from the same passes: captum's Occlusion is given a model that
returns the T log-probabilities. Each gets as many patches at a time as is fastest for it. Maps are
checked equal before anything is timed; the contenders take turns. captum adds patches that hang
over the edge where the stride does not divide the input, so ratios are of the time per patch.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr import Occlusion
from torch import Tensor
from torch.nn import functional

from benchmarks.shared import program
from benchmarks.speed.caption import LAYERS, Case, WithTokens
from vlcam.attribution.incremental import Incremental
from vlcam.attribution.occlusion import Patch, occlusion_maps
from vlcam.attribution.targets import Target, Term
from vlcam.evaluation.tables import table

PATCHES = (Patch(16, 16), Patch(45, 8))
BATCHES = (4, 8, 16, 32)
TOLERANCE = 1e-5  # of a drop of log-probabilities (about -9, where float32 steps by 1e-6)
OURS = "vlcam, incremental"


@dataclass(frozen=True)
class Contender:
    """A function from a number of patches at a time to maps, and how many patches it covers."""

    name: str
    run: Callable[[int], Tensor]
    patches: int


class WordScores(WithTokens):
    """Pixels (B, 3, H, W) to the log-probability (B, T) of each word of one caption."""

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.tokens.expand(len(pixels), -1)
        return super().forward(pixels).gather(2, tokens[:, :, None]).squeeze(2)


def contenders(case: Case, patch: Patch) -> list[Contender]:
    prompt = tuple(case.tokens[0].tolist())
    asked = [Target(str(t), (Term(1.0, prompt, (t,)),)) for t in range(len(prompt))]
    scores = WordScores(case.model, case.tokens)
    corners = patch.corners((case.size, case.size))

    def whole(batch: int) -> Tensor:
        return occlusion_maps(case.ours, case.pixels, asked, patch, batch=batch)[1]

    def fast(batch: int) -> Tensor:
        encode = Incremental(case.ours.before, case.pixels, patch)
        return occlusion_maps(case.ours, case.pixels, asked, patch, batch=batch, encode=encode)[1]

    def captum(batch: int) -> Tensor:
        found: Tensor = Occlusion(scores).attribute(
            case.pixels,
            sliding_window_shapes=(3, patch.size, patch.size),
            strides=(3, patch.stride, patch.stride),
            baselines=patch.fill,
            perturbations_per_eval=batch,
        )
        return found

    a_side = math.ceil((case.size - patch.size) / patch.stride) + 1
    return [
        Contender(OURS, fast, len(corners)),
        Contender("vlcam, whole passes", whole, len(corners)),
        Contender("captum's Occlusion, batched", captum, a_side**2),
    ]


def on_pixels(drops: Tensor, patch: Patch) -> Tensor:
    """Drops (T, rows, columns) as captum has them: each pixel the mean of the patches over it."""
    kernel = torch.ones(1, 1, patch.size, patch.size)

    def spread(values: Tensor) -> Tensor:
        return functional.conv_transpose2d(values[:, None].float(), kernel, stride=patch.stride)

    return (spread(drops) / spread(torch.ones_like(drops)))[:, 0]


def check(found: list[Tensor], patch: Patch) -> float:
    """The greatest difference of the maps.

    Raises:
        AssertionError: it is more than :data:`TOLERANCE`.
    """
    fast, whole, captum = found
    reach = fast.shape[1] * patch.stride  # beyond it captum has patches that ours have not
    theirs = captum[:, 0, :reach, :reach]
    ours = on_pixels(whole, patch)[:, :reach, :reach]
    worst = max(float((fast - whole).abs().max()), float((ours - theirs).abs().max()))
    if worst > TOLERANCE:
        raise AssertionError(f"maps differ by {worst:.2g}")
    return worst


def timed(run: Callable[[int], Tensor], batch: int) -> float:
    start = time.perf_counter()
    run(batch)
    return time.perf_counter() - start


def measure(case: Case, patch: Patch, runs: int) -> str:
    every = contenders(case, patch)
    worst = check([one.run(16) for one in every], patch)
    # How many at a time is fastest shows with fewer patches too.
    sparse = contenders(case, Patch(patch.size, min(2 * patch.stride, patch.size)))
    batches = {one.name: min(BATCHES, key=lambda b: timed(one.run, b)) for one in sparse}
    seconds: dict[str, list[float]] = {one.name: [] for one in every}
    for _ in range(runs):
        for one in every:
            seconds[one.name].append(timed(one.run, batches[one.name]))
    a_patch = {one.name: statistics.median(seconds[one.name]) / one.patches for one in every}
    rows = [
        [
            one.name,
            str(batches[one.name]),
            str(one.patches),
            f"{statistics.median(seconds[one.name]):.2f}"
            f" ({min(seconds[one.name]):.2f} ... {max(seconds[one.name]):.2f})",
            f"{1000 * a_patch[one.name]:.1f}",
            f"{a_patch[one.name] / a_patch[OURS]:.2f}",
        ]
        for one in every
    ]
    heading = f"### Patches of {patch.size} pixels at stride {patch.stride}"
    columns = ["", "patches at a time", "patches", "seconds, median (range)", "ms a patch", "ratio"]
    equal = f"Greatest difference of any two maps: {worst:.1e} (log-probability)."
    return "\n\n".join([heading, table(columns, rows), equal])


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--cnn", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--words", type=int, default=10, help="T (default 10)")
    parser.add_argument("--runs", type=int, default=3, help="of each contender (default 3)")
    program.run(parser, measured)


def measured(options: argparse.Namespace) -> tuple[str, list[str]]:
    parts = []
    for cnn in options.cnn:
        parts.append(f"## {cnn} + LSTM, layer {LAYERS[cnn]}, T = {options.words}")
        case = Case(cnn, LAYERS[cnn], options.words)
        parts += [measure(case, patch, options.runs) for patch in PATCHES]
    return "Occlusion, incremental and whole", parts


if __name__ == "__main__":
    main()
