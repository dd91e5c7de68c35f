"""From a model, a photo and a request to an explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from vlcam.adapters.adapter import (
    Adapter,
    FeatureMaps,
    Prompt,
    Question,
    Reading,
    Unit,
    check_is_adapter,
)
from vlcam.adapters.asking import (
    AnswersQuestions,
    Ask,
    AskWriter,
    WritesAnswers,
    check_question,
    ordered_texts,
    two_answers,
    whole_number,
)
from vlcam.adapters.scores import ABOVE_ZERO, decoded
from vlcam.attribution import methods, targets
from vlcam.attribution.encoding import Encoded, look
from vlcam.attribution.gradients import DEFAULT_MEMORY
from vlcam.attribution.maps import TargetMaps, explain_targets_by
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.explanation.explanation import Explanation
from vlcam.explanation.result import Answer, AttentionMap, AttentionMaps, explained_words
from vlcam.formats.world import Likeness
from vlcam.geometry.peaks import peaks
from vlcam.models import MATCHER, families_that_attend, load
from vlcam.photo.given import Photo
from vlcam.utils.messages.expected import expect
from vlcam.utils.messages.nearest import unknown
from vlcam.utils.untouched import untouched

TargetName = Literal["word", "caption"]


class WritesCaptions(Protocol):
    """The part of a captioner that turns captions into what can be explained."""

    def read(self, caption: str) -> Reading: ...

    def write(self, features: FeatureMaps, beam: int = 1) -> Reading: ...


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a model about a photo: the arguments of :func:`explain`, which says what
    they are, but for the methods, of which there may be several."""

    caption: str | None = None
    question: str | None = None
    answers: Sequence[str] | None = None
    contrast: tuple[str, str] | None = None
    top: int = 5
    methods: Sequence[str] = ("grad-cam",)
    target: TargetName = "word"
    beam: int | None = None
    strict: bool = False
    patch: Patch | None = None
    memory: int = DEFAULT_MEMORY

    def __post_init__(self) -> None:
        """Raises ValueError where an argument is of another kind; what is asked of a model at all
        is told when it is known which."""
        for name in ("caption", "question"):
            if (text := getattr(self, name)) is not None:
                expect(text, str, name, "a text")
        if self.answers is not None:
            ordered_texts("answers", self.answers)
        if self.contrast is not None:
            two_answers(self.contrast)
        for name in ("top", "beam", "memory"):
            value = getattr(self, name)
            if (value is not None or name != "beam") and whole_number(name, value) < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        for method in self.methods:
            expect(method, str, "method", "a name")
        if self.patch is not None:
            expect(self.patch, Patch, "patch", "a vlcam.attribution.occlusion.Patch")

    @property
    def kind(self) -> str:
        """The kind of model that can be asked this, as for :func:`vlcam.load`."""
        if self.question is not None:
            return "vqa"
        listed = self.answers is not None or self.contrast is not None
        return MATCHER if listed and self.caption is None else "captioner"

    def settled(self, model: Adapter) -> Request:
        """This, with the question that the model is always asked where neither a question nor a
        caption is given.

        Raises:
            ValueError: the model has to do with no captions, or these do not go together.
        """
        question = self.question
        if question is None and self.caption is None:
            question = getattr(model, "question", None)
        if question is None:
            check_writes(model, self.caption)
            if self.answers is not None or self.contrast is not None:
                raise ValueError("answers and a contrast go with a question")
        elif self.caption is not None:
            raise ValueError("a caption and a question: give one of them")
        return replace(self, question=question)

    def check(self, model: Adapter) -> None:
        """Raises ValueError where the model cannot be asked that, whatever the photo."""
        asked = self.settled(model)
        if asked.question is not None:
            asked.of_question(model, asked.question)
        elif asked.caption is not None:
            read(model, asked.caption, asked.strict)

    def of_question(self, model: Adapter, question: str) -> Ask | AskWriter:
        """The question as that model is asked it, and the answers to explain.

        Raises:
            ValueError: as by :func:`vlcam.adapters.asking.check_question`.
        """
        return check_question(
            model,
            question,
            answers=self.answers,
            contrast=self.contrast,
            top=self.top,
            strict=self.strict,
        )


