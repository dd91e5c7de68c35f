"""A question to a VQA model, and the answers to explain.

Models that choose among answers have a logit for each (:class:`Ask`); models that write their
answers, word by word, have a log-probability of any text (:class:`AskWriter`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Integral
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Question, Reading, Unit
from vlcam.adapters.scales import LOGITS, Scale
from vlcam.adapters.scores import refuse_not_finite
from vlcam.utils.messages.expected import described, expect
from vlcam.utils.messages.nearest import hint


class AnswersQuestions(Protocol):
    """What a VQA model that chooses among answers offers beside the contract of an adapter.

    Attributes:
        answers: all it can give, in the order of its scores; None: any texts, which are scored
            against each other.

    Its scores are logits before a softmax over all answers, unless it has an attribute ``scale``
    that says otherwise (:mod:`vlcam.adapters.scales`).
    """

    answers: Sequence[str] | None

    def understand(self, question: str) -> Question:
        """The question as the model reads it; ValueError where it knows no word of it."""

    def read(self, question: Question, answers: Sequence[str] | None = None) -> Reading:
        """Those answers (None: all) as units; ValueError names one that the model lacks."""


@runtime_checkable
class WritesAnswers(Protocol):
    """The same of a VQA model that writes its answers."""

    def understand(self, question: str) -> Question:
        """The question as the model reads it."""

    def read_answer(self, question: Question, answer: str) -> Reading:
        """Any text as its answer, word by word."""

    def write_answer(self, features: FeatureMaps, question: Question, beam: int = 1) -> Reading:
        """The answer it writes itself, by a beam search of that width."""


_NAMELESS = "where scores have names, vlcam.wrap(..., answers=[...]) gives them"


class Ask:
    """A question as a model understands it, and which of its answers to explain.

    Args:
        answers: those to explain; None: its ``top`` best.
        contrast: explain the first answer rather than the second.
        strict: whether every word of the question must be known.

    Raises:
        ValueError: the model answers no questions, knows no word of this one (``strict``: not
            every word), or has no such answer.
    """

    def __init__(
        self,
        model: Adapter,
        question: str,
        *,
        answers: Sequence[str] | None = None,
        contrast: tuple[str, str] | None = None,
        top: int = 5,
        strict: bool = False,
    ) -> None:
        if not hasattr(model, "understand"):
            cure = "leave the question out" if hasattr(model, "write") else _NAMELESS
            raise ValueError(f"{model.name} answers no questions: it is no VQA model; {cure}")
        chosen = _chosen(answers, contrast)
        if whole_number("top", top) < 1:
            raise ValueError("no answer to explain")
        asked = cast(AnswersQuestions, model)
        self.question = asked.understand(question)
        _check_known(model.name, self.question, strict)
        any_texts = getattr(asked, "answers", ()) is None
        self.everything = asked.read(self.question, chosen if any_texts else None)
        self.chosen = None if chosen is None else asked.read(self.question, chosen).units
        self.contrast, self.top = contrast is not None, top
        self.scale: Scale = getattr(model, "scale", LOGITS)
        self._name = model.name

    def units(self, logits: Tensor) -> Sequence[Unit]:
        """The answers to explain, of a photo with those logits (A,) of all answers.

        Raises:
            ValueError: there are more of them than answers, or fewer; one is not a number.
        """
        if len(logits) != len(self.everything.units):
            raise ValueError(
                f"{self._name}: decode gives {len(logits)} scores, but it has"
                f" {len(self.everything.units)} answers"
            )
        names = [unit.text for unit in self.everything.units]
        refuse_not_finite(logits.where(logits != -torch.inf, 0), self._name, names)
        if self.chosen is not None:
            return self.chosen
        best = logits.topk(min(self.top, len(logits))).indices.tolist()
        return [self.everything.units[i] for i in best]


class AskWriter:
    """The same for a model that writes its answers: any text can be one. Arguments as of
    :class:`Ask`.

    Attributes:
        question: as the model understands it.
        readings: the answers to explain; None: the one it writes.
        contrast: whether the difference of two is to be explained.

    Raises:
        ValueError: as for :class:`Ask`.
    """

    def __init__(
        self,
        model: WritesAnswers,
        question: str,
        *,
        answers: Sequence[str] | None = None,
        contrast: tuple[str, str] | None = None,
        strict: bool = False,
    ) -> None:
        chosen = _chosen(answers, contrast)
        self.question = model.understand(question)
        _check_known(cast(Adapter, model).name, self.question, strict)
        self.contrast = contrast is not None
        self.readings: list[Reading] | None = None
        if chosen is not None:
            self.readings = [model.read_answer(self.question, answer) for answer in chosen]


def listed(name: str, known: Sequence[str], chosen: Sequence[str] | None) -> tuple[Unit, ...]:
    """Answers as columns of a model's scores.

    Args:
        name: of the model, for errors.
        known: what it can answer, in the order of its scores.
        chosen: which of these; None: all.

    Raises:
        ValueError: the model has not all of these answers; those it lacks are named, and the
            nearest it has.
    """
    columns = {answer: i for i, answer in enumerate(known)}
    wanted = known if chosen is None else chosen
    if missing := [answer for answer in wanted if answer not in columns]:
        told = (f"{answer!r} is no answer of {name}; {hint(answer, known)}" for answer in missing)
        raise ValueError(" ".join(told))
    return tuple(Unit(answer, (columns[answer],)) for answer in wanted)


def check_question(
    model: Adapter,
    question: str,
    *,
    answers: Sequence[str] | None = None,
    contrast: tuple[str, str] | None = None,
    top: int = 5,
    strict: bool = False,
) -> Ask | AskWriter:
    """The question, as a model of either kind is asked it; arguments as of :func:`vlcam.explain`.

    Raises:
        ValueError: as for :class:`Ask`; the model answers no questions.
    """
    if isinstance(model, WritesAnswers):
        return AskWriter(model, question, answers=answers, contrast=contrast, strict=strict)
    return Ask(model, question, answers=answers, contrast=contrast, top=top, strict=strict)


def ordered_texts(what: str, values: Any) -> list[str]:
    """Values as a list of texts, in an order that somebody chose.

    Args:
        what: they are, for errors.

    Raises:
        ValueError: they are anything else: one text, a set (in no order), a dictionary (whose
            order need not be that of its values).
    """
    if isinstance(values, str):
        raise ValueError(f"{what} is {described(values)}, expected a list of texts")
    if isinstance(values, Set | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{what} is {described(values)}, expected a list of texts, in order")
    return [str(expect(text, str, f"one of {what}", "a text")) for text in values]


def two_answers(contrast: Any) -> list[str]:
    """A contrast's answers; ValueError where they are not two texts."""
    pair = ordered_texts("contrast", contrast)
    if len(pair) != 2:
        raise ValueError(f"contrast is {described(contrast)}, expected two answers")
    return pair


def whole_number(what: str, value: Any) -> int:
    """A whole number; ValueError, with ``what`` it is, where it is none."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{what} is {described(value)}, expected a whole number")
    return int(value)


def _chosen(answers: Sequence[str] | None, contrast: tuple[str, str] | None) -> list[str] | None:
    if answers is not None and contrast is not None:
        raise ValueError("answers and a contrast: give one of them")
    answers = None if answers is None else ordered_texts("answers", answers)
    if contrast is not None:
        pair = two_answers(contrast)
        if pair[0] == pair[1]:
            raise ValueError(f"a contrast of {pair[0]!r} with itself: give two answers")
    if answers is not None and not answers:
        raise ValueError("no answer to explain")
    chosen = contrast or (None if answers is None else dict.fromkeys(answers))
    return None if chosen is None else list(chosen)


def _check_known(name: str, question: Question, strict: bool) -> None:
    if strict and question.unknown:
        raise ValueError(f"not in the vocabulary of {name}: {', '.join(question.unknown)}")
