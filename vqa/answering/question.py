"""What VQA models of ours have in common: the questions they read and the answers they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor

from vlcam.formats import checkpoint
from vlcam.formats.vocabulary import Vocabulary, words_of
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.expected import described

Tokenizer = Literal["words", "nltk"]


@dataclass(frozen=True)
class QuestionConfig:
    """A model's configuration, without the sizes of its parts.

    Attributes:
        architecture: the name in ``config.json``, of each subclass.
        cnn: name of the encoder (see :class:`vlcam.networks.encoder.Encoder`).
        vocabulary: the words of questions it knows.
        answers: what it can answer, in the order of its logits.
        preprocess: from a photo to the CNN's input.
        dropout: in training.
        max_words: of a question; longer ones are refused, in training they are cut off.
        tokenizer: how a question is split into words: ``words``
            (:func:`vlcam.formats.vocabulary.words_of`), or ``nltk``, which keeps punctuation marks
            as words.
    """

    architecture: ClassVar[str]

    cnn: str
    vocabulary: Vocabulary
    answers: tuple[str, ...]
    preprocess: Preprocess = field(default_factory=Preprocess)
    dropout: float = 0.5
    max_words: int = 26
    tokenizer: Tokenizer = "words"

    def __post_init__(self) -> None:
        self.check_sizes("max_words")
        if not isinstance(self.dropout, int | float) or not 0 <= self.dropout <= 1:
            raise ValueError(f"dropout is {described(self.dropout)}, expected a number in 0..1")
        texts = isinstance(self.answers, tuple) and all(isinstance(a, str) for a in self.answers)
        if not texts or not all(self.answers) or not self.answers:
            raise ValueError("answers: expected a list of texts, at least one, and no empty one")
        if self.tokenizer not in get_args(Tokenizer):
            known = " or ".join(get_args(Tokenizer))
            raise ValueError(f"tokenizer is {described(self.tokenizer)}, expected {known}")
        twice = [a for a, n in Counter(self.answers).items() if n > 1]
        if twice:
            raise ValueError(f"answers: {twice[0]!r} occurs twice")

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, self.architecture)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Inverse of :meth:`to_json`; ValueError for anything else."""
        return checkpoint.from_json(cls, data, cls.architecture, "VQA model")

    def check_sizes(self, *names: str) -> None:
        """Raises ValueError for an attribute that is no whole number of at least 1."""
        for name in names:
            size = getattr(self, name)
            if not isinstance(size, int) or size < 1:
                raise ValueError(
                    f"{name} is {described(size)}, expected a whole number of at least 1"
                )

    def words(self, question: str) -> list[str]:
        """The question's words, as the vocabulary has them."""
        if self.tokenizer == "words":
            return words_of(question)
        from nltk.tokenize import word_tokenize

        # Without a model of sentences, which nltk would have to download.
        return list(word_tokenize(question.lower(), preserve_line=True))

    def missing(self, words: Sequence[str]) -> list[str]:
        """Those words, in order and without repetition, that the vocabulary lacks."""
        return self.vocabulary.missing(words)

    def tokens(self, question: str) -> list[int]:
        """The question's tokens, at most ``max_words``."""
        return self.vocabulary.tokens(self.words(question)[: self.max_words])


def padded(questions: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens (N, L) of N questions, each of at least one, filled up with 0; their lengths (N,), on
    the CPU."""
    lengths = torch.tensor([len(question) for question in questions])
    tokens = torch.zeros(len(questions), int(lengths.max()), dtype=torch.long)
    for row, question in enumerate(questions):
        tokens[row, : len(question)] = torch.tensor(question)
    return tokens.to(device), lengths
