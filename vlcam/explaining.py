"""From a model and a photo to an explanation: the way everything goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt, Question, Reading, Unit
from vlcam.adapters.asking import Ask, AskWriter, WritesAnswers, check_question
from vlcam.attribution import methods, targets
from vlcam.attribution.attention import explain_by_attention
from vlcam.attribution.gradients import (
    DEFAULT_MEMORY,
    encode,
    explain_all_at_layer,
    explain_all_at_pixels,
    only_prompt,
)
from vlcam.attribution.incremental import incremental
from vlcam.attribution.occlusion import Patch, occlusion_maps
from vlcam.attribution.targets import Target
from vlcam.explanation.explanation import Answer, Explanation, Look, Looked, explained_words, peaks
from vlcam.geometry.grid import Cells, Grid, Placement
from vlcam.models import load
from vlcam.photo.loading import load as load_photo
from vlcam.photo.loading import upright
from vlcam.utils.untouched import untouched

TargetName = Literal["word", "caption"]


class WritesCaptions(Protocol):
    """The part of a captioner that turns captions into what can be explained."""

    def read(self, caption: str) -> Reading: ...

    def write(self, features: FeatureMaps, beam: int = 1) -> Reading: ...


@dataclass(frozen=True)
class Encoded:
    """A photo a model has seen, to be asked about again and again. Made by :func:`look`.

    ``features`` is None for a model whose feature maps depend on what it is asked; ``begun`` then
    is what it made of the photo before, if it can tell the two apart.
    """

    photo: str
    image: Image.Image
    pixels: Tensor
    features: FeatureMaps | None
    placement: Placement
    begun: FeatureMaps | None = None

    def seen(self, model: Adapter, prompt: Prompt = None) -> FeatureMaps:
        """The feature maps, for a model that needs the prompt under it."""
        if self.features is not None:
            return self.features
        if self.begun is None:
            return encode(model, self.pixels, [prompt])
        with untouched(model.module), torch.no_grad():
            return model.encode_prompt(self.begun, [prompt])


def look(model: Adapter, photo: str | Path | Image.Image) -> Encoded:
    """Read, prepare and encode a photo: the one forward pass of the CNN.

    A model whose feature maps depend on the question encodes when it is asked, or what depends on
    the question then.

    Raises:
        ValueError: the photo cannot be read.
    """
    if isinstance(photo, Image.Image):
        image = upright(photo)
        ready = Prepared("photo", image, *model.prepare(image))
    else:
        ready = prepare(model, str(photo), load_photo(photo))
    return look_at(model, [ready])[0]


@dataclass(frozen=True)
class Prepared:
    """A photo, upright and in RGB (:mod:`vlcam.photo.loading`), as a model will be fed it: pixels
    (3, H, W), and where the photo lies in them."""

    name: str
    image: Image.Image
    pixels: Tensor
    placement: Placement


def prepare(model: Adapter, path: str, image: Image.Image) -> Prepared:
    """The photo that was read from a file."""
    return Prepared(path, image, *model.prepare_file(image, path))


def _stacked(photos: Sequence[Tensor]) -> Tensor:
    """Pixels (B, 3, H, W) of photos (3, H, W); channels last in memory if theirs are."""
    last = [pixels.permute(1, 2, 0) for pixels in photos]
    if all(pixels.is_contiguous() for pixels in last):
        return torch.stack(last).permute(0, 3, 1, 2)
    return torch.stack(list(photos))


def look_at(model: Adapter, photos: Sequence[Prepared]) -> list[Encoded]:
    """Several photos: one forward pass of the CNN for each size of input among them."""
    sizes: dict[torch.Size, list[int]] = {}
    for row, photo in enumerate(photos):
        sizes.setdefault(photo.pixels.shape, []).append(row)
    found: dict[int, Encoded] = {}
    for rows in sizes.values():
        pixels = _stacked([photos[row].pixels for row in rows])
        first = next(model.module.parameters(), pixels)
        pixels = pixels.to(first.device, first.dtype)
        features, begun = _features(model, pixels)
        for place, row in enumerate(rows):
            whole, half = (some and some.one(place) for some in (features, begun))
            one, own = photos[row], pixels[place : place + 1]
            found[row] = Encoded(one.name, one.image, own, whole, one.placement, half)
    return [found[row] for row in range(len(photos))]


def _features(model: Adapter, pixels: Tensor) -> tuple[FeatureMaps | None, FeatureMaps | None]:
    """Feature maps, or where they depend on the question what can be had before it is asked."""
    if not model.encode_reads_prompt:
        return encode(model, pixels), None
    with untouched(model.module), torch.no_grad():
        return None, model.encode_photo(pixels.clone())


def explain(
    model: Adapter | str | Path,
    photo: str | Path | Image.Image | Encoded,
    caption: str | None = None,
    *,
    question: str | None = None,
    answers: Sequence[str] | None = None,
    contrast: tuple[str, str] | None = None,
    top: int = 5,
    method: str = "grad-cam",
    target: TargetName = "word",
    beam: int = 1,
    strict: bool = False,
    patch: Patch | None = None,
    memory: int = DEFAULT_MEMORY,
) -> Explanation:
    """Where a captioner looked for each word of its caption, or of one of yours; or where a VQA
    model looked for each of its answers, or of yours.

    Args:
        model: an adapter, or what :func:`vlcam.load` takes.
        photo: a path, a PIL image, or a photo already looked at (:func:`look`).
        caption: the caption to explain by teacher forcing; None: the model's own.
        question: to ask a VQA model; None: none, or what the model is always asked
            (:func:`vlcam.wrap`).
        answers: to explain, likely or not; None: the ``top`` answers the model finds likeliest, or
            the words of the answer that the model writes, if it is one that writes.
        contrast: (A, B): explain only why A rather than B, the difference of their logits (of
            a model that writes: of their log-probabilities).
        method: a name of :data:`vlcam.attribution.methods.METHODS`.
        target: of captions, and of an answer that the model writes. ``word``: each word's
            log-probability given those before it; ``caption``: the sum over the words (section
            8.1). Of listed answers the logits are explained.
        beam: width of the beam the model writes its own caption or answer with; 1 is greedy.
        strict: refuse a text with words the model does not know, instead of leaving them out.
        patch: what covers the photo, of method ``occlusion`` alone; None: ``Patch()``.
        memory: bytes that the explanation's autograd graphs may take at a time.

    Raises:
        ValueError: photo, text, method or model cannot be used; one line says which and why.
    """
    if isinstance(model, str | Path):
        model = load(model, kind="captioner" if question is None else "vqa")
    how = methods.get(method)
    if patch is not None and how.at != "patches":
        raise ValueError(f"a patch goes with method occlusion, not with {method}")
    if question is None and caption is None:
        question = getattr(model, "question", None)
    if question is not None:
        if caption is not None:
            raise ValueError("a caption and a question: give one of them")
        ask = check_question(model, question, answers, contrast, top, strict)
        encoded = photo if isinstance(photo, Encoded) else look(model, photo)
        if isinstance(ask, AskWriter):
            return _explain_written(model, encoded, ask, how, target, beam, patch, memory)
        return _explain_answers(model, encoded, ask, how, patch, memory)
    if not hasattr(model, "write"):
        raise ValueError(f"{model.name} writes no captions: give a question")
    encoded = photo if isinstance(photo, Encoded) else look(model, photo)
    return _explain_caption(model, encoded, caption, how, target, beam, strict, patch, memory)


def _explain_caption(
    model: Adapter,
    encoded: Encoded,
    caption: str | None,
    method: methods.Method,
    target: TargetName,
    beam: int,
    strict: bool,
    patch: Patch | None,
    memory: int,
) -> Explanation:
    if caption is None:
        with untouched(model.module), torch.no_grad():
            reading = cast(WritesCaptions, model).write(encoded.seen(model), beam)
    else:
        reading = read(model, caption, strict)
    return _explain_text(model, encoded, reading, method, target, patch, memory)


def _explain_text(
    model: Adapter,
    encoded: Encoded,
    reading: Reading,
    method: methods.Method,
    target: TargetName,
    patch: Patch | None,
    memory: int,
    question: Question | None = None,
) -> Explanation:
    """A caption, or the answer that a model wrote to a question."""
    asked, texts = _asked(reading, target)
    found = explain_targets(model, encoded, asked, method, memory, patch)
    return Explanation(
        **_about(model, encoded, method, found),
        target=_TARGET_NAMES[target],
        caption=reading.text,
        words=explained_words(texts, found.scores, found.maps, found.grid, encoded.placement),
        unknown=(*(question.unknown if question else ()), *_unknown(reading)),
        question=question.text if question else None,
        attention=_attention(model, encoded, reading.prompt, reading.units),
    )


def _explain_answers(
    model: Adapter,
    encoded: Encoded,
    ask: Ask,
    method: methods.Method,
    patch: Patch | None,
    memory: int,
) -> Explanation:
    features = encoded.seen(model, ask.question.prompt)
    own = features.rows(torch.zeros(1, dtype=torch.long, device=features.device))
    with untouched(model.module), torch.no_grad():
        logits = model.decode(own, [ask.question.prompt])[0].float()
    units = ask.units(logits)
    asked = [targets.unit(ask.everything, unit, "logit") for unit in units]
    chances = logits.softmax(0)[[unit.scores[0] for unit in units]]
    texts = [unit.text for unit in units]
    if ask.contrast:
        asked, texts = [asked[0] - asked[1]], [f"{texts[0]} rather than {texts[1]}"]
        chances = chances[:1] / chances.sum()
    seen = replace(encoded, features=features)
    found = explain_targets(model, seen, asked, method, memory, patch)
    return Explanation(
        **_about(model, encoded, method, found),
        attention=_attention(model, seen, ask.question.prompt),
        target="logit of each answer" if not ask.contrast else "difference of two answers' logits",
        caption="",
        words=(),
        unknown=ask.question.unknown,
        question=ask.question.text,
        answers=_answers(texts, found, chances, encoded.placement),
    )


def _explain_written(
    model: Adapter,
    encoded: Encoded,
    ask: AskWriter,
    method: methods.Method,
    target: TargetName,
    beam: int,
    patch: Patch | None,
    memory: int,
) -> Explanation:
    """Answers that a model writes: the words of its own, or given ones as wholes."""
    if ask.readings is None:
        with untouched(model.module), torch.no_grad():
            features = encoded.seen(model, ask.question.prompt)
            own = cast(WritesAnswers, model).write_answer(features, ask.question, beam)
        return _explain_text(
            model, encoded, own, method, target, patch, memory, question=ask.question
        )
    asked = [targets.whole(reading) for reading in ask.readings]
    texts = [reading.text for reading in ask.readings]
    if ask.contrast:
        asked, texts = [asked[0] - asked[1]], [f"{texts[0]} rather than {texts[1]}"]
    found = explain_targets(model, encoded, asked, method, memory, patch)
    chances = found.scores.sigmoid() if ask.contrast else found.scores.exp()
    unknown = [word for reading in ask.readings for word in _unknown(reading)]
    return Explanation(
        **_about(model, encoded, method, found),
        target=_WRITTEN_NAMES[ask.contrast],
        caption="",
        words=(),
        unknown=tuple(dict.fromkeys([*ask.question.unknown, *unknown])),
        question=ask.question.text,
        answers=_answers(texts, found, chances, encoded.placement),
    )


def _answers(
    texts: Sequence[str], found: TargetMaps, chances: Tensor, placement: Placement
) -> tuple[Answer, ...]:
    """Answers with their scores (T,) and probabilities (T,)."""
    shown = peaks(found.maps, found.grid, placement)
    rows = zip(texts, found.scores.tolist(), chances.tolist(), shown, strict=True)
    return tuple(Answer(text, score, p, point, flat) for text, score, p, (point, flat) in rows)


def _attention(
    model: Adapter, encoded: Encoded, prompt: Prompt, words: Sequence[Unit] = ()
) -> Looked | None:
    """The model's own attention, where it has one; of the words of a text that it writes, those it
    knows: the mean over a word's tokens."""
    size = (encoded.pixels.shape[2], encoded.pixels.shape[3])
    with untouched(model.module), torch.no_grad():
        own = model.attention(encoded.seen(model, prompt), prompt, size)
    if own is None:
        return None
    names, maps = own.names, own.maps.detach().float().cpu()
    if words:
        known = [word for word in words if not word.unknown]
        names = tuple(word.text for word in known)
        maps = torch.stack([maps[list(word.scores)].mean(0) for word in known])
    told = zip(names, peaks(maps, own.grid, encoded.placement), strict=True)
    return Looked(tuple(Look(name, *found) for name, found in told), maps, own.grid)