def explain(
    model: Adapter | str | Path,
    photo: Photo | Encoded,
    caption: str | None = None,
    *,
    question: str | None = None,
    answers: Sequence[str] | None = None,
    contrast: tuple[str, str] | None = None,
    top: int = 5,
    method: str = "grad-cam",
    layer: str | None = None,
    target: TargetName = "word",
    beam: int | None = None,
    strict: bool = False,
    patch: Patch | None = None,
    memory: int = DEFAULT_MEMORY,
) -> Explanation:
    """Where a captioner looked for each word of its caption, or of one of yours; or where a VQA
    model looked for each of its answers, or of yours.

    Args:
        model: an adapter, or what :func:`vlcam.load` takes.
        photo: a path, a PIL image, an array or a tensor (:data:`vlcam.photo.given.Photo`), or a
            photo that is encoded already (:func:`vlcam.look`).
        caption: the caption to explain by teacher forcing; None: the model's own.
        question: to ask a VQA model; None: none, or what the model is always asked
            (:func:`vlcam.wrap`).
        answers: to explain, likely or not; None: the ``top`` answers the model finds likeliest, or
            the words of the answer that the model writes, if it is one that writes.
        contrast: (A, B): explain only why A rather than B, the difference of their logits (of
            a model that writes: of their log-probabilities).
        method: a name of :data:`vlcam.attribution.methods.METHODS`.
        layer: to explain; None: the model's own. The model given is left at its own; of many photos
            ``model.at_layer(layer)`` gives one that stays at the other.
        target: of captions, and of an answer that the model writes. ``word``: each word's
            log-probability given those before it; ``caption``: the sum over the words (section
            8.1). Of listed answers the logits are explained.
        beam: width of the beam the model writes its own caption or answer with; 1 is greedy; None:
            the model's (``beams`` of its adapter), 1 of all but captioners we trained.
        strict: refuse a text with words the model does not know, instead of leaving them out.
        patch: what covers the photo, of method ``occlusion`` alone; None: ``Patch()``.
        memory: bytes that the explanation's autograd graphs may take at a time.

    Raises:
        ValueError: photo, text, method or model cannot be used; one line says which and why.
    """
    request = Request(
        caption=caption,
        question=question,
        answers=answers,
        contrast=contrast,
        top=top,
        methods=(method,),
        target=target,
        beam=beam,
        strict=strict,
        patch=patch,
        memory=memory,
    )
    if isinstance(model, str | Path):
        model = load(model, layer, kind=request.kind)
    check_is_adapter(model)
    if layer is not None and layer != model.layer:
        model = model.at_layer(layer)
    return explain_request(model, photo, request)[0]


def explain_request(model: Adapter, photo: Photo | Encoded, request: Request) -> list[Explanation]:
    """As :func:`explain`, which says what is raised: an explanation by each method. The photo is
    encoded once, and the model writes once, for all of them."""
    by = [methods.get(name) for name in request.methods]
    if request.patch is not None and all(method.at != "patches" for method in by):
        raise ValueError(f"a patch goes with method occlusion, not with {by[0].name}")
    request = request.settled(model)
    if request.question is None:
        return _Explaining(model, _encoded(model, photo), request, by).caption()
    ask = request.of_question(model, request.question)
    explaining = _Explaining(model, _encoded(model, photo), request, by)
    return explaining.written(ask) if isinstance(ask, AskWriter) else explaining.answers(ask)


def _encoded(model: Adapter, photo: Photo | Encoded) -> Encoded:
    return photo.of(model) if isinstance(photo, Encoded) else look(model, photo)


