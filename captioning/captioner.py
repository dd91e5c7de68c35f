"""What every captioner shares: captions as prompts, words as sums of token log-probabilities."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlcam.adapter import Adapter, FeatureMaps, Prompt, Reading, Unit


@dataclass(frozen=True)
class CaptionWord:
    """A word of a caption and the token ids it is written with."""

    text: str
    tokens: tuple[int, ...]
    unknown: bool = False


class Captioner(Adapter):
    """An adapter whose prompts are captions: tuples of token ids, without a start token.

    A subclass gives :meth:`encode`, :meth:`grid` and :meth:`prepare` of :class:`Adapter`, and

    * :meth:`teacher_force`: what the model says at each step, given the caption so far;
    * :meth:`words`: a text as words and tokens;
    * :meth:`generate`: the model's own caption.
    """

    @abstractmethod
    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        """Logits of the next token at each step of N captions.

        Args:
            features: N rows.
            tokens: (N, L) token ids, padded with 0 on the right.

        Returns:
            (N, L, V), row l the logits from which token l is predicted (it has seen the tokens
            before l); or any hidden states (N, L, H) that :meth:`log_probabilities` understands.
            What stands at padding is not read.
        """

    def log_probabilities(self, states: Tensor) -> Tensor:
        """Log-probabilities (n, V) from n of the states that :meth:`teacher_force` gave."""
        exact = states if states.dtype == torch.float64 else states.float()
        return exact.log_softmax(-1)

    @abstractmethod
    def words(self, text: str) -> list[CaptionWord]:
        """A caption's words with their token ids. Unknown words are marked, and keep the tokens
        the model stands in for them, as the words behind them are read in their light."""

    @abstractmethod
    def generate(self, features: FeatureMaps, beam: int = 1) -> list[CaptionWord]:
        """The model's own caption for one image's feature maps; greedy where ``beam`` is 1."""

    def read(self, caption: str) -> Reading:
        """A caption as the model reads it.

        Raises:
            ValueError: there is no word in it.
        """
        words = self.words(caption)
        if not words:
            raise ValueError(f"the caption {caption!r} has no word")
        return reading(caption, words)

    def write(self, features: FeatureMaps, beam: int = 1) -> Reading:
        """The caption the model writes itself.

        Raises:
            ValueError: it is empty.
        """
        # A copy of its one row: a model may write into its input, and the maps are asked again.
        own = features.rows(torch.zeros(1, dtype=torch.long, device=features.maps.device))
        words = self.generate(own, beam)
        if not words:
            raise ValueError(
                f"{self.name} wrote an empty caption; give one with a caption of yours"
            )
        return reading(" ".join(word.text for word in words), words)

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Scores (N, L): log p(token l | image, tokens before l) of each row's caption."""
        tokens = padded(prompts).to(features.maps.device)
        states = self.teacher_force(features, tokens)
        width = tokens.shape[1]
        if wanted is None:
            wanted = torch.ones_like(tokens, dtype=torch.bool)
        where = torch.zeros_like(tokens, dtype=torch.bool)
        where[:, : wanted.shape[1]] = wanted[:, :width]
        # Only the steps that are read go through the vocabulary, by far the widest layer.
        log_probabilities = self.log_probabilities(states[where])
        chosen = log_probabilities.gather(1, tokens[where][:, None]).squeeze(1)
        return chosen.new_zeros(tokens.shape).masked_scatter(where, chosen)


def padded(prompts: Sequence[Prompt]) -> Tensor:
    """Token ids (N, L) of N captions, 0 on the right."""
    longest = max(len(p) for p in prompts)  # type: ignore[arg-type]
    return torch.tensor([[*p, *[0] * (longest - len(p))] for p in prompts])  # type: ignore[misc,arg-type]


def reading(text: str, words: Sequence[CaptionWord]) -> Reading:
    """A caption with its words, each with the columns of its tokens' scores."""
    units, tokens = [], list[int]()
    for word in words:
        columns = tuple(range(len(tokens), len(tokens) + len(word.tokens)))
        units.append(Unit(word.text, columns, word.unknown))
        tokens.extend(word.tokens)
    return Reading(text, tuple(tokens), tuple(units))
