"""Any module that scores a photo, explained: a layer's name and a scoring function are enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from vlcam.adapters.adapter import Prompt, Question, Reading
from vlcam.adapters.asking import listed
from vlcam.adapters.module import ModuleAdapter, Score, Tokens
from vlcam.geometry.grid import Grid
from vlcam.photo.preprocess import Preprocess

Read = Callable[[str], Question | Prompt]
"""A question's text to the prompt that the scoring function gets; or to a :class:`Question`, which
can also list the words that the model does not know."""


class WrappedAnswerer(ModuleAdapter):
    """A module whose scores have names: answers, classes, texts. Made by :func:`wrap`."""

    # Whether the layer's output depends on the question is not known, so it is taken to.
    encode_reads_prompt = True

    def __init__(
        self,
        module: nn.Module,
        layer: str,
        score: Score,
        *,
        answers: Sequence[str],
        read: Read | None,
        question: str | None,
        **more: Any,
    ) -> None:
        super().__init__(module, layer, score, **more)
        self.answers = tuple(answers)
        self.question = question
        self._read_question = read or _itself

    def understand(self, question: str) -> Question:
        read = self._read_question(question)
        found = read if isinstance(read, Question) else Question(question, read)
        if self._example is None:  # the grid is derived by running the module, under any question
            self._example = found.prompt
        return found

    def read(self, question: Question, answers: Sequence[str] | None = None) -> Reading:
        units = listed(self.name, self.answers, answers)
        return Reading(question.text, question.prompt, units)


def wrap(
    module: nn.Module,
    *,
    layer: str,
    score: Score,
    answers: Sequence[str] | None = None,
    read: Read | None = None,
    question: str | None = None,
    preprocess: Preprocess | None = None,
    patch: int | None = None,
    skip: int = 0,
    grid: Grid | None = None,
    example: Prompt = None,
    name: str | None = None,
) -> ModuleAdapter:
    """An adapter for any module: ``vlcam.explain(vlcam.wrap(...), photo, ...)``.

    The module is cut at the layer while it runs; see :class:`vlcam.ModuleAdapter` for the price.
    ``docs/own_model.md`` has four examples.

    Args:
        module: in any state; left as it is.
        layer: dotted name, as in ``module.named_modules()``.
        score: ``score(module, pixels (N, 3, H, W), prompts) -> scores (N, S)``: runs the module on
            N rows, row n under prompt n.
        answers: names of the S scores. With them the model can be asked: ``vlcam.explain(model,
            photo, question=..., answers=[...])``.
        read: a question's text to the prompt that ``score`` gets; None: the text itself.
        question: what the model is asked where no question is given; for a classifier or a
            detector, which takes none ("what is this?").
        preprocess: how a photo becomes pixels; None: 224 x 224, ImageNet's mean and deviation.
        patch, skip: of a layer whose output is a transformer's tokens: the side of a patch in
            pixels, and how many tokens before the patches are none (class token, registers).
        grid: where the layer's cells lie in the input, where that cannot be derived.
        example: a prompt to run ``score`` under where only the layer's output is wanted (only
            without ``answers``).
        name: as results carry it; None: the module's class.

    Raises:
        ValueError: there is no such layer (the nearest are named); no answers, or two alike.
    """
    more: dict[str, Any] = {
        "preprocess": preprocess,
        "example": example,
        "grid": grid,
        "name": name,
        "tokens": None if patch is None else Tokens(patch, skip),
    }
    if answers is None:
        return ModuleAdapter(module, layer, score, **more)
    if not answers or len(set(answers)) < len(answers):
        raise ValueError("answers: expected at least one, and no two alike")
    return WrappedAnswerer(
        module, layer, score, answers=answers, read=read, question=question, **more
    )


def _itself(question: str) -> Prompt:
    return question
