"""How attention flows from the photo's patches to the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PHOTO = "photo"
"""The stream of tokens that holds the photo's patches."""

AttentionStep = tuple[str, str]
"""One attention matrix: the stream of tokens that attends, and the one it attends to (itself, or
another)."""


@dataclass(frozen=True)
class Flow:
    """How attention flows through a model under a prompt.

    Attributes:
        steps: the attention layers in the order in which they run, most often of one
            :data:`AttentionStep` each. Where there are several, each sees the other's stream as it
            was before all of them.
        reads: the stream that scores are read from.
        row: from a score's column to the token of that stream that it is read from.
        first: of the photo's stream, the first token that is a patch; the patches are its last
            tokens, row by row.
        summary: of the photo's stream, the token that stands for the whole photo, for rollout
            where scores are read from another stream; None: there is none, and all count alike.
    """

    steps: tuple[tuple[AttentionStep, ...], ...]
    reads: str = PHOTO
    row: Callable[[int], int] = field(default=lambda column: column)
    first: int = 1
    summary: int | None = 0

    def attention_steps(self) -> Iterator[AttentionStep]:
        """All of them, one per attention matrix, in the order in which these are computed."""
        return (step for layer in self.steps for step in layer)


def decoder_steps(stream: str, at: str, layers: int) -> tuple[tuple[AttentionStep, ...], ...]:
    """The steps of a decoder of so many layers: in each, the tokens of ``stream`` attend to each
    other, then to those of the stream ``at``."""
    return (((stream, stream),), ((stream, at),)) * layers
