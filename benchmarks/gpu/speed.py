"""Grad-CAM and Guided Grad-CAM of all words of a caption against captum, as ratios.

The model is that of ``benchmarks/speed/caption.py``. Its LSTM is in training mode (it has nothing
that this changes), as cuDNN's has no backward pass otherwise, and captum has no help for it.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec

import torch

from benchmarks.gpu.check import Checks, Section, Settings
from benchmarks.speed.caption import LAYERS, Case, check_guided, relative_difference

_LIMIT = 1e-3  # of maps in float32, with TF32 off

Run = Callable[[], torch.Tensor]


def case_on(settings: Settings, cnn: str, words: int) -> Case:
    """The benchmark's model on the device."""
    if settings.quick:
        case = Case("small", "stage4", words, 64, 500)
    else:
        case = Case(cnn, LAYERS[cnn], words)
    case.model.to(settings.device)
    case.model.lstm.train()
    case.pixels, case.tokens = (each.to(settings.device) for each in (case.pixels, case.tokens))
    return case


def networks(settings: Settings) -> Sequence[str]:
    return ["small"] if settings.quick else list(LAYERS)


def medians(contenders: Mapping[str, Run], settings: Settings) -> dict[str, float]:
    """Milliseconds of each, run in turn."""
    runs, warming = (1, 0) if settings.quick else (15, 2)
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warming + runs):
        for name, run in contenders.items():
            settings.wait()
            begun = time.perf_counter()
            run()
            settings.wait()
            if number >= warming:
                samples[name].append(1e3 * (time.perf_counter() - begun))
    return {name: statistics.median(each) for name, each in samples.items()}


def grad_cam(settings: Settings, cnn: str, words: int) -> tuple[str, bool | None]:
    case = case_on(settings, cnn, words)
    theirs: dict[str, Run] = {
        "captum naive": case.captum_naive,
        "captum batched": partial(case.captum_batched, words),
        "captum expert": case.captum_expert,
    }
    ours: dict[str, Run] = {"vlcam": case.vlcam}
    if find_spec("captum") is None:
        return _compared(case, ours, 0.0, settings)
    expected = case.vlcam()
    worst = max(relative_difference(run(), expected) for run in theirs.values())
    return _compared(case, ours | theirs, worst, settings)


def guided(settings: Settings, cnn: str, words: int) -> tuple[str, bool | None]:
    case = case_on(settings, cnn, words)
    warnings.simplefilter("ignore")  # captum warns on every call
    ours: dict[str, Run] = {"vlcam": case.vlcam_guided}
    if find_spec("captum") is None:
        return _compared(case, ours, 0.0, settings)
    check_guided(case)
    theirs: dict[str, Run] = {
        "captum naive": case.captum_guided_naive,
        "captum batched": partial(case.captum_guided_batched, words),
        "captum expert": case.captum_guided_expert,
    }
    return _compared(case, ours | theirs, 0.0, settings)


def _compared(
    case: Case, contenders: dict[str, Run], worst: float, settings: Settings
) -> tuple[str, bool | None]:
    found = medians({"forward pass": case.forward, **contenders}, settings)
    ours = found["vlcam"]
    parts = [f"vlcam {ours:.2f} ms, {ours / found['forward pass']:.2f} forward passes"]
    parts += [f"{name} {found[name] / ours:.2f} x" for name in contenders if name != "vlcam"]
    if len(contenders) == 1:
        return f"{parts[0]}; captum is missing", None
    return f"{', '.join(parts)}; maps differ by {worst:.0e}", worst <= _LIMIT


def orders(settings: Settings, cnn: str) -> tuple[str, bool | None]:
    """The CNN of 32 photos, in both memory orders and both precisions."""
    encoder = case_on(settings, cnn, 2).model.encoder
    size = 64 if settings.quick else 224
    pixels = torch.randn(2 if settings.quick else 32, 3, size, size, device=settings.device)

    def forward(last: bool, half: bool) -> torch.Tensor:
        order = torch.channels_last if last else torch.contiguous_format
        with torch.no_grad(), torch.autocast(settings.device.type, torch.bfloat16, enabled=half):
            out: torch.Tensor = encoder(pixels.contiguous(memory_format=order))
        return out

    names = {"float32": (False, False), "float32, channels last": (True, False)}
    names |= {"bfloat16": (False, True), "bfloat16, channels last": (True, True)}
    found = medians({name: partial(forward, *how) for name, how in names.items()}, settings)
    first = found["float32"]
    text = ", ".join(f"{name} {value / first:.2f} x" for name, value in found.items())
    return f"{text} ({first:.1f} ms)", True


def _checks(settings: Settings) -> Checks:
    words = 2 if settings.quick else 10
    for cnn in networks(settings):
        yield f"Grad-CAM, {cnn}, {words} words", partial(grad_cam, settings, cnn, words)
        yield f"Guided Grad-CAM, {cnn}, {words} words", partial(guided, settings, cnn, words)
        yield f"forward pass, {cnn}", partial(orders, settings, cnn)


SECTIONS = (
    Section(
        "Speed",
        "Medians, relative to vlcam's (captum: above 1 it takes longer); one photo of 224 x 224."
        f" Grad-CAM's maps may differ by {_LIMIT:.0e} of the greatest value, in float32; Guided"
        " Grad-CAM's are compared in float64.",
        _checks,
        100,
    ),
)