def _about(
    model: Adapter, encoded: Encoded, method: methods.Method, found: TargetMaps
) -> dict[str, Any]:
    """What an explanation says of its photo, its model and its maps."""
    return {
        "photo": encoded.photo,
        "image": np.asarray(encoded.image),
        "model": model.name,
        "layer": "all layers of attention" if method.at == "attention" else model.layer,
        "method": method.name,
        "placement": encoded.placement,
        "maps": found.maps,
        "grid": found.grid,
        "details": model.describe() | found.details | _versions(),
    }


def read(model: Adapter, caption: str, strict: bool = False) -> Reading:
    """A caption as a captioner reads it; ``strict`` as for :func:`explain`.

    Raises:
        ValueError: there is no word in it that the model knows.
    """
    reading = cast(WritesCaptions, model).read(caption)
    unknown = _unknown(reading)
    if unknown and (strict or len(unknown) == len(reading.units)):
        raise ValueError(f"not in the vocabulary of {model.name}: {', '.join(unknown)}")
    return reading


@dataclass(frozen=True)
class TargetMaps:
    """Scores (T,) and raw float32 maps (T, u, v) of T targets, where the maps' cells lie in the
    input, and what a result should record of how they were made."""

    scores: Tensor
    maps: Tensor
    grid: Cells
    details: dict[str, Any] = field(default_factory=dict)