@dataclass(frozen=True)
class _Explaining:
    """One request about one photo."""

    model: Adapter
    photo: Encoded
    request: Request
    by: Sequence[methods.Method]

    def caption(self) -> list[Explanation]:
        """A given caption, by teacher forcing, or the model's own."""
        return self._text(caption_of(self.model, self.photo, self.request))

    def _text(self, reading: Reading, question: Question | None = None) -> list[Explanation]:
        """A caption, or the answer that a model wrote to a question."""
        asked, texts = _asked(reading, self.request.target)
        maps = self._maps(asked)
        for found in maps:
            _check_log_probabilities(self.model, texts, found.scores)
        attention = self._attention(reading.prompt, reading.units)
        return [
            Explanation(
                **self._about(method, found),
                target=_TARGET_NAMES[self.request.target],
                caption=reading.text,
                words=explained_words(
                    texts, found.scores, found.maps, found.grid, self.photo.placement
                ),
                unknown=(*(question.unknown if question else ()), *_unknown(reading)),
                question=question.text if question else None,
                attention=attention,
            )
            for method, found in zip(self.by, maps, strict=True)
        ]

    def answers(self, ask: Ask) -> list[Explanation]:
        """Answers that a model chooses among: the likeliest, or given ones."""
        prompt = ask.everything.prompt
        features = self.photo.seen(self.model, prompt)
        logits = answer_logits(self.model, features, ask)
        units = ask.units(logits)
        asked = answer_targets(ask, units)
        chances = ask.scale.chances(logits[None])[0, [unit.scores[0] for unit in units]]
        texts = _texts(units, ask.contrast)
        if ask.contrast:
            chances = chances[:1] / chances.sum()
        asking = replace(self, photo=replace(self.photo, features=features))
        maps, attention = asking._maps(asked), asking._attention(prompt)
        return [
            Explanation(
                **self._about(method, found),
                attention=attention,
                target=_LISTED_NAMES[ask.scale.explained, ask.contrast],
                caption="",
                words=(),
                unknown=ask.question.unknown,
                question=ask.question.text,
                answers=self._answers(texts, found, chances),
            )
            for method, found in zip(self.by, maps, strict=True)
        ]

    def written(self, ask: AskWriter) -> list[Explanation]:
        """Answers that a model writes: the words of its own, or given ones as wholes."""
        model, question = self.model, ask.question
        if ask.readings is None:
            own = written_answer(model, self.photo, question, self.request.beam)
            return self._text(own, question)
        texts = _texts(ask.readings, ask.contrast)
        maps = self._maps(reading_targets(ask.readings, ask.contrast))
        for found in () if ask.contrast else maps:
            _check_log_probabilities(model, texts, found.scores)
        unknown = [word for reading in ask.readings for word in _unknown(reading)]
        return [
            Explanation(
                **self._about(method, found),
                target=_LISTED_NAMES["log-probability", ask.contrast],
                caption="",
                words=(),
                unknown=tuple(dict.fromkeys([*question.unknown, *unknown])),
                question=question.text,
                answers=self._answers(
                    texts, found, found.scores.sigmoid() if ask.contrast else found.scores.exp()
                ),
            )
            for method, found in zip(self.by, maps, strict=True)
        ]

    def _maps(self, asked: list[Target]) -> list[TargetMaps]:
        """By each method."""
        with families_that_attend():
            return explain_targets_by(
                self.model,
                self.photo,
                asked,
                self.by,
                memory=self.request.memory,
                patch=self.request.patch,
            )

    def _answers(
        self, texts: Sequence[str], found: TargetMaps, chances: Tensor
    ) -> tuple[Answer, ...]:
        """Answers with their scores (T,) and probabilities (T,)."""
        shown = peaks(found.maps, found.grid, self.photo.placement)
        rows = zip(texts, found.scores.tolist(), chances.tolist(), shown, strict=True)
        return tuple(
            Answer(text, logit=score, probability=p, peak=point, degenerate=flat)
            for text, score, p, (point, flat) in rows
        )

    def _attention(self, prompt: Prompt, words: Sequence[Unit] = ()) -> AttentionMaps | None:
        """The model's own attention, where it has one; of the words of a text that it writes, those
        it knows: the mean over a word's tokens."""
        model, photo = self.model, self.photo
        size = (photo.pixels.shape[2], photo.pixels.shape[3])
        with untouched(model.module), torch.no_grad():
            own = model.attention(photo.seen(model, prompt), prompt, size)
        if own is None:
            return None
        names, maps = own.names, own.maps.detach().float().cpu()
        if words:
            known = [word for word in words if not word.unknown]
            names = tuple(word.text for word in known)
            maps = torch.stack([maps[list(word.scores)].mean(0) for word in known])
        found = zip(names, peaks(maps, own.grid, photo.placement), strict=True)
        return AttentionMaps(
            tuple(AttentionMap(name, *peak) for name, peak in found), maps, own.grid
        )

    @cached_property
    def _likeness(self) -> Likeness | None:
        """How like the model's training photos this one is, from the maps that are there."""
        model, maps = self.model, self.photo.begun or self.photo.features
        if maps is None:
            return None
        with untouched(model.module), torch.no_grad():
            return model.likeness(maps)

    def _about(self, method: methods.Method, found: TargetMaps) -> dict[str, Any]:
        """What an explanation says of its photo, its model and its maps."""
        model, photo = self.model, self.photo
        return {
            "photo": photo.photo,
            "image": np.asarray(photo.image),
            "model": model.name,
            "layer": "all layers of attention" if method.at == "attention" else model.layer,
            "method": method.name,
            "placement": photo.placement,
            "maps": found.maps,
            "grid": found.grid,
            "likeness": self._likeness,
            "details": model.describe() | found.details | _versions(),
        }


