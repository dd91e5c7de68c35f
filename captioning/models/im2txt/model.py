"""Google's Show and Tell (Vinyals et al., 2016; im2txt): the model and its adapter.

An LSTM reads the image (the mean over Inception v3's last feature maps, embedded), then the words
so far from ``<S>`` on, and predicts the next one, up to ``</S>``.

The vocabulary may have fewer words than the model has tokens: those beyond it are written
``<UNK>``.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captioning.language.captioner import TokenizedWord
from captioning.language.lstm import Reader, ReadsImageFirst
from captioning.models.im2txt.inception import SIZE, InceptionV3
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.cnn import CnnAdapter
from vlcam.adapters.once_per_image import once_per_image
from vlcam.formats import checkpoint
from vlcam.photo.preprocess import Preprocess

ARCHITECTURE = "im2txt"
START, END, UNKNOWN = "<S>", "</S>", "<UNK>"

_LONGEST = 20  # tokens of a caption that the model writes, <S> and </S> among them
_LEAST = 1e-12  # probability of a word that beam search considers


@dataclass(frozen=True)
class Config:
    """Everything but the weights, whose shapes say the sizes.

    Attributes:
        words: word i has token i; ``<S>`` and ``</S>`` are among them.
        preprocess: from a photo to the CNN's input.
        cnn: what it is.
    """

    words: tuple[str, ...]
    preprocess: Preprocess = field(
        default_factory=lambda: Preprocess(
            size=(SIZE, SIZE),
            resize_to=(346, 346),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            interpolation="tensorflow1",
        )
    )
    cnn: str = "inception-v3-slim"

    assumed = ("preprocess",)  # no checkpoint says how photos are prepared

    def __post_init__(self) -> None:
        if not isinstance(self.words, tuple) or not all(isinstance(w, str) for w in self.words):
            raise ValueError("words: expected a list of strings")
        for word in (START, END):
            if word not in self.words:
                raise ValueError(f"words: {word} is not among them")

    @cached_property
    def tokens(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @property
    def unknown(self) -> int:
        """The token of ``<UNK>``: the one behind the last word, where it is none itself."""
        return self.tokens.get(UNKNOWN, len(self.words))

    def text(self, token: int) -> str:
        """The word of a token."""
        return self.words[token] if token < len(self.words) else UNKNOWN

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)


class ShowAndTell(nn.Module):
    """Image and words to logits.

    Args:
        weights: by their names here; their shapes say the sizes.

    Raises:
        ValueError: one is missing, or there are more words than tokens.
    """

    def __init__(self, config: Config, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        prefix = "encoder."
        self.encoder = InceptionV3(
            {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        )
        sizes = []
        for name in ("image.weight", "embed_word.weight", "logits.weight"):
            if name not in weights or weights[name].ndim != 2:
                raise ValueError(f"no matrix {name}")
            sizes.append(tuple(weights[name].shape))
        (width, _), (words, _), (_, hidden) = sizes
        if len(config.words) > words:
            raise ValueError(f"{len(config.words)} words, but the model has {words} tokens only")
        self.image = nn.Linear(self.encoder.feature_size, width, bias=False)
        self.embed_word = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.logits = nn.Linear(hidden, words)


class Im2txt(CnnAdapter, ReadsImageFirst):
    """Adapter of :class:`ShowAndTell`: its CNN cut at one of slim's end points."""

    module: ShowAndTell

    def image_embedding(self, features: FeatureMaps) -> Tensor:
        return once_per_image(lambda seen: self.module.image(self._after(seen.maps)), features)

    def reader(self) -> Reader:
        return Reader(self.module.lstm, self.module.embed_word, self._start)

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self.module.logits(states))

    def words(self, text: str) -> list[TokenizedWord]:
        """Words and punctuation marks, in lower case, as the training captions were tokenised."""
        return [self._word(word) for word in self._split(text)]

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        """The best caption of the original's beam search. Its beam of 1 is greedy search.

        The last token is left out whatever it is, as the original does when it prints: where the
        caption was not finished, a word is lost.
        """
        best = self.beam_search(features, beam)[0]
        text = self.module.config.text
        return [TokenizedWord(text(token), (token,)) for token in best.tokens[1:-1]]

    def describe(self) -> dict[str, Any]:
        return {"family": "im2txt"} | super().describe()

    @torch.no_grad()
    def beam_search(
        self, features: FeatureMaps, beam: int = 3, length_power: float = 0.0
    ) -> list[Candidate]:
        """The original's beam search over one image's captions; the best first.

        Finished captions compete among themselves, and unfinished ones among themselves; these are
        returned only if none was finished.

        Args:
            length_power: finished captions are compared by log-probability / length **
                ``length_power``, where the length counts ``<S>`` and ``</S>``.
        """
        _, state = self.module.lstm(self.image_embedding(features)[:, None])
        partial = [Candidate((self._start,), 0.0, 0.0, (state[0][:, 0], state[1][:, 0]))]
        finished: list[Candidate] = []
        for _ in range(_LONGEST - 1):
            begun, partial = partial, []
            probabilities, states = self._next(begun)
            for caption, row, after in zip(begun, probabilities, states, strict=True):
                # Of equally likely words the first, as a stable sort has it.
                likely = np.argsort(-row, kind="stable")[:beam].tolist()
                for word in likely:
                    if row[word] < _LEAST:
                        continue
                    longer = caption.longer(word, math.log(row[word]), after)
                    if word == self._end:
                        _push(finished, longer.normalised(length_power), beam)
                    else:
                        _push(partial, longer, beam)
            if not partial:
                break
        return sorted(finished or partial, reverse=True)

    def _next(self, captions: list[Candidate]) -> tuple[np.ndarray, list[tuple[Tensor, Tensor]]]:
        """Probabilities (N, V) of the words behind N captions, and the LSTM's states then."""
        last = [caption.tokens[-1] for caption in captions]
        table = self.module.embed_word
        words = table(torch.tensor(last, device=table.weight.device))
        h, c = (torch.stack(part, 1) for part in zip(*(c.state for c in captions), strict=True))
        outputs, (h, c) = self.module.lstm(words[:, None], (h, c))
        logits = self.module.logits(outputs[:, 0])
        exact = logits if logits.dtype == torch.float64 else logits.float()
        after = list(zip(h.unbind(1), c.unbind(1), strict=True))
        return exact.softmax(-1).cpu().numpy(), after

    @property
    def _start(self) -> int:
        return self.module.config.tokens[START]

    @property
    def _end(self) -> int:
        return self.module.config.tokens[END]

    def _split(self, text: str) -> Iterator[str]:
        from nltk.tokenize import word_tokenize

        for i, piece in enumerate(re.split(f"({START}|{END}|{UNKNOWN})", text)):
            if i % 2:  # as captions of the model's own may have them
                yield piece
                continue
            # Without a model of sentences, which nltk would have to download: the full stop of each
            # but the last is still part of its last word.
            for word in word_tokenize(piece.lower(), preserve_line=True):
                if word.endswith(".") and len(word) > 1 and word not in self.module.config.tokens:
                    yield word[:-1]
                    yield "."
                else:
                    yield word

    def _word(self, word: str) -> TokenizedWord:
        token = self.module.config.tokens.get(word)
        if token is not None:
            return TokenizedWord(word, (token,))
        stand_in = self.module.config.unknown
        if stand_in >= self.module.embed_word.num_embeddings:
            return TokenizedWord(word, (), unknown=True)
        return TokenizedWord(word, (stand_in,), unknown=word != UNKNOWN)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A caption during beam search; of two the one with the higher score is the greater.

    Attributes:
        tokens: from ``<S>`` on, up to ``</S>`` if it is finished.
        log_probability: of the tokens behind ``<S>``.
        score: what captions are compared by.
        state: (h, c) of the LSTM before its last token.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    state: tuple[Tensor, Tensor] = field(repr=False)

    def __lt__(self, other: Candidate) -> bool:
        return self.score < other.score

    def longer(self, token: int, log_probability: float, state: tuple[Tensor, Tensor]) -> Candidate:
        total = self.log_probability + log_probability
        return Candidate((*self.tokens, token), total, total, state)

    def normalised(self, power: float) -> Candidate:
        score = self.log_probability / len(self.tokens) ** power
        return Candidate(self.tokens, self.log_probability, score, self.state)


def _push(captions: list[Candidate], caption: Candidate, most: int) -> None:
    """Add a caption to a heap of at most ``most``, which keeps the best."""
    (heapq.heappush if len(captions) < most else heapq.heappushpop)(captions, caption)
