"""What adapters promise of their scores: which answer each is of, and on what scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from vlcam.adapters.adapter import Unit
from vlcam.adapters.scales import LOGITS, Scale, Squashings, looks_like
from vlcam.adapters.scores import ABOVE_ZERO
from vlcam.adapters.wrap import WrappedAnswerer
from vlcam.attribution.gradients import score
from vlcam.attribution.targets import Target
from vlcam.testing.trial import Trial, close
from vlcam.utils.messages.expected import described

_GROWN = 100.0  # times as large feature maps: logits grow with them, probabilities saturate
_NEAR = 1e-3  # to 0 and 1, where a probability saturates; of a sum that does not change


def answers_name_the_scores(trial: Trial) -> Iterator[str]:
    """answers: one name for each score, in the order of the scores"""
    if not trial.chooses:
        return
    adapter: Any = trial.adapter
    listed = getattr(adapter, "answers", None)
    units: Sequence[Unit] = ()
    if trial.question is not None:
        units = adapter.read(trial.question).units
    names = [unit.text for unit in units] if listed is None else list(listed)
    yield from _names(names)
    yield from _order(units, listed)
    if trial.question is not None and len(units) > 1:
        yield from _chosen(units, adapter.read(trial.question, [units[-1].text, units[0].text]))
    count = trial.decode([(0, trial.prompts[0])]).shape[1]
    if names and count != len(names):
        yield f"decode: gives {count} scores, answers names {len(names)}"
        there = [t for t in trial.asked if max(c for term in t.terms for c in term.scores) < count]
        trial.asked = there or trial.asked  # what is left of them can still be tried


def _names(names: Sequence[Any]) -> Iterator[str]:
    wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
    if wrong:
        yield f"answers: {described(wrong[0])} is no name; expected texts"
        return
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        yield f"answers: {twice[0]!r} names two scores, so one of them can never be asked for"


def _order(units: Sequence[Unit], listed: Sequence[str] | None) -> Iterator[str]:
    """Each answer read at the one column where it is listed."""
    columns: dict[int, str] = {}
    places = {name: place for place, name in reversed([*enumerate(listed or ())])}
    for unit in units:
        if len(unit.scores) != 1:
            yield f"read: {unit.text!r} has {len(unit.scores)} scores; expected the one of it"
            return
        other = columns.setdefault(unit.scores[0], unit.text)
        if other != unit.text:
            yield f"read: {other!r} and {unit.text!r} are both read at score {unit.scores[0]}"
            return
        if listed is not None and unit.scores[0] != places.get(unit.text):
            yield (
                f"read: {unit.text!r} is read at score {unit.scores[0]}, but answers, in the order"
                f" of the scores, lists it at {places.get(unit.text, 'none')}"
            )
            return


def _chosen(units: Sequence[Unit], reading: Any) -> Iterator[str]:
    """Of all answers the last and the first, asked for in this order."""
    asked = [units[-1], units[0]]
    found = list(reading.units)
    if [unit.text for unit in found] != [unit.text for unit in asked]:
        told = ", ".join(repr(unit.text) for unit in found[:3])
        yield (
            f"read: asked for {asked[0].text!r} and {asked[1].text!r} it gives {told}; expected"
            " those, in that order"
        )
    elif found != asked:
        wrong = next(i for i in (0, 1) if found[i] != asked[i])
        yield (
            f"read: {asked[wrong].text!r} is read at scores {found[wrong].scores} when it is asked"
            f" for, at {asked[wrong].scores} among all"
        )


def scores_are_what_they_should_be(trial: Trial) -> Iterator[str]:
    """decode: scores are logits, or log-probabilities, one for each answer"""
    if trial.chooses:
        yield from _of_answers(trial)
    elif hasattr(trial.adapter, "read") or hasattr(trial.adapter, "read_answer"):
        above = [target.name for target in trial.asked if _is_above_zero(trial, target)]
        if above:
            yield (
                f"decode: gives no log-probabilities: {above[0]} is above 0 (logits, or"
                " probabilities?)"
            )
        elif trial.alone is not None:
            first, alone = (score(trial.adapter, trial.features[0], [t]) for t in trial.alone)
            if not close(alone, first, trial.features[0].maps.dtype):
                yield (
                    f"decode: {trial.alone[0].name} depends on the words behind it:"
                    f" {float(first):.3g} in the caption, {float(alone):.3g} without them"
                )


def _is_above_zero(trial: Trial, target: Target) -> bool:
    plain = all(term.weight > 0 for term in target.terms)
    return plain and float(score(trial.adapter, trial.features[0], [target])) > ABOVE_ZERO


def _of_answers(trial: Trial) -> Iterator[str]:
    scale: Scale = getattr(trial.adapter, "scale", LOGITS)
    pairs = [(0, trial.prompts[0]), (1, trial.prompts[0])]
    with Squashings() as seen:
        scores = trial.decode(pairs)
    if scale.explained != "logit":
        if looks_like(scores) != "log-probabilities" and not scores.isneginf().any():
            yield f"decode: gives no log-probabilities, which its scale says ({scale.kind})"
        return
    what = seen.gave(scores) or _strong(scores) or _by_growing(scores, trial, pairs)
    if what is None and not isinstance(trial.adapter, WrappedAnswerer):
        what = looks_like(scores)  # of a wrapped module this is asked whenever it runs
    if what is not None:
        wrapped = isinstance(trial.adapter, WrappedAnswerer)
        cure = "wrap(..., scores=...)" if wrapped else "vlcam.adapters.scales"
        yield f"decode: gives {what}, expected logits, before any softmax or sigmoid ({cure})"


def _strong(scores: Tensor) -> str | None:
    """What scores are beyond doubt: of several photos each row adds up to 1."""
    seen = looks_like(scores)
    return None if seen == "independent probabilities" or scores.shape[1] < 2 else seen


def _by_growing(scores: Tensor, trial: Trial, pairs: Any) -> str | None:
    """What scores show themselves to be when the feature maps grow; None: nothing but logits."""
    grown = trial.decode(pairs, change=lambda maps: _GROWN * maps)
    values = torch.cat([scores, grown]).double()
    if not values.isfinite().all() or (values < 0).any():
        return None
    sums = values.sum(1)
    if bool(sums[0] > 0) and bool(((sums - sums[0]).abs() < _NEAR * sums[0]).all()):
        varies = float(values.std(0).max()) > _NEAR * float(sums[0])
        return f"probabilities times {float(sums[0]):.3g}" if varies else None
    ends = ((grown > 1 - _NEAR) | (grown < _NEAR)).double().mean()
    inside = bool(((scores > 0) & (scores < 1)).all()) and bool((values <= 1).all())
    return "independent probabilities" if inside and float(ends) > 0.5 else None


def wanted_scores_are_the_same(trial: Trial) -> Iterator[str]:
    """decode: scores are the same when only they are wanted"""
    prompt = trial.prompts[0]
    columns = trial.read_columns(prompt)
    whole = trial.decode([(0, prompt)])[0]
    for column in dict.fromkeys((columns[0], columns[-1])):
        wanted = torch.zeros(1, columns[-1] + 1, dtype=torch.bool, device=whole.device)
        wanted[0, column] = True
        found = trial.decode([(0, prompt)], wanted)[0]
        if not close(found[[column]], whole[[column]], trial.features[0].maps.dtype):
            yield (
                f"decode: score {column} is {float(whole[column]):.4g}, but"
                f" {float(found[column]):.4g} when it alone is wanted"
            )
            return
        unread = found[: len(wanted[0])][whole[: len(wanted[0])].isfinite()]
        if not unread.isfinite().all():
            yield "decode: scores that are not wanted are not finite (a gradient of 0 becomes NaN)"
            return
