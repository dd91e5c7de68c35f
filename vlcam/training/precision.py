"""The precision a CNN is trained in: bfloat16 where this machine is faster in it, else float32.

A processor without instructions for bfloat16 emulates it, up to fourteen times slower than float32;
one that has them is faster for most networks, and for some it is not. So it is tried.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from vlcam.utils.messages.nearest import unknown

AUTO = "auto"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What a CNN may be computed in, by the name of the option."""

_WORTH = 0.85  # of the time in float32: for less, nobody gives up precision
_EMULATED = 2.5  # the backward passes of what is so slow forward would take minutes to time
_PHOTOS, _ROUNDS = 4, 2


def check_precision(precision: str) -> None:
    """Raises ValueError where it is not the name of a precision, nor ``auto``."""
    known = [AUTO, *PRECISIONS]
    if precision not in known:
        raise ValueError(unknown("--precision", precision, known))


def fastest_precision(encoder: nn.Module, size: tuple[int, int], *, trained: bool) -> str:
    """The precision in which photos take the least time, by a short trial on the CNN's device.

    Args:
        encoder: the CNN, as it is to be run; it is left as it was.
        size: (height, width) of the photos.
        trained: whether there are backward passes as well.
    """
    net = copy.deepcopy(encoder).eval()
    device = next(net.parameters()).device
    threads = torch.get_num_threads()
    pixels = torch.zeros(_PHOTOS, 3, *size, device=device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    torch.set_num_threads(1)
    try:
        ratio = _ratio(partial(_pass, net, pixels, backward=False), device)
        if trained and ratio < _EMULATED:
            ratio = _ratio(partial(_pass, net, pixels, backward=True), device)
    finally:
        torch.set_num_threads(threads)
    found = "bfloat16" if ratio < _WORTH else "float32"
    print(
        f"precision: {found} (bfloat16 takes {ratio:.2f} times as long as float32 here)",
        file=sys.stderr,
    )
    return found


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Mixed precision, where ``precision`` is not float32."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def _pass(net: nn.Module, pixels: Tensor, precision: torch.dtype, *, backward: bool) -> None:
    with torch.set_grad_enabled(backward), autocast(pixels.device, precision):
        feature = net(pixels)
    if backward:
        trained = [p for p in net.parameters() if p.requires_grad]
        torch.autograd.grad(feature.float().sum(), trained, allow_unused=True)


def _ratio(run: Callable[[torch.dtype], None], device: torch.device) -> float:
    """Seconds in bfloat16 over seconds in float32, the least of some runs that take turns; on a CPU
    this thread's own, whatever else the machine does meanwhile."""
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    seconds: dict[torch.dtype, list[float]] = {kind: [] for kind in PRECISIONS.values()}
    for number in range(1 + _ROUNDS):  # the first is for warming up
        for kind, values in seconds.items():
            begun = clock()
            run(kind)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            values.append(clock() - begun)
        single, half = (min(values[bool(number) :]) for values in seconds.values())
        if device.type == "cpu" and half > max(2 * _EMULATED * single, 0.2):
            break  # seconds were spent, and there is no doubt
    return half / single
