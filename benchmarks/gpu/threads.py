"""Two explainers in two threads, of one model and of two; and what must be as before after it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.check import Checks, Section, Settings
from benchmarks.gpu.equality import EXACT, Maps, cases, difference, explained
from tests.samples.families.case import Case
from vlcam.attribution.methods import METHODS
from vlcam.utils.messages.errors import one_line

_METHODS = ("grad-cam", "grad-cam-guided", "guided-grad-cam", "gradient")


def together(settings: Settings, first: Case, second: Case) -> tuple[str, bool]:
    """Both again and again, each method in turn; against what each gives alone."""
    rounds = 1 if settings.quick else 5
    names = _METHODS[:2] if settings.quick else _METHODS
    jobs = [(case, name) for name in names for case in (first, second)]

    def one(job: tuple[Case, str]) -> Maps:
        case, name = job
        return explained(case, settings.device, torch.float64, [METHODS[name]])

    alone = [one(job) for job in jobs]
    before = _flags()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(one, jobs * rounds))
    worst = 0.0
    for (_, name), own, expected in zip(jobs * rounds, found, alone * rounds, strict=True):
        maps, known = own[name], expected[name]
        assert isinstance(maps, Tensor) and isinstance(known, Tensor), f"{name}: {maps}"
        worst = max(worst, difference(maps, known))
    kept = _flags() == before and not any(m.training for m in first.adapter.module.modules())
    said = "flags as before" if kept else "flags changed"
    return f"{len(found)} explanations: {worst:.0e}; {said}", worst <= EXACT and kept


def untouched(settings: Settings, case: Case) -> tuple[str, bool]:
    """In training mode, with gradients of its own: flags, weights and random numbers."""
    module = case.adapter.module.to(settings.device)
    explained(case, settings.device, torch.float64, [METHODS["grad-cam"]])
    module.train()
    weights = [parameter.detach().clone() for parameter in module.parameters()]
    states = _random(settings)
    explained(case, settings.device, torch.float64, [METHODS[name] for name in _METHODS])
    same = {
        "weights": all(
            torch.equal(a, b) for a, b in zip(weights, module.parameters(), strict=True)
        ),
        "no gradients": all(parameter.grad is None for parameter in module.parameters()),
        "modes": all(part.training for part in module.modules()),
        "random numbers": all(
            torch.equal(a, b) for a, b in zip(states, _random(settings), strict=True)
        ),
    }
    module.eval()
    return ", ".join(n if same[n] else f"NOT {n}" for n in same), all(same.values())


def repeated(settings: Settings, case: Case) -> tuple[str, bool | None]:
    """PyTorch's deterministic algorithms, twice, and the same to the last bit."""
    torch.use_deterministic_algorithms(True)
    try:
        by = [METHODS[name] for name in _METHODS]
        one, two = (explained(case, settings.device, torch.float32, by) for _ in range(2))
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        return one_line(error)[:120], None  # PyTorch has none, and says so
    finally:
        torch.use_deterministic_algorithms(False)
    same = [
        torch.equal(maps, other)
        for maps, other in zip(one.values(), two.values(), strict=True)
        if isinstance(maps, Tensor) and isinstance(other, Tensor)
    ]
    return f"{sum(same)} of {len(same)} methods", all(same) and len(same) == len(_METHODS)


def _random(settings: Settings) -> list[Tensor]:
    own = [torch.get_rng_state()]
    return [*own, torch.cuda.get_rng_state(settings.device)] if settings.is_gpu else own


def _flags() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32


def _checks(settings: Settings) -> Checks:
    every = dict(cases(settings))
    lstm, attends = every["neuraltalk"], every["show-attend-tell"]
    yield "one model with an LSTM", partial(_shared, settings, lstm)
    yield "two models", lambda: together(settings, lstm(), attends())
    names = ("neuraltalk", "show-attend-tell", "lstm-cnn", "glimpses", "coattention")
    for name in names[:1] if settings.quick else names:
        yield f"nothing is touched, {name}", lambda n=name: untouched(settings, every[n]())
        yield f"deterministic, {name}", lambda n=name: repeated(settings, every[n]())


def _shared(settings: Settings, make: Callable[[], Case]) -> tuple[str, bool]:
    case = make()
    return together(settings, case, case)


SECTIONS = (
    Section(
        "Two threads, and what stays as it was",
        f"Against each alone, relative to the norm (at most {EXACT:.0e} in float64).",
        _checks,
        40,
    ),
)