def explain_targets(
    model: Adapter,
    encoded: Encoded,
    asked: list[Target],
    method: methods.Method,
    memory: int = DEFAULT_MEMORY,
    patch: Patch | None = None,
) -> TargetMaps:
    """Maps of any targets of one photo; prompt by prompt where the feature maps depend on it."""
    if method.at == "patches":
        return _occlude(model, encoded.pixels, asked, patch or Patch())
    if method.at == "attention":
        return _explain_by_attention(model, encoded, asked, [method])[0]
    return _explain_by_gradients(model, encoded, asked, [method], memory)[0]


def explain_targets_by(
    model: Adapter, encoded: Encoded, asked: list[Target], by: Sequence[methods.Method]
) -> list[TargetMaps]:
    """As :func:`explain_targets`, by several methods; those that need the same gradients share
    them."""
    found: dict[str, TargetMaps] = {}
    for group in alike(by):
        if group[0].at == "patches":
            maps = [explain_targets(model, encoded, asked, method) for method in group]
        elif group[0].at == "attention":
            maps = _explain_by_attention(model, encoded, asked, group)
        else:
            maps = _explain_by_gradients(model, encoded, asked, group)
        found |= {method.name: own for method, own in zip(group, maps, strict=True)}
    return [found[method.name] for method in by]


