"""How much GPU memory an explanation takes as the caption grows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.gpu.check import Checks, Section, Settings
from benchmarks.gpu.speed import case_on, networks
from vlcam.attribution.gradients import DEFAULT_MEMORY

_ROOM = 2  # times what the graphs of a chunk may keep, for what is computed from them


def growth(settings: Settings, cnn: str, contender: str) -> tuple[str, bool | None]:
    """MiB that the peak lies above what is held before, by the number of words."""
    case = case_on(settings, cnn, 2)
    found: dict[int, float] = {}
    for words in (1, 2) if settings.quick else (1, 5, 10, 20, 40):
        case.caption(words)
        case.tokens = case.tokens.to(settings.device)
        run: Callable[..., torch.Tensor] = getattr(case, contender)
        found[words] = _peak(settings, partial(run, words) if "batched" in contender else run)
    text = ", ".join(f"T = {words}: {value:.0f}" for words, value in found.items())
    if not settings.is_gpu:
        return "the device has no counter", None
    *_, most = found.values()
    ours = contender.startswith("vlcam")
    return f"{text} MiB", most <= _ROOM * DEFAULT_MEMORY / 2**20 if ours else True


def _peak(settings: Settings, run: Callable[[], torch.Tensor]) -> float:
    if not settings.is_gpu:
        run()
        return 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(settings.device)
    before = torch.cuda.memory_allocated(settings.device)
    run()
    settings.wait()
    return (torch.cuda.max_memory_allocated(settings.device) - before) / 2**20


def _checks(settings: Settings) -> Checks:
    for cnn in networks(settings):
        for contender in ("vlcam", "vlcam_guided", "captum_batched"):
            yield f"{contender.replace('_', ' ')}, {cnn}", partial(growth, settings, cnn, contender)


SECTIONS = (
    Section(
        "GPU memory",
        "Peak above what the model takes, as T words are explained; vlcam's at T = 40 is to be at"
        f" most {_ROOM} times what the graphs of a chunk may keep ({DEFAULT_MEMORY // 2**20} MiB).",
        _checks,
        40,
    ),
)
