"""From a model and some photos to the layer and the method to explain it with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlcam.adapters.adapter import Adapter, check_is_adapter
from vlcam.adapters.asking import ordered_texts
from vlcam.attribution import methods as named
from vlcam.attribution.encoding import encode_photos, look
from vlcam.attribution.methods import Method
from vlcam.attribution.occlusion import Patch
from vlcam.choosing.asking import targets_of
from vlcam.choosing.choice import ATTENTION, PIXELS, Choice, Row, Unmeasured
from vlcam.choosing.forgetting import forgetting
from vlcam.choosing.layers import worth_comparing
from vlcam.choosing.means import mean
from vlcam.choosing.measuring import STEPS, Measured, OnPhoto, maps_by, patch_for
from vlcam.choosing.recommending import SURVIVES, Candidate, recommend
from vlcam.explaining import Request
from vlcam.metrics.faithfulness import rank_correlation
from vlcam.models import load
from vlcam.photo.given import Photo, given_photo
from vlcam.utils.messages.errors import one_line
from vlcam.utils.terminal import progress

METHODS = ("grad-cam", "hirescam", "layercam")
"""What is compared where nothing else is asked for; they share their gradients."""

DRAWS = 6
"""How often the weights behind a layer are drawn anew."""


def choose(
    model: Adapter | str | Path,
    photos: Sequence[Photo],
    *,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] = METHODS,
    caption: str | None = None,
    question: str | None = None,
    answers: Sequence[str] | None = None,
    contrast: tuple[str, str] | None = None,
    top: int = 5,
    patch: Patch | None = None,
    seed: int = 0,
) -> Choice:
    """Which layer and which method are the most faithful for a model on some photos.

    Every method's map at every layer is measured in three ways: its rank correlation with the
    occlusion map (section 8.2 of the paper); insertion less deletion (Petsiuk et al., RISE, BMVC
    2018); and its rank correlation with itself where the weights behind the layer are drawn anew
    (Adebayo et al., NeurIPS 2018). The mean of the first two is its faithfulness, the third a veto
    (:data:`vlcam.choosing.recommending.SURVIVES`). Means are taken over the words or answers of a
    photo, then over the photos, which are the independent draws.

    Args:
        model: an adapter (:func:`vlcam.wrap`), or what :func:`vlcam.load` takes.
        photos: at least one (:data:`vlcam.photo.given.Photo`); from two on there are standard
            errors. A file that is given twice is counted once.
        layers: names; None: a few (:func:`vlcam.choosing.layers.worth_comparing`).
        methods: names, of any but occlusion, which the others are compared with.
        caption, question, answers, contrast: as of :func:`vlcam.explain`; asked of every photo.
        top: how many of the likeliest answers; of a text those words for which the photo matters
            most.
        patch: what covers the photo; None: a seventh of the input's shorter side.
        seed: of the weights that are drawn.

    Raises:
        ValueError: a photo, layer or method is unknown or the model cannot be asked that; there is
            no map at all. One line says which and why.
    """
    by = _methods(methods)
    if isinstance(photos, str | os.PathLike | Image.Image | np.ndarray | Tensor):
        raise ValueError("photos: expected a list of them")
    given = _distinct(photos)
    if not given:
        raise ValueError("no photo to compare layers and methods on")
    for _, photo in given:  # before minutes are spent on those before it
        given_photo(photo)
    request = Request(
        caption=caption, question=question, answers=answers, contrast=contrast, top=top
    )
    if top < 1:
        raise ValueError(f"top is {top}, expected at least 1")
    if isinstance(model, str | Path):
        model = load(model, kind=request.kind)
    check_is_adapter(model)
    if not model.sees_pixels:
        raise ValueError(
            f"{model.name} is not fed pixels, so none can be covered or removed to compare layers"
            " and methods by"
        )
    request = request.settled(model)
    request.check(model)
    comparison = _Comparison(model, request, by, patch, seed)
    if layers is not None:
        comparison.at = [model.at_layer(name) for name in _layers(layers)]
    return comparison.of(given)


def _methods(names: Sequence[str]) -> list[Method]:
    found = [named.get(name) for name in dict.fromkeys(ordered_texts("methods", names))]
    if not found:
        raise ValueError("no method to compare")
    if any(method.at == "patches" for method in found):
        raise ValueError("occlusion is what the other methods are compared with: leave it out")
    return found


def _layers(names: Sequence[str]) -> list[str]:
    found = list(dict.fromkeys(ordered_texts("layers", names)))
    if not found:
        raise ValueError("no layer to compare")
    return found


def _distinct(photos: Sequence[Photo]) -> list[tuple[str, Photo]]:
    """The photos with their names; one that is given twice is no second draw."""
    found: dict[str, Photo] = {}
    for number, photo in enumerate(photos, 1):
        named = isinstance(photo, str | os.PathLike)
        found.setdefault(str(photo) if named else f"photo {number}", photo)
    return list(found.items())


@dataclass
class _Measures:
    """What was measured of one method at one layer, photo by photo.

    Attributes:
        maps: of each photo its targets' maps, measured.
        coarse: of each photo its targets' maps on the places of the patch.
        redrawn: of each photo the correlations with those of the model that has forgotten.
        why_not: why they are missing.
        problem: why there are no maps.
    """

    model: Adapter
    method: Method
    cells: list[tuple[int, int]] = field(default_factory=list)
    maps: list[list[Measured]] = field(default_factory=list)
    coarse: list[Tensor] = field(default_factory=list)
    redrawn: list[list[float]] = field(default_factory=list)
    why_not: str = ""
    problem: str = ""

    @property
    def layer(self) -> str:
        at = self.method.at
        if at == "attention":
            return ATTENTION
        return PIXELS if _needs_no_layer(self.method) else self.model.layer


def _needs_no_layer(method: Method) -> bool:
    return method.at == "attention" or (method.at == "pixels" and method.reduce is None)


class _Comparison:
    """One model asked the same of some photos.

    Attributes:
        at: the model at each layer; empty: a few are chosen when the first photo is there.
    """

    def __init__(
        self, model: Adapter, request: Request, by: list[Method], patch: Patch | None, seed: int
    ) -> None:
        self.model, self.request, self.by, self.seed = model, request, by, seed
        self.patch = patch
        self.at: list[Adapter] = []

    def of(self, photos: Sequence[tuple[str, Photo]]) -> Choice:
        every: list[OnPhoto] = []
        found: list[_Measures] = []
        centre: list[list[Measured]] = []
        for name, photo in progress.each(photos, "photos", unit="photo"):
            on = self._on_photo(name, photo)
            every.append(on)
            found = found or self._combinations(on)
            centre.append(on.of_centre())
            left = sum(not one.problem for one in found)
            with progress.of("layers and methods measured", left, unit="method") as work:
                for model, some in _by_model(found):
                    _measure(model, some, on, work)
        for model, some in progress.each(_by_model(found), "layers redrawn", unit="layer"):
            self._forget(model, some, every)
        return self._choice(every, found, centre)

    def _on_photo(self, name: str, photo: Photo) -> OnPhoto:
        encoded = look(self.model, photo)
        size = (encoded.pixels.shape[2], encoded.pixels.shape[3])
        patch = self.patch or patch_for(size)
        targets = targets_of(self.model, encoded, self.request)
        if not targets:
            raise ValueError(f"{name}: {self.model.name} says nothing about it that it could show")
        return OnPhoto(self.model, name, encoded, targets=targets, patch=patch)

    def _combinations(self, on: OnPhoto) -> list[_Measures]:
        """Of each layer and method that needs one; of each method that needs none."""
        if not self.at:
            prompt = on.targets[0].terms[0].prompt
            names = worth_comparing(self.model, on.pixels, prompt)
            self.at = [self.model.at_layer(name) for name in names]
        at_layers = [method for method in self.by if not _needs_no_layer(method)]
        anywhere = [method for method in self.by if _needs_no_layer(method)]
        # What is preferred among equals comes first: the model's own layer, then later ones.
        order = sorted(self.at[::-1], key=lambda one: one.layer != self.model.layer)
        return [
            *(_Measures(model, method) for model in order for method in at_layers),
            *(_Measures(self.model, method) for method in anywhere),
        ]

    def _forget(self, model: Adapter, some: list[_Measures], every: Sequence[OnPhoto]) -> None:
        """How alike the maps stay where the weights behind the layer are drawn anew."""
        some = [one for one in some if not one.problem]
        if not some:
            return
        for one in some:
            one.redrawn = [[] for _ in every]
        first = every[0]
        prompt = first.targets[0].terms[0].prompt
        try:
            for changed in forgetting(model, first.pixels, prompt, DRAWS, self.seed):
                for number, on in enumerate(every):
                    seen = encode_photos(changed, [on.encoded.prepared])[0]
                    maps = maps_by(changed, seen, on.targets, [one.method for one in some])
                    for one in some:
                        now = maps[one.method.name]
                        if isinstance(now, str):
                            raise ValueError(now)
                        one.redrawn[number] += [
                            rank_correlation(a, b) or 0.0
                            for a, b in zip(one.coarse[number], on.coarse(now), strict=True)
                        ]
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError) as error:
            for one in some:
                one.redrawn, one.why_not = [], one_line(error)

    def _choice(
        self, every: Sequence[OnPhoto], found: Sequence[_Measures], centre: list[list[Measured]]
    ) -> Choice:
        spans = [on.spans() for on in every]
        good = [one for one in found if not one.problem]
        if not good:
            raise ValueError(f"{found[0].method.name} at {found[0].layer}: {found[0].problem}")
        rows = {id(one): _row(one, spans) for one in good}
        candidates = [
            Candidate(row.layer, row.method, row.by_photo, _same(one))
            for one in good
            for row in [rows[id(one)]]
            if row.redrawn is None or row.redrawn.value <= SURVIVES
        ]
        base = _Measures(self.model, _CENTRE, maps=centre)
        middle = _row(base, spans)
        return Choice(
            recommendation=recommend(candidates, middle.by_photo),
            rows=tuple(sorted(rows.values(), key=lambda r: r.faithfulness.value, reverse=True)),
            centre=middle,
            unmeasured=tuple(
                Unmeasured(one.layer, one.method.name, one.problem) for one in found if one.problem
            ),
            model=self.model.name,
            photos=tuple(on.name for on in every),
            asked=tuple(tuple(target.name for target in on.targets) for on in every),
            about={
                **{name: getattr(self.request, name) for name in _ASKED},
                "patch": asdict(every[0].patch),
                "steps": STEPS,
                "draws": DRAWS,
                "seed": self.seed,
            },
        )


_ASKED = ("caption", "question", "answers", "contrast", "top")
_CENTRE = Method("the photo's centre", "whatever the model", "pixels")


def _by_model(found: Sequence[_Measures]) -> list[tuple[Adapter, list[_Measures]]]:
    groups: dict[int, tuple[Adapter, list[_Measures]]] = {}
    for one in found:
        groups.setdefault(id(one.model), (one.model, []))[1].append(one)
    return list(groups.values())


def _measure(model: Adapter, some: list[_Measures], on: OnPhoto, work: progress.Work) -> None:
    """Maps of one photo by some methods at one layer."""
    some = [one for one in some if not one.problem]
    if not some:
        return
    try:
        seen = on.encoded.of(model)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError) as error:
        for one in some:
            one.problem = one_line(error)
        work.advance(len(some))
        return
    maps = maps_by(model, seen, on.targets, [one.method for one in some])
    for one in some:
        work.advance()
        now = maps[one.method.name]
        if isinstance(now, str):
            one.problem = now
            continue
        one.maps.append(on.measure(now))
        one.coarse.append(on.coarse(now))
        one.cells.append((now.maps.shape[1], now.maps.shape[2]))


def _same(one: _Measures) -> tuple[int, ...]:
    return tuple(measured.same for photo in one.maps for measured in photo)


def _row(one: _Measures, spans: Sequence[Sequence[float]]) -> Row:
    occlusion = [float(np.mean([m.occlusion or 0.0 for m in photo])) for photo in one.maps]
    insertion = [
        float(np.mean([_insertion(m, span) for m, span in zip(photo, own, strict=True)]))
        for photo, own in zip(one.maps, spans, strict=True)
    ]
    faithful = tuple((a + b) / 2 for a, b in zip(occlusion, insertion, strict=True))
    redrawn = mean([float(np.mean(photo)) for photo in one.redrawn]) if one.redrawn else None
    sizes = set(one.cells)
    return Row(
        layer=one.layer,
        method=one.method.name,
        cells=sizes.pop() if len(sizes) == 1 else None,
        faithfulness=mean(faithful),
        occlusion=mean(occlusion),
        insertion=mean(insertion),
        redrawn=redrawn,
        flat=sum(m.curves is None for photo in one.maps for m in photo),
        maps=sum(len(photo) for photo in one.maps),
        by_photo=faithful,
        remark=_remark(one, None if redrawn is None else redrawn.value),
    )


def _insertion(measured: Measured, span: float) -> float:
    """Insertion less deletion in units of the range of scores; 0 of a constant map, and of a score
    that nothing changes."""
    run = measured.curves
    return 0.0 if run is None or not span else (run.insertion_area - run.deletion_area) / span


def _remark(one: _Measures, redrawn: float | None) -> str:
    if redrawn is not None and redrawn > SURVIVES:
        return "not recommended, for its maps stay alike where what was learned is gone"
    return f"not tried with other weights ({one.why_not})" if one.why_not else ""