def alike(by: Sequence[methods.Method]) -> list[list[methods.Method]]:
    """Methods in groups that need the same gradients."""
    groups: dict[tuple[str, str | None], list[methods.Method]] = {}
    for method in by:
        groups.setdefault((method.at, method.rule), []).append(method)
    return list(groups.values())


def _explain_by_gradients(
    model: Adapter,
    encoded: Encoded,
    asked: list[Target],
    by: Sequence[methods.Method],
    memory: int = DEFAULT_MEMORY,
) -> list[TargetMaps]:
    """By methods that are :func:`alike`."""
    size = (encoded.pixels.shape[2], encoded.pixels.shape[3])
    at_layer = by[0].at == "layer"
    if not asked:
        grid = _cells(model, encoded) if at_layer else Grid.pixels(size)
        return [TargetMaps(torch.zeros(0), torch.zeros(0, *grid.size), grid)] * len(by)
    groups = _by_prompt(asked) if model.encode_reads_prompt else []
    if len(groups) > 1:
        parts = [
            _explain_by_gradients(model, encoded, [asked[row] for row in rows], by, memory)
            for rows in groups
        ]
        order = torch.tensor([row for rows in groups for row in rows]).argsort()
        return [_in_order(some, order) for some in zip(*parts, strict=True)]
    if at_layer:
        prompt = only_prompt(asked) if model.encode_reads_prompt else None
        features, grid = encoded.seen(model, prompt), _cells(model, encoded)
        scores, maps = explain_all_at_layer(model, features, asked, by, memory=memory)
    else:
        scores, maps = explain_all_at_pixels(model, encoded.pixels, asked, by, memory)
        grid = Grid.pixels(size)
    return [TargetMaps(scores, own.float(), grid) for own in maps]


