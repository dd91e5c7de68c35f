"""What to take, and how sure that is.

The best is the one with the highest mean faithfulness. It is called better than all others where
it is better than each of them: where the 95 % interval of the difference, paired by photo, lies
above 0. So nothing has to be corrected for their number; for the claim to be wrong, the comparison
with one that is as good must go wrong (Gutmann and Maymin, Annals of Statistics 1987).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlcam.choosing.means import Mean, interval, mean, shown

SURVIVES = 0.8
"""Maps that are more like those of the model with other weights are not recommended: most of what
they show (0.8 squared of their ranks' variance) does not come from what was learned."""

_LEAST = 0.005
"""A smaller difference would be shown as 0.00."""

_NAMED = 4


@dataclass(frozen=True)
class Candidate:
    """A method at a layer.

    Attributes:
        by_photo: its faithfulness on each photo.
        same: which maps it gives; equal where they are.
    """

    layer: str
    method: str
    by_photo: tuple[float, ...]
    same: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.method} at {self.layer}"

    @property
    def mean(self) -> Mean:
        return mean(self.by_photo)


@dataclass(frozen=True)
class Recommendation:
    """A layer and a method.

    Attributes:
        layer, method: the most faithful; None: none could be measured.
        told_apart: whether it is better than all others, as far as these photos tell.
        runner_up: the next best (method at layer) with other maps; None: there is none.
        difference: from it, paired by photo.
        interval: of the difference, 95 %; None of a single photo.
        as_good: those that it is not told apart from.
        same: those that give the same maps.
        beats_centre: whether it is better than a map of the photo's centre.
        text: all this in one line.
    """

    layer: str | None
    method: str | None
    told_apart: bool
    runner_up: str | None
    difference: Mean | None
    interval: tuple[float, float] | None
    as_good: tuple[str, ...]
    same: tuple[str, ...]
    beats_centre: bool
    text: str


def recommend(candidates: Sequence[Candidate], centre: Sequence[float]) -> Recommendation:
    """The best of the candidates, in the order in which they would be preferred.

    Args:
        centre: on each photo, the faithfulness of a map of its centre.
    """
    if not candidates:
        return _nothing("no map shows what the model learned")
    best = max(candidates, key=lambda one: one.mean.value)
    if best.mean.value <= 0:
        return _nothing(f"the best, {best.name} ({best.mean}), is not above 0")
    same = [c for c in candidates if c is not best and c.same == best.same]
    others = [c for c in candidates if c.same != best.same]
    others.sort(key=lambda one: one.mean.value, reverse=True)
    as_good = [one for one in others if not _is_better(best.by_photo, one.by_photo)]
    first = _difference(best.by_photo, others[0].by_photo) if others else None
    found = _Found(best, same, others, as_good, first, _is_better(best.by_photo, centre))
    return Recommendation(
        layer=best.layer,
        method=best.method,
        told_apart=bool(others) and not as_good,
        runner_up=others[0].name if others else None,
        difference=first,
        interval=interval(first, len(centre)) if first else None,
        as_good=tuple(one.name for one in as_good),
        same=tuple(one.name for one in same),
        beats_centre=found.beats_centre,
        text=found.text(mean(centre), len(centre)),
    )


def _nothing(why: str) -> Recommendation:
    text = f"Nothing can be recommended: {why}."
    return Recommendation(None, None, False, None, None, None, (), (), False, text)


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> Mean:
    return mean([a - b for a, b in zip(ours, theirs, strict=True)])


def _is_better(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    found = _difference(ours, theirs)
    bounds = interval(found, len(ours))
    return bounds is not None and bounds[0] > 0 and found.value >= _LEAST


@dataclass(frozen=True)
class _Found:
    best: Candidate
    same: Sequence[Candidate]
    others: Sequence[Candidate]
    as_good: Sequence[Candidate]
    difference: Mean | None
    beats_centre: bool

    def text(self, centre: Mean, photos: int) -> str:
        parts = [self._said(photos)]
        if self.same:
            parts.append(f"The same maps: {_listed(self.same)}.")
        if not self.beats_centre and photos > 1:
            parts.append(f"Beware: the photo's centre is not told apart from it ({centre}).")
        elif not self.beats_centre and self.best.mean.value <= centre.value:
            parts.append(f"Beware: the photo's centre does better ({centre}).")
        return " ".join(parts)

    def _said(self, photos: int) -> str:
        best, first = self.best, self.difference
        on = f"on {shown(photos, 'photo')}"
        if first is None:
            return f"Take {best.name} ({best.mean} {on}): there is nothing to compare it with."
        above = f"{first} above the runner-up, {self.others[0].name}"
        bounds = interval(first, photos)
        if bounds is None:
            return (
                f"These cannot be told apart on 1 photo, of which there is no standard error; give"
                f" more. So far {best.name} ({best.mean}), {above}."
            )
        sure = f"95 % interval {bounds[0]:.2f} ... {bounds[1]:.2f}, paired {on}"
        if not self.as_good:
            return f"Take {best.name} ({best.mean}): {above} ({sure})."
        return (
            f"These cannot be told apart {on}; give more: {_listed([best, *self.as_good])}."
            f" So far {best.name}, {above} ({sure})."
        )


def _listed(some: Sequence[Candidate]) -> str:
    named = [f"{one.name} ({one.mean.value:.2f})" for one in some[:_NAMED]]
    more = len(some) - _NAMED
    return ", ".join([*named, f"{more} more"] if more > 0 else named)
