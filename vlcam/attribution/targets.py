"""Targets: the scalars y that are explained, each with a name.

Every target of the paper is a weighted sum of a model's scores, each read under a prompt:

    ``y = sum over terms t of  w_t * sum over columns s of t of  score_s(prompt_t)``

A word: ``log p(word | photo, words before it)``, under teacher forcing; of a word made of several
tokens, the sum of theirs. A caption: the sum over its words (section 8.1). An answer: its logit,
before the softmax (section 8.2); of a model that writes its answers, their log-probability. One
rather than another: ``y_a - y_b``. What speaks against it: ``-y`` (eq. 12).

So a target is data, and its gradient the same weighted sum of the scores' gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vlcam.adapters.adapter import Prompt, Reading, Unit
from vlcam.utils.messages.brief import Brief


@dataclass(frozen=True, repr=False)
class Term(Brief):
    """``weight`` times the sum of the scores in the columns ``scores`` under ``prompt``."""

    weight: float
    prompt: Prompt
    scores: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class Target(Brief):
    """A scalar to explain: the sum of its terms. Results carry its ``name``."""

    name: str
    terms: tuple[Term, ...]

    def __neg__(self) -> Target:
        """The negated score: what speaks against it (counterfactual explanations, eq. 12)."""
        return Target(f"-({self.name})", _scaled(self, -1))

    def __sub__(self, other: Target) -> Target:
        """Why this rather than the other: the difference of two scores."""
        return Target(f"{self.name} - {other.name}", self.terms + _scaled(other, -1))


def unit(reading: Reading, which: Unit, score: str = "log p") -> Target:
    """The score of one unit: of a word its log-probability given the words before it.

    Args:
        score: what the model's scores are, for the target's name: "log p", "logit".

    Raises:
        ValueError: the model does not know the unit, so has no score for it.
    """
    if which.unknown or not which.scores:
        raise ValueError(f"{which.text!r} is not in the model's vocabulary and has no score")
    return Target(f"{score}({which.text})", (Term(1.0, reading.prompt, which.scores),))


def units(reading: Reading, score: str = "log p") -> list[Target]:
    """One target for each unit the model knows, in order."""
    return [unit(reading, u, score) for u in reading.units if not u.unknown]


def whole(reading: Reading, score: str = "log p") -> Target:
    """The score of the whole text: the sum over all units, unknown ones left out.

    For a caption, log p(caption | image) without its END token, as in section 8.1.

    Raises:
        ValueError: not one unit is known.
    """
    known: Sequence[Unit] = [u for u in reading.units if not u.unknown]
    if not known:
        raise ValueError(f"the model knows no word of {reading.text!r}")
    columns = tuple(column for u in known for column in u.scores)
    return Target(f"{score}({reading.text})", (Term(1.0, reading.prompt, columns),))


def only_prompt(targets: Sequence[Target]) -> Prompt:
    """The one prompt of all the targets, for a model whose feature maps depend on it.

    Raises:
        ValueError: they have several.
    """
    prompts = {term.prompt for target in targets for term in target.terms}
    if len(prompts) > 1:
        raise ValueError(
            f"targets under {len(prompts)} prompts, of a model whose feature maps depend on the"
            " prompt: explain them one prompt at a time"
        )
    return prompts.pop()


def _scaled(target: Target, factor: float) -> tuple[Term, ...]:
    return tuple(Term(factor * t.weight, t.prompt, t.scores) for t in target.terms)
