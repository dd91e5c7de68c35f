"""Why a word or an answer has no map, and what to try next: page, figure and terminal say it alike.

A map without a peak (:class:`vlcam.geometry.peaks.Peak`) is constant where the photo shows it, or
not finite. Which of these, and what the method does, tell why.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import torch

from vlcam.attribution import methods
from vlcam.attribution.reducers import counterfactual, no_relu
from vlcam.explanation.result import Result


@dataclass(frozen=True)
class NoMap:
    """Why there is no map of some words or answers, and what to try.

    Attributes:
        of: the words or answers, as written.
        why: the reason.
        then: what may show more.
    """

    of: tuple[str, ...]
    why: str
    then: str

    def __str__(self) -> str:
        names = ", ".join(f"“{text}”" for text in self.of[:_NAMED])
        more = len(self.of) - _NAMED
        return f"No map of {names}{f' and {more} more' * (more > 0)}: {self.why}. {self.then}"


_NAMED = 8  # words that are told one by one


def no_map(explanation: Result, index: int) -> NoMap:
    """Why item ``index``, whose map is degenerate, has no map, and what to try."""
    text = explanation.items[index].text
    if index >= len(explanation.maps):
        return NoMap((text,), "the model attends to all of the photo alike", _OTHERS)
    raw, _ = explanation.map(index)
    if not torch.isfinite(raw).all():
        return NoMap((text,), "its map holds values that are not finite", _LAYERS)
    if raw.numel() == 1:
        why = f"{explanation.layer} has a single cell, which is all of the photo"
        return NoMap((text,), why, _LAYERS)
    if raw.any():
        why = "its map is the same everywhere in the photo"
        return NoMap((text,), why, _LAYERS)
    return NoMap((text,), _nothing(explanation), _instead(explanation, index))


def notes(explanation: Result) -> list[NoMap]:
    """Why there are no maps, once a reason, of the items that have none, in their order."""
    found: dict[str, list[NoMap]] = {}
    for index, item in enumerate(explanation.items):
        if item.degenerate:
            one = no_map(explanation, index)
            found.setdefault(one.why, []).append(one)
    return [
        NoMap(tuple(dict.fromkeys(text for one in some for text in one.of)), why, some[0].then)
        for why, some in found.items()
    ]


_LAYER = "another layer (--layer; vlcam layers shows all)"
_LAYERS = f"Try {_LAYER}."
_OTHERS = "The maps of words and answers may still differ from place to place."


def _nothing(explanation: Result) -> str:
    """Why a map is zero everywhere."""
    method = methods.known().get(explanation.method)
    if method is None or method.at == "attention":
        return "nothing in the photo speaks for it by this method"
    if method.at == "patches":
        return "it scores the same wherever the patch lies"
    if method.reduce is None or method.reduce is no_relu:
        return f"its score does not depend on {explanation.layer}"
    side = "against" if method.reduce is counterfactual else "for"
    return f"no cell of {explanation.layer} speaks {side} it, so that the ReLU left nothing"


def _instead(explanation: Result, index: int) -> str:
    """What to try where a map is zero everywhere."""
    method = methods.known().get(explanation.method)
    if method is None or method.at == "attention":
        ways = ["--method grad-cam"]
    elif method.at == "patches":
        ways = ["a larger patch: --patch-size 90"]
    elif method.reduce is None or method.reduce is no_relu:
        ways = ["--method occlusion"]
    else:
        side = "for" if method.reduce is counterfactual else "against"
        ways = [f"--method grad-cam-no-relu (what speaks {side} it)", "--method layercam"]
        ways = [way for way in ways if way.split()[1] != explanation.method]
    ways += _contrast(explanation, index)
    return f"Try {', '.join(ways)}, or {_LAYER}."


def _contrast(explanation: Result, index: int) -> list[str]:
    """Why this answer rather than the likeliest other: more may speak for it than for that one."""
    item = explanation.items[index]
    others = [one for one in explanation.answers if one is not item]
    if explanation.by_word or not others:
        return []
    best = max(others, key=lambda one: one.probability)
    return [shlex.join(["--contrast", item.text, best.text])]
