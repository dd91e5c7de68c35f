"""Every adapter by every method on the device, against the CPU.

In float64 both must be equal; in float32 each may differ from float64 by rounding, the device by no
more than twenty times what the CPU does. Models are the tiny ones of the tests.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.gpu.check import Checks, Section, Settings
from tests.samples.families.case import Case
from vlcam.attribution.encoding import Encoded, encode
from vlcam.attribution.maps import alike, explain_targets_by
from vlcam.attribution.methods import METHODS, Method
from vlcam.geometry.grid import Placement
from vlcam.utils.messages.errors import one_line

GROUPS = ("own", "packages", "pretrained")
"""Modules of ``tests/samples/families``, each of which needs more packages than the one before."""

QUICK = ("neuraltalk", "show-attend-tell", "vilt")

EXACT, ROUNDED, RULED = 1e-8, 1e-4, 2e-2
"""Greatest difference in float64; in float32; and in float32 under a backward rule, where rounding
decides which ReLUs are open. Relative to the norm of a method's maps."""

ALIKE = 0.9
"""Least cosine of maps in half precision and in float64: the models have random weights."""

Maps = dict[str, Tensor | str]
"""By method: scores and maps of all targets as one vector, on the CPU; or why there are none."""

Make = Callable[[Path], Case]


def cases(settings: Settings) -> Iterator[tuple[str, Callable[[], Case]]]:
    """The adapters by name, or the group that cannot be imported here."""
    for group in GROUPS:
        try:
            adapters: Mapping[str, Make] = import_module(f"tests.samples.families.{group}").ADAPTERS
        except ModuleNotFoundError as error:
            yield f"adapters of {group}.py", partial(_raise, error)
            continue
        for name, make in adapters.items():
            if not settings.quick or name in QUICK:
                yield name, partial(_made, make)


def _raise(error: Exception) -> Case:
    raise error


def _made(make: Make) -> Case:
    with tempfile.TemporaryDirectory() as folder:
        case = make(Path(folder))
    case.adapter.module.eval()
    return case


def explained(case: Case, device: torch.device, dtype: torch.dtype, by: Sequence[Method]) -> Maps:
    """By each method, on that device."""
    _move(case.adapter.module, device, dtype)
    pixels = case.pixels.to(device, dtype)
    size = (pixels.shape[2], pixels.shape[3])
    features = encode(case.adapter, pixels) if case.prompts is None else None
    blank = Image.new("RGB", (size[1], size[0]))
    photo = Encoded("noise", blank, pixels, features, Placement.identity(size))
    found: Maps = {}
    for group in alike(by):
        try:
            maps = explain_targets_by(case.adapter, photo, case.asked(), group)
        except ValueError as error:
            found |= dict.fromkeys((method.name for method in group), one_line(error))
            continue
        for method, own in zip(group, maps, strict=True):
            if method.at != "patches" and own.maps.device.type != device.type:
                raise AssertionError(f"{method.name}: maps are on {own.maps.device}")
            both = [own.scores.flatten().cpu().double(), own.maps.flatten().cpu().double()]
            found[method.name] = torch.cat([_unit(each) for each in both])
    return found


