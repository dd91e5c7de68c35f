"""What was found: for one photo, a map for each word of a caption or each answer to a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from vlcam.attribution import methods
from vlcam.formats.world import Likeness
from vlcam.geometry.grid import Cells, Placement, place
from vlcam.geometry.peaks import peaks
from vlcam.utils.messages.brief import Brief, shortened

_SAID, _TEXT = 8, 100
"""How many words or answers, and characters of a text, a result's ``repr`` has."""


@dataclass(frozen=True, repr=False)
class Word(Brief):
    """One explained word.

    Attributes:
        text: as written.
        log_probability: of the word given the photo and the words before it (nats).
        probability: its exponential, 0..1.
        peak: (x, y) where the map is highest, in photo pixels (:mod:`vlcam.geometry.peaks`).
        degenerate: the map is constant (all-zero included) where the photo shows it, or not finite:
            there is no peak.
    """

    text: str
    log_probability: float
    probability: float
    peak: tuple[int, int]
    degenerate: bool

    @property
    def score(self) -> float:
        """What is explained, under the name that words and answers share."""
        return self.log_probability


@dataclass(frozen=True, repr=False)
class Answer(Brief):
    """One explained answer, or one rather than another.

    Attributes:
        text: as the model has it.
        logit: of the answer, before softmax; of "A rather than B" the difference of the two. Of a
            model that writes its answers: log-probabilities (nats).
        probability: of the answer among all there are, 0..1; of "A rather than B" that of A among
            the two.
        peak, degenerate: as of a :class:`Word`.
    """

    text: str
    logit: float
    probability: float
    peak: tuple[int, int]
    degenerate: bool

    @property
    def score(self) -> float:
        """What is explained, under the name that words and answers share."""
        return self.logit


@dataclass(frozen=True, repr=False)
class AttentionMap(Brief):
    """One map of the model's own attention: under a question the same for every answer; of a text
    that a model writes, a word's.

    Attributes:
        text: what it is of: a level of the model, a layer; the word.
        peak, degenerate: as of a :class:`Word`.
    """

    text: str
    peak: tuple[int, int]
    degenerate: bool


@dataclass(frozen=True, repr=False)
class AttentionMaps(Brief):
    """A model's own attention to the photo.

    Attributes:
        looks: what each of L maps is of (their name in saved files, too).
        maps: (L, u, v), raw.
        grid: where their cells lie in the model's input.
    """

    looks: tuple[AttentionMap, ...]
    maps: Tensor
    grid: Cells


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What an explanation holds: plain data, which knows neither files nor pictures of itself.

    Attributes:
        photo: path or name of the photo.
        image: the photo as explained (upright RGB), uint8 (H, W, 3).
        model, layer, method, target: names of what made the maps.
        caption: the whole text; of a question the answer the model wrote, if its words are
            explained, else empty.
        words: the explained words, in order, one per map.
        unknown: words of the caption, or of the question, that the model does not know.
        maps: raw maps, float32 (T, u, v): not normalised, not resized; signed where the method is.
        grid: where the maps' cells lie in the model's input.
        placement: where the input lies in the photo.
        details: versions, and what else the model had to say of itself.
        question: that was asked; None where a caption is explained.
        answers: the explained answers, in order, one per map.
        attention: of a model that has an attention of its own: a map per word, or maps that are
            the same for every answer.
        likeness: how like the model's training photos this one is, of models that know.
    """

    photo: str
    image: np.ndarray
    model: str
    layer: str
    method: str
    target: str
    caption: str
    words: tuple[Word, ...]
    unknown: tuple[str, ...]
    maps: Tensor
    grid: Cells
    placement: Placement
    details: dict[str, Any] = field(default_factory=dict)
    question: str | None = None
    answers: tuple[Answer, ...] = ()
    attention: AttentionMaps | None = None
    likeness: Likeness | None = None

    @property
    def text(self) -> str:
        """The caption, or the question."""
        return self.caption if self.question is None else self.question

    @property
    def by_word(self) -> bool:
        """Whether words are explained: of a caption, or of an answer that the model wrote."""
        return self.question is None or bool(self.words)

    @property
    def explained(self) -> tuple[Word | Answer, ...]:
        """The words or the answers, whichever are explained: one for each of the maps, in order."""
        return self.words if self.by_word else self.answers

    @property
    def items(self) -> Sequence[Word | Answer | AttentionMap]:
        """What has a map each: the words or the answers, and then the model's own
        attention."""
        return (*self.explained, *(self.attention.looks if self.attention else ()))

    @cached_property
    def signed(self) -> bool:
        """Whether any map of a word or answer holds what speaks against it, so that all are shown
        signed."""
        shown = [index for index, item in enumerate(self.explained) if not item.degenerate]
        return bool((self.maps[shown] < 0).any())

    @property
    def caveat(self) -> str | None:
        """What a reader of this method's maps should know."""
        method = methods.known().get(self.method)
        return method.caveat if method else None

    @property
    def score_kind(self) -> str:
        """What a score is: "log-probability", "logit", "difference"."""
        return self.target.partition(" of ")[0]

    def __repr__(self) -> str:
        """A line or two, however long the text and however many the words."""
        said = [f"{item.text} {100 * item.probability:.3g} %" for item in self.explained[:_SAID]]
        rest = len(self.explained) - len(said)
        asked = "" if self.question is None else f" {shortened(self.question, _TEXT)}"
        asked += f" {shortened(self.caption, _TEXT)}" if self.caption else ""
        return (
            f"<{type(self).__name__} of {self.photo} by {self.model}, {self.method} at"
            f" {self.layer}:{asked}; {', '.join(said)}{f' and {rest} more' if rest else ''}>"
        )

    @property
    def unlike(self) -> str | None:
        """What a reader should know where the photo is unlike the model's training photos."""
        return self.likeness.line if self.likeness else None

    def map(self, index: int) -> tuple[Tensor, Cells]:
        """The raw map (u, v) of item ``index``, and where its cells lie in the input."""
        if index < len(self.maps):
            return self.maps[index], self.grid
        assert self.attention is not None
        return self.attention.maps[index - len(self.maps)], self.attention.grid

    def photo_map(self, index: int) -> np.ndarray:
        """Map of item ``index`` at photo size, float32 (H, W): raw values."""
        return place(*self.map(index), self.placement).cpu().numpy()

    def photo_maps(self) -> Iterator[np.ndarray]:
        """The maps at photo size one by one (a dozen of a large photo are gigabytes)."""
        return (self.photo_map(index) for index in range(len(self.items)))


def explained_words(
    texts: Sequence[str], scores: Tensor, maps: Tensor, grid: Cells, placement: Placement
) -> tuple[Word, ...]:
    """Words from their log-probabilities (T,) and raw maps (T, u, v)."""
    found = peaks(maps, grid, placement)
    return tuple(
        Word(
            text,
            log_probability=value,
            probability=float(np.exp(min(value, 0.0))),
            peak=point,
            degenerate=flat,
        )
        for text, value, (point, flat) in zip(texts, scores.tolist(), found, strict=True)
    )
