"""How attention flows from the photo's patches to the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

AttentionStep = tuple[str, str]
"""The stream of tokens that looks, and the one it looks at (itself, or another)."""


PHOTO = "photo"
"""The stream whose tokens hold the photo's patches."""


@dataclass(frozen=True)
class Flow:
    """How attention flows through a model under a prompt.

    Attributes:
        steps: the attention layers in the order in which they run. Mostly one look each; those of
            one step see each other's streams as they were before it.
        reads: the stream that scores are read from; ``photo`` where there is only one.
        row: the token of that stream from which a score is read, by the score's column.
        first: of the stream ``photo``, the first token that is a patch; the patches are its last
            tokens, in the order one reads in.
        summary: of the stream ``photo`` the token that stands for the whole photo, for rollout
            where scores are read elsewhere; None: there is none, and all count alike.
    """

    steps: tuple[tuple[AttentionStep, ...], ...]
    reads: str = PHOTO
    row: Callable[[int], int] = field(default=lambda column: column)
    first: int = 1
    summary: int | None = 0

    def attention_steps(self) -> Iterator[AttentionStep]:
        return (look for step in self.steps for look in step)


def decoder_steps(stream: str, at: str, layers: int) -> tuple[tuple[AttentionStep, ...], ...]:
    """Layers of a decoder: its tokens look at each other, and then at those of another stream."""
    return (((stream, stream),), ((stream, at),)) * layers
