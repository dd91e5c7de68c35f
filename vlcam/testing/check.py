"""Trying every promise on an adapter, and saying in plain words what was found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vlcam.adapters.adapter import Adapter
from vlcam.attribution.targets import Target
from vlcam.photo.given import Photo, given_photo
from vlcam.testing.answers import (
    answers_name_the_scores,
    scores_are_what_they_should_be,
    wanted_scores_are_the_same,
)
from vlcam.testing.promises import (
    cells_lie_where_claimed,
    maps_fit_their_grid,
    photos_are_independent,
    rows_are_independent,
    seam_carries_the_score,
    targets_are_independent,
)
from vlcam.testing.trial import BrokenError, Trial, noise
from vlcam.utils.messages.brief import Brief, shortened
from vlcam.utils.messages.errors import one_line

_Promise = Callable[[Trial], Iterator[str]]

_PROMISES: tuple[_Promise, ...] = (
    maps_fit_their_grid,
    photos_are_independent,
    answers_name_the_scores,
    rows_are_independent,
    scores_are_what_they_should_be,
    wanted_scores_are_the_same,
    seam_carries_the_score,
    targets_are_independent,
    cells_lie_where_claimed,
)
_ASSUMED = ("assumed", "assumed as published")  # in what an adapter says of itself
_LEFT = "module: weights, flags, gradients, hooks and random state as before"


@dataclass(frozen=True, repr=False)
class Report(Brief):
    """What was tried on an adapter, all of it well; ``str`` gives it in plain lines.

    Attributes:
        model, layer: the adapter's names.
        tried: on what.
        kept: the promises, one line each.
        assumed: what nobody said, so that it is taken to be so.
    """

    model: str
    layer: str
    tried: str
    kept: tuple[str, ...]
    assumed: tuple[str, ...] = ()

    def __str__(self) -> str:
        who = f"{self.model} at layer {self.layer}"
        kept = [f"- {line}" for line in self.kept]
        assumed = [f"assumed: {line}" for line in self.assumed]
        return "\n".join([f"{who} keeps what an adapter promises ({self.tried}):", *kept, *assumed])


def check_adapter(
    adapter: Adapter,
    *,
    photo: Photo | None = None,
    caption: str | None = None,
    question: str | None = None,
    asked: Sequence[Target] | None = None,
) -> Report:
    """Print what was tried on an adapter if it keeps every promise of the contract; else raise an
    error that lists those it breaks.

    Tried are: that each score has one answer, in the same order everywhere, and that the scores are
    logits, or log-probabilities; that the maps have the cells of their grid, and that these lie
    where it says; that photos in a batch, rows of ``decode``, wanted scores and targets do not
    influence each other; that scores depend on the feature maps as their gradients say; and that
    nothing of the module is changed (weights, flags, gradients, hooks, random state).

    Args:
        photo: to try it on (:data:`vlcam.photo.given.Photo`); None: noise, 320 x 240 (width,
            height).
        caption: one that a captioner can read; None: the one that it writes itself. Of a model that
            writes answers: an answer; None: "a dog".
        question: one that a VQA model can read; None: the one that the adapter is always asked
            (its ``question``), or "what is this?".
        asked: the targets to explain, of an adapter that reads neither captions nor questions.

    Returns:
        What was printed.

    Raises:
        AssertionError: promises are broken; one line each.
        ValueError: the adapter cannot read the caption or question, or ``asked`` is needed.
    """
    found, trial = _tried(adapter, photo, caption=caption, question=question, asked=asked)
    if found or trial is None:
        listed = "\n".join(f"- {problem}" for problem in found)
        raise AssertionError(f"{adapter.name} breaks {len(found)} promises:\n{listed}")
    report = _report(trial, photo)
    print(report)
    return report


def problems(
    adapter: Adapter,
    *,
    photo: Photo | None = None,
    caption: str | None = None,
    question: str | None = None,
    asked: Sequence[Target] | None = None,
) -> list[str]:
    """The promises that an adapter breaks, one line each; empty: it keeps them all.

    Arguments and errors as of :func:`check_adapter`, but for AssertionError.
    """
    return _tried(adapter, photo, caption=caption, question=question, asked=asked)[0]


def _tried(adapter: Adapter, photo: Photo | None, **asked: Any) -> tuple[list[str], Trial | None]:
    """The problems, and what the promises were tried on."""
    before = _state(adapter.module)
    first = noise(0) if photo is None else given_photo(photo)[0]
    try:
        trial = Trial.make(adapter, [first, noise(1, first.size)], **asked)
    except BrokenError as broken:
        return [str(broken)], None
    found: list[str] = []
    failures: dict[str, str] = {}
    for promise in _PROMISES:
        try:
            found += promise(trial)
        except Exception as error:  # whatever a broken adapter raises is a finding
            reason = one_line(error)
            said = f"{_title(promise)}: it failed ({reason})"
            failures.setdefault(re.sub(r"\d+", "", reason), said)  # of so many rows, or others
    found += failures.values()
    after = _state(adapter.module)
    changed = [name for name in before if not _same(before[name], after[name])]
    if changed:
        found.append(f"state left behind: the module's {', '.join(changed)} changed")
    return found, trial


def _title(promise: _Promise) -> str:
    """What a promise is about, as reports say it: its docstring."""
    return (promise.__doc__ or "").strip()


def _report(trial: Trial, photo: Photo | None) -> Report:
    adapter = trial.adapter
    u, v = trial.features[0].maps.shape[2:]
    names = ", ".join(shortened(target.name, 40) for target in trial.asked[:3])
    more = ", ..." if len(trial.asked) > 3 else ""
    on = "photos of noise" if photo is None else "the photo given, and one of noise"
    about = "" if trial.question is None else f" under {shortened(trial.question.text)}"
    return Report(
        adapter.name,
        adapter.layer,
        f"{on}, {u} x {v} cells; {names}{more}{about}",
        (*(_title(promise) for promise in _PROMISES if _applies(promise, trial)), _LEFT),
        tuple(line for key in _ASSUMED for line in adapter.describe().get(key, ())),
    )


def _applies(promise: _Promise, trial: Trial) -> bool:
    return trial.chooses or promise is not answers_name_the_scores


def _state(module: nn.Module) -> dict[str, Any]:
    """Everything of a model that running it could change, by name."""
    parameters, modules = list(module.parameters()), list(module.modules())
    return {
        "weights": [t.detach().clone() for t in (*parameters, *module.buffers())],
        "requires_grad flags": [t.requires_grad for t in parameters],
        "gradients": [t.grad if t.grad is None else t.grad.clone() for t in parameters],
        "training flags": [m.training for m in modules],
        "hooks": [[list(v) for k, v in vars(m).items() if "_hooks" in k and v] for m in modules],
        "random number generator": torch.get_rng_state(),
    }


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)
