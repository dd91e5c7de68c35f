"""What the scores of listed answers are: logits, probabilities, log-probabilities.

The paper explains the score of an answer before the softmax (section 8.2). A model that gives
something else is not silently taken to give that: a softmax of probabilities would show 99.9 % as
18.5 %. What can be told from the values is told; which it is, its author says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from vlcam.utils.exact_backward import exact_backward
from vlcam.utils.torch_calls import TorchCalls

Kind = Literal[
    "logits",
    "log-probabilities",
    "probabilities",
    "independent logits",
    "independent probabilities",
]
"""``logits``: before a softmax over all answers; ``log-probabilities``, ``probabilities``: behind
one; ``independent``: each answer by itself, before or behind a sigmoid."""


@dataclass(frozen=True)
class Scale:
    """How scores (N, S) of one kind are explained and shown.

    Attributes:
        kind: as the author says it.
        explained: what the explained score is: "logit", "log-probability".
        explain: to the explained scores, differentiable.
        chances: from the explained scores to probabilities.
    """

    kind: Kind
    explained: str
    explain: Callable[[Tensor], Tensor]
    chances: Callable[[Tensor], Tensor]


def _as_they_are(scores: Tensor) -> Tensor:
    return scores


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(1)


def _log(chances: Tensor) -> Tensor:
    """log p: a softmax brings p back. Of p = 0, the least number there is, without a gradient."""
    return chances.clamp(min=torch.finfo(chances.dtype).tiny).log()


def _logit(chances: Tensor) -> Tensor:
    """The logit before a sigmoid."""
    eps = torch.finfo(chances.dtype).eps
    return chances.clamp(min=torch.finfo(chances.dtype).tiny, max=1 - eps).logit()


LOGITS = Scale("logits", "logit", _as_they_are, _softmax)

_SCALES = {
    scale.kind: scale
    for scale in (
        LOGITS,
        Scale("log-probabilities", "log-probability", _as_they_are, _softmax),
        Scale("probabilities", "log-probability", _log, _softmax),
        Scale("independent logits", "logit", _as_they_are, torch.sigmoid),
        Scale("independent probabilities", "logit", _logit, torch.sigmoid),
    )
}


def scale_of(kind: str) -> Scale:
    """The scale of that name.

    Raises:
        ValueError: there is none.
    """
    if kind not in _SCALES:
        raise ValueError(f"scores={kind!r}; expected one of: {', '.join(get_args(Kind))}")
    return _SCALES[kind]


class Squashings(TorchCalls):
    """Notes what sigmoids and softmaxes gave, while active in this thread."""

    def __init__(self) -> None:
        super().__init__()
        self._given: list[tuple[str, Tensor]] = []

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = func(*args, **kwargs)
        kind, most = _SQUASHINGS.get(func, ("", 0))
        if kind and result.ndim <= most:
            with exact_backward():
                self._given.append((kind, result.detach()))
        return result

    @exact_backward()
    def gave(self, scores: Tensor) -> str | None:
        """What scores are if a sigmoid or a softmax gave them, or what they are a part or a
        multiple of; None: they are none of these."""
        place = scores.untyped_storage().data_ptr()
        for kind, one in self._given:
            same = place == one.untyped_storage().data_ptr()
            if same or (one.numel() == scores.numel() and _proportional(one, scores)):
                return kind
        return None


def _proportional(one: Tensor, other: Tensor) -> bool:
    """Whether values are others, or a multiple of them."""
    one, other = one.flatten(), other.flatten()
    if len(one) < _FEW:  # which may be multiples by chance
        return bool((one == other).all())
    one, other = one.double().to(other.device), other.double()
    largest = one.abs().argmax()
    factor = other[largest] / one[largest]
    off = 1e-5 * other.abs().max()
    return bool(factor > 0) and bool(((one * factor - other).abs() <= off).all())


INDEPENDENT_LOGS = "independent log-probabilities"
"""What a log-sigmoid gives; there is no scale of them: the logits before it are there to be had."""

_FEW = 3
_SQUASHINGS: dict[Any, tuple[str, int]] = {
    getattr(owner, name): (kind, most)
    for owner in (torch, Tensor, functional, torch.special)
    # Of so many dimensions at most: not those that weigh the channels of a CNN, or patches.
    for kind, most, names in (
        ("independent probabilities", 3, ("sigmoid", "sigmoid_", "hardsigmoid", "expit")),
        (INDEPENDENT_LOGS, 2, ("logsigmoid", "log_expit")),
        ("probabilities", 2, ("softmax",)),
        ("log-probabilities", 2, ("log_softmax",)),
    )
    for name in names
    if hasattr(owner, name)
}

_MANY = 8
"""So many logits are hardly ever between 0 and 1 by chance, all of them."""


def looks_like(scores: Tensor, *, few: bool = False) -> Kind | None:
    """What else than logits scores (N, S) look like; None: nothing else.

    Args:
        few: take them for independent probabilities where all are between 0 and 1, although so few
            logits might be by chance.
    """
    with exact_backward():
        values = scores.detach().double()
    off = 1e-3 if torch.finfo(scores.dtype).eps < 1e-4 else 5e-2
    between = bool(((values >= 0) & (values <= 1)).all())
    if between and bool(((values.sum(1) - 1).abs() < off).all()):
        return "probabilities"
    if between and (few or (scores.shape[1] >= _MANY and bool(values.any()))):
        return "independent probabilities"
    below = bool((values <= 0).all())
    if below and bool((values.logsumexp(1).abs() < off).all()):
        return "log-probabilities"
    return None


@exact_backward()
def check_kind(scores: Tensor, kind: Kind | None, who: str, *, squashed: str | None = None) -> None:
    """Raise ValueError where scores (N, S) are not of the kind that their author says; or, where
    nothing is said, look like something else than logits.

    Args:
        who: gave them, for the error.
        squashed: what :class:`Squashings` knows them to be.
    """
    if kind in ("logits", "independent logits") or not bool(scores.isfinite().any()):
        return
    seen = looks_like(scores, few=kind is not None) or (squashed if kind is None else None)
    if kind is None and seen == INDEPENDENT_LOGS:
        raise ValueError(
            f"{who} gives {seen} ({_some(scores)}): give the logits before the log-sigmoid, and say"
            " so: scores='independent logits'"
        )
    if kind is None and seen is not None:
        raise ValueError(
            f"{who} gives what looks like {seen} ({_some(scores)}); say which they are: scores="
            f"'logits' (before a softmax), {', '.join(map(repr, get_args(Kind)[1:]))}"
        )
    if kind is not None and seen != kind and (kind, seen) != _ALSO:
        raise ValueError(f"{who} gives no {kind} ({_some(scores)})")


_ALSO = ("independent probabilities", "probabilities")  # that happen to add up to 1


def _some(scores: Tensor) -> str:
    """A row of scores, and what it adds up to."""
    row = scores[0].double()
    shown = ", ".join(f"{value:.3g}" for value in row[:3].tolist())
    return f"{shown}{', ...' if len(row) > 3 else ''}; their sum is {float(row.sum()):.3g}"
