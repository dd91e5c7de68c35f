"""Models that write: texts scored token by token, each given the photo and the tokens before it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt, Reading, Unit


@dataclass(frozen=True)
class TokenizedWord:
    """A word of a text and its token ids.

    Attributes:
        text: as shown; empty of a special token, which is read (later tokens are predicted given
            it), but neither shown nor explained.
        tokens: their ids, in order.
        unknown: the model has no such word.
    """

    text: str
    tokens: tuple[int, ...]
    unknown: bool = False


class TeacherForced(Adapter):
    """An adapter whose scores (N, L) are log-probabilities of the tokens of N texts.

    A subclass gives :meth:`states`; and :meth:`tokens`, where its prompts are not plain tuples of
    token ids.
    """

    def tokens(self, prompt: Prompt) -> tuple[int, ...]:
        """The token ids of a prompt's text."""
        return prompt  # type: ignore[return-value]

    @abstractmethod
    def states(self, features: FeatureMaps, prompts: Sequence[Prompt], tokens: Tensor) -> Tensor:
        """What the tokens of N texts are predicted from, step by step: the input of
        :meth:`log_probabilities`.

        Args:
            features: N rows.
            prompts: N prompts.
            tokens: (N, L) ids of their texts, padded with 0 on the right.

        Returns:
            (N, L, ...), in place l that from which token l is predicted, given the tokens before
            it. Places of padding are not read.
        """

    def states_at(
        self, features: FeatureMaps, prompts: Sequence[Prompt], tokens: Tensor, wanted: Tensor
    ) -> Tensor:
        """Of :meth:`states` those (n, ...) of the n places where ``wanted`` (N, L) is true, text by
        text. Override it where they take less memory than all."""
        states = self.states(features, prompts, tokens)
        return states[wanted.to(states.device)]

    def log_probabilities(self, states: Tensor) -> Tensor:
        """Log-probabilities (n, V) of all V tokens, from n of the states; unless overridden, these
        are logits (n, V)."""
        exact = states if states.dtype == torch.float64 else states.float()
        return exact.log_softmax(-1)

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Scores (N, L): log p(token l | image, tokens before l) of each row's text."""
        tokens = padded([self.tokens(prompt) for prompt in prompts]).to(features.device)
        width = tokens.shape[1]
        if wanted is None:
            wanted = torch.ones_like(tokens, dtype=torch.bool)
        where = torch.zeros_like(tokens, dtype=torch.bool)
        where[:, : wanted.shape[1]] = wanted[:, :width]
        # Only the steps that are read go through the vocabulary, by far the widest layer.
        states = self.states_at(features, prompts, tokens, where)
        log_probabilities = self.log_probabilities(states)
        chosen = log_probabilities.to(tokens.device).gather(1, tokens[where][:, None]).squeeze(1)
        return chosen.new_zeros(tokens.shape).masked_scatter(where, chosen)


def padded(texts: Sequence[Any]) -> Tensor:
    """Token ids (N, L) of N texts, 0 on the right."""
    longest = max(len(text) for text in texts)
    return torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])


def shown(words: Sequence[TokenizedWord]) -> str:
    """The words as a text, without special tokens."""
    return " ".join(word.text for word in words if word.text)


def reading(text: str, words: Sequence[TokenizedWord]) -> Reading:
    """A text as :class:`TeacherForced` scores it: each word with the columns of its tokens; the
    prompt is all tokens."""
    units, tokens = [], list[int]()
    for word in words:
        columns = tuple(range(len(tokens), len(tokens) + len(word.tokens)))
        if word.text:
            units.append(Unit(word.text, columns, word.unknown))
        tokens.extend(word.tokens)
    return Reading(text, tuple(tokens), tuple(units))