def _move(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Unless it is there: another thread may be using it."""
    first = next(module.parameters())
    if (first.device.type, first.dtype) != (device.type, dtype):
        module.to(device, dtype)


def _unit(values: Tensor) -> Tensor:
    """Scores and maps count alike, whatever their scales; NaN stays."""
    norm = values.norm()
    return values / norm if norm > 0 else values


def difference(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    value = float((found - expected).norm() / expected.norm())
    return value if value == value else float("inf")


def equal(make: Callable[[], Case], settings: Settings) -> tuple[str, bool]:
    """The greatest differences over all methods."""
    case, cpu = make(), torch.device("cpu")
    methods = [m for m in METHODS.values() if not settings.quick or m.name in _FEW]
    exact = explained(case, cpu, torch.float64, methods)
    on_device = explained(case, settings.device, torch.float64, methods)
    refused = {name for name, maps in exact.items() if isinstance(maps, str)}
    if (other := {name for name, maps in on_device.items() if isinstance(maps, str)}) != refused:
        odd = sorted(other ^ refused)[0]
        return f"{odd}: CPU {_said(exact[odd])}, device {_said(on_device[odd])}", False
    kept = [method for method in methods if method.name not in refused]
    rounded = [explained(case, where, torch.float32, kept) for where in (cpu, settings.device)]
    worst64 = _worst(on_device, exact, kept)
    problems = []
    if worst64[0] > EXACT:
        problems.append(f"{worst64[1]} in float64")
    for method in kept:
        ours, theirs = (_difference(one, exact, method) for one in reversed(rounded))
        limit = RULED if method.rule else max(ROUNDED, 20 * theirs)
        if not ours <= limit:
            problems.append(f"{method.name} in float32: {ours:.1e}, CPU {theirs:.1e}")
    worst32 = _worst(rounded[1], exact, kept)
    text = f"{len(kept)} methods: {worst64[0]:.0e} in float64, {worst32[0]:.0e} in float32"
    text += f" ({worst32[1]})" + (f"; {len(refused)} refused alike" if refused else "")
    return text + "".join(f"; {one}" for one in problems), not problems


_FEW = ("grad-cam", "hirescam", "guided-grad-cam", "occlusion", "attention-relevance")


def _said(maps: Tensor | str) -> str:
    return maps if isinstance(maps, str) else "explains it"


def _difference(found: Maps, expected: Maps, method: Method) -> float:
    one, other = found[method.name], expected[method.name]
    if isinstance(one, str) or isinstance(other, str):
        return float("inf")
    return difference(one, other)


def _worst(found: Maps, expected: Maps, by: Sequence[Method]) -> tuple[float, str]:
    return max((_difference(found, expected, method), method.name) for method in by)


def _equal(settings: Settings) -> Checks:
    for name, make in cases(settings):
        yield name, partial(equal, make, settings)


# -- half precision, memory order


def half(make: Callable[[], Case], settings: Settings) -> tuple[str, bool]:
    """Cosines of Grad-CAM's maps in half precision, and under autocast, with those in float64."""
    case, method = make(), METHODS["grad-cam-no-relu"]
    exact = explained(case, torch.device("cpu"), torch.float64, [method])[method.name]
    assert isinstance(exact, Tensor)
    found: dict[str, float | str] = {}
    # PyTorch's LSTM cannot be in float16 under a CPU's autocast.
    for dtype in (torch.bfloat16, torch.float16)[: 1 + settings.is_gpu]:
        name = str(dtype).removeprefix("torch.")
        found[f"autocast {name}"] = _cosine(case, settings, method, torch.float32, exact, dtype)
    for dtype in (torch.bfloat16, torch.float16):  # after it the weights are not what they were
        name = str(dtype).removeprefix("torch.")
        found[name] = _cosine(_rounded(make(), dtype), settings, method, dtype, exact)
    text = ", ".join(
        f"{name} {value if isinstance(value, str) else format(value, '.3f')}"
        for name, value in found.items()
    )
    return text, all(isinstance(value, float) and value >= ALIKE for value in found.values())


def _rounded(case: Case, dtype: torch.dtype) -> Case:
    return replace(case, pixels=case.pixels.to(dtype))


def _cosine(
    case: Case,
    settings: Settings,
    method: Method,
    dtype: torch.dtype,
    exact: Tensor,
    mixed: torch.dtype | None = None,
) -> float | str:
    kind = settings.device.type
    try:
        with torch.autocast(kind, mixed) if mixed else nullcontext():
            found = explained(case, settings.device, dtype, [method])[method.name]
    except RuntimeError as error:
        return f"fails ({one_line(error)[:80]})"
    if isinstance(found, str):
        return found
    return float((found * exact).sum() / (found.norm() * exact.norm()))


def _half(settings: Settings) -> Checks:
    for name, make in cases(settings):
        yield name, partial(half, make, settings)


def channels_last(make: Callable[[], Case], settings: Settings) -> tuple[str, bool]:
    """Weights and pixels in the other memory order."""
    case, by = make(), [METHODS["grad-cam"], METHODS["gradient"]]
    exact = explained(case, torch.device("cpu"), torch.float64, by)
    other = make()
    for weight in other.adapter.module.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    turned = replace(other, pixels=other.pixels.contiguous(memory_format=torch.channels_last))
    kept = [method for method in by if not isinstance(exact[method.name], str)]
    found = explained(turned, settings.device, torch.float64, kept)
    worst, name = _worst(found, exact, kept)
    return f"{worst:.0e} in float64 ({name})", worst <= EXACT


def _channels_last(settings: Settings) -> Checks:
    for name, make in cases(settings):
        yield name, partial(channels_last, make, settings)


SECTIONS = (
    Section(
        "Adapters and methods",
        "Scores and maps against the CPU's in float64, relative to their norm (at most"
        f" {EXACT:.0e}); and in float32 (TF32 off: at most {ROUNDED:.0e} or twenty times what the"
        f" CPU's own differ; under a rule {RULED:.0e}).",
        _equal,
        180,
    ),
    Section(
        "Half precision",
        f"Cosine of Grad-CAM's maps and scores with those in float64: at least {ALIKE}.",
        _half,
        40,
    ),
    Section("Channels last", "Against the CPU's as they come.", _channels_last, 30),
)