def check_writes(model: Adapter, caption: str | None) -> None:
    """Raises ValueError, with what the model can be asked, where it has to do with no captions."""
    if hasattr(model, "write"):
        return
    if not hasattr(model, "understand"):
        raise ValueError(f"{model.name} has scores without names: give vlcam.wrap their answers")
    question = getattr(model, "question", None)
    if caption is not None and question is not None:
        known = cast(AnswersQuestions, model).answers or ("a dog",)
        raise ValueError(
            f"{model.name} reads no captions: it is asked {question!r}; leave the caption out, and"
            f" name answers to explain, if you like: answers=[{known[0]!r}, ...]"
        )
    instead = "" if caption is None else " instead of the caption"
    raise ValueError(f"{model.name} writes no captions: give a question{instead}")


def beam_of(model: Adapter, beam: int | None) -> int:
    """The width of the beam that is asked for, or the model's own.

    Raises:
        ValueError: it is no whole number of at least 1.
    """
    wide = whole_number(f"beams of {model.name}", model.beams) if beam is None else beam
    if wide < 1:
        raise ValueError(f"beams of {model.name} is {wide}, expected at least 1")
    return wide


def caption_of(model: Adapter, photo: Encoded, request: Request) -> Reading:
    """The caption that is asked for, or the model's own of the photo."""
    if request.caption is not None:
        return read(model, request.caption, request.strict)
    with untouched(model.module), torch.no_grad():
        return cast(WritesCaptions, model).write(photo.seen(model), beam_of(model, request.beam))


def written_answer(
    model: Adapter, photo: Encoded, question: Question, beam: int | None = None
) -> Reading:
    """The answer that a model writes."""
    with untouched(model.module), torch.no_grad():
        features = photo.seen(model, question.prompt)
        return cast(WritesAnswers, model).write_answer(features, question, beam_of(model, beam))


def answer_logits(model: Adapter, features: FeatureMaps, ask: Ask) -> Tensor:
    """Logits (A,) of all answers that a model chooses among, of one photo's feature maps under the
    question, without gradients."""
    with untouched(model.module), torch.no_grad():
        return decoded(model, features.copy(), [ask.everything.prompt])[0].float()


def answer_targets(ask: Ask, units: Sequence[Unit]) -> list[Target]:
    """The answers to explain, of those that a model chooses among; of a contrast the difference."""
    found = [targets.unit(ask.everything, unit, ask.scale.explained) for unit in units]
    return _contrasted(found, ask.contrast)


def reading_targets(readings: Sequence[Reading], contrast: bool) -> list[Target]:
    """The same of a model that writes: each answer as a whole."""
    return _contrasted([targets.whole(reading) for reading in readings], contrast)


def _contrasted(found: list[Target], contrast: bool) -> list[Target]:
    return [found[0] - found[1]] if contrast else found


def _texts(answers: Sequence[Unit] | Sequence[Reading], contrast: bool) -> list[str]:
    """What the targets of answers are called in an explanation."""
    texts = [answer.text for answer in answers]
    return [f"{texts[0]} rather than {texts[1]}"] if contrast else texts


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


_TARGET_NAMES = {
    "word": "log-probability of each word",
    "caption": "log-probability of the caption",
}


_LISTED_NAMES = {
    ("logit", False): "logit of each answer",
    ("logit", True): "difference of two answers' logits",
    ("log-probability", False): "log-probability of each answer",
    ("log-probability", True): "difference of two answers' log-probabilities",
}
"""By what is explained, and whether it is a contrast."""


def _asked(reading: Reading, target: str) -> tuple[list[Target], list[str]]:
    if target == "word":
        return targets.units(reading), [unit.text for unit in reading.units if not unit.unknown]
    if target == "caption":
        return [targets.whole(reading)], [reading.text]
    raise ValueError(unknown("target", target, _TARGET_NAMES))


def _unknown(reading: Reading) -> tuple[str, ...]:
    return tuple(unit.text for unit in reading.units if unit.unknown)


def _check_log_probabilities(model: Adapter, texts: Sequence[str], scores: Tensor) -> None:
    """Raise ValueError at a score (T,) above 0: a model that writes gives log-probabilities."""
    for text, score in zip(texts, scores.tolist(), strict=True):
        if score > ABOVE_ZERO:
            raise ValueError(
                f"{model.name}: the score of {text!r} is {score:.3g}, and no log-probability is"
                " above 0; are these logits, or probabilities?"
            )


def _versions() -> dict[str, Any]:
    from importlib.metadata import version

    return {"vlcam": version("vlcam"), "torch": torch.__version__}