def _cells(model: Adapter, encoded: Encoded) -> Cells:
    return model.cells(encoded.pixels, encoded.placement)


def _explain_by_attention(
    model: Adapter, encoded: Encoded, asked: list[Target], by: Sequence[methods.Method]
) -> list[TargetMaps]:
    cells = _cells(model, encoded)
    if not asked:
        return [TargetMaps(torch.zeros(0), torch.zeros(0, *cells.size), cells)] * len(by)
    scores, maps = explain_by_attention(model, encoded.pixels, asked, by, cells.size)
    return [TargetMaps(scores, own.float(), cells) for own in maps]


def _in_order(some: Sequence[TargetMaps], order: Tensor) -> TargetMaps:
    """Maps of several prompts' targets as one."""
    scores = torch.cat([found.scores for found in some])[order]
    return replace(some[0], scores=scores, maps=torch.cat([found.maps for found in some])[order])


def _by_prompt(asked: Sequence[Target]) -> list[list[int]]:
    """The places of the targets under each prompt."""
    rows: dict[Prompt, list[int]] = {}
    for row, target in enumerate(asked):
        rows.setdefault(only_prompt([target]), []).append(row)
    return list(rows.values())


def _occlude(model: Adapter, pixels: Tensor, asked: list[Target], patch: Patch) -> TargetMaps:
    encode_covered, why_not = incremental(model, pixels, patch)
    scores, maps, grid = occlusion_maps(model, pixels, asked, patch, encode=encode_covered)
    record = asdict(patch) | {"whole_passes_because": why_not}
    return TargetMaps(scores.float(), maps.float(), grid, {"occlusion": record})


_TARGET_NAMES = {
    "word": "log-probability of each word",
    "caption": "log-probability of the caption",
}


_WRITTEN_NAMES = {
    False: "log-probability of each answer",
    True: "difference of two answers' log-probabilities",
}
"""By whether it is a contrast."""


def _asked(reading: Reading, target: str) -> tuple[list[Target], list[str]]:
    if target == "word":
        return targets.units(reading), [unit.text for unit in reading.units if not unit.unknown]
    if target == "caption":
        return [targets.whole(reading)], [reading.text]
    raise ValueError(f"unknown target {target!r}; known: {', '.join(_TARGET_NAMES)}")


def _unknown(reading: Reading) -> tuple[str, ...]:
    return tuple(unit.text for unit in reading.units if unit.unknown)


def _versions() -> dict[str, Any]:
    from importlib.metadata import version

    return {"vlcam": version("vlcam"), "torch": torch.__version__}
