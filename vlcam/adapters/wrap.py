"""Any module that scores a photo, explained: a layer's name and a scoring function are enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from vlcam.adapters.adapter import FeatureMaps, Prompt, Question, Reading
from vlcam.adapters.asking import listed, ordered_texts
from vlcam.adapters.module import ModuleAdapter, Score, Tokens, refuse_unhashable
from vlcam.adapters.scales import LOGITS, Kind, Scale, Squashings, check_kind, scale_of
from vlcam.geometry.grid import Grid
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.functions import check_takes
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.expected import described, expect, kind_of

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
        scores: Kind | None = None,
        **more: Any,
    ) -> None:
        super().__init__(module, layer, score, **more)
        self._kind = scores
        self.scale: Scale = LOGITS if scores is None else scale_of(scores)
        self.answers = tuple(answers)
        self.question = question
        self._read_question = read or _itself

    def understand(self, question: str) -> Question:
        try:
            read = self._read_question(question)
        except ValueError:
            raise  # that it knows no word, say
        except Exception as error:
            raise ValueError(
                f"{self.name}: read failed on the question {question!r}"
                f" ({type(error).__name__}: {one_line(error)}); it should give a prompt"
            ) from error
        found = read if isinstance(read, Question) else Question(question, read)
        refuse_unhashable(found.prompt, "what read gives")
        if self._example is None:  # the grid is derived by running the module, under any question
            self._example = found.prompt
        return found

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        with Squashings() as seen:
            scores = super().decode(features, prompts, wanted)
        if scores.shape[1] != len(self.answers):
            raise ValueError(
                f"{self.name}: score gives {scores.shape[1]} scores, answers names"
                f" {len(self.answers)}"
            )
        check_kind(scores, self._kind, f"{self.name}: score", squashed=seen.gave(scores))
        return self.scale.explain(scores)

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
    scores: Kind | None = None,
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
        scores: what the scores are: "logits", as the paper explains them; "probabilities" or
            "log-probabilities" behind a softmax, whose log-probabilities are explained (the logits
            cannot be had back); "independent logits" or "independent probabilities", before or
            behind a sigmoid of each, whose logits are explained. None: logits, unless they look
            like something else, which is then refused with the question which they are.
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
        ValueError: there is no such layer (the nearest are named), or it lies in a scripted part;
            no answers, or two alike; a function does not take what it will be given. While
            explaining: other scores than the S named, or not what they are said to be; a function
            fails.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"wrap: expected an nn.Module, got {kind_of(module)}")
    if not isinstance(layer, str):
        raise ValueError(f"layer: expected its name, got {kind_of(layer)}")
    if read is not None:
        check_takes(read, "read", "question")
    if question is not None:
        expect(question, str, "question", "a text")
    if patch is None and skip:
        raise ValueError(f"skip {described(skip)}: goes with patch, of a layer that gives tokens")
    more: dict[str, Any] = {
        "preprocess": preprocess,
        "example": example,
        "grid": grid,
        "name": name,
        "tokens": None if patch is None else Tokens(patch, skip),
    }
    if answers is None:
        if scores is not None:
            raise ValueError("scores: says what the scores of answers are; give answers, too")
        return ModuleAdapter(module, layer, score, **more)
    return WrappedAnswerer(
        module,
        layer,
        score,
        answers=_names(answers),
        read=read,
        question=question,
        scores=scores,
        **more,
    )


def _names(answers: Sequence[str]) -> list[str]:
    """The answers, if they are names of scores; ValueError says what is wrong with them."""
    names = ordered_texts("answers", answers)
    if not names or len(set(names)) < len(names):
        raise ValueError("answers: expected at least one, and no two alike")
    return names


def _itself(question: str) -> Prompt:
    return question
