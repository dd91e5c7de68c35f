"""Adapters of VQA models around our CNNs: a CNN, cut anywhere, and what answers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlcam.adapters.adapter import FeatureMaps, Prompt, Question
from vlcam.adapters.cnn import CnnAdapter
from vqa.answering.answerer import Answerer


class CnnAnswerer(CnnAdapter, Answerer):
    """Adapter of a VQA module around a CNN of ours; see :class:`CnnAdapter`.

    The module has ``encoder`` (the CNN), ``encode_question(questions)`` (tokens of N questions to
    their encodings, N rows), ``forward(features, encodings)`` (image features (N, F) to logits
    (N, answers)) and ``config``: ``answers``, and how questions are read
    (:class:`vqa.answering.question.QuestionConfig`).
    """

    module: Any

    @property
    def answers(self) -> Sequence[str]:  # type: ignore[override]
        answers: Sequence[str] = self.module.config.answers
        return answers

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, answers)."""
        logits: Tensor = self.module(self.image_features(features), self.encoded_questions(prompts))
        return logits

    def encoded_questions(self, prompts: Sequence[Any]) -> Tensor:
        """The questions' encodings, one row a prompt."""
        # A question's encoding does not depend on the photo: no graph, and each is encoded once.
        distinct = list(dict.fromkeys(prompts))
        with torch.no_grad():
            encoded: Tensor = self.module.encode_question(distinct)
        return encoded[[distinct.index(prompt) for prompt in prompts]]

    def understand(self, question: str) -> Question:
        """As :meth:`Answerer.understand`; ValueError too for more words than the model reads."""
        config = self.module.config
        words = config.words(question)
        if not words:
            raise ValueError(f"the question {question!r} has no word")
        if config.max_words is not None and len(words) > config.max_words:
            raise ValueError(
                f"the question has {len(words)} words; {self.name} reads at most {config.max_words}"
            )
        unknown = tuple(config.missing(words))
        if all(word in unknown for word in words):
            raise ValueError(f"{self.name} knows no word of the question: {', '.join(unknown)}")
        return Question(question, tuple(config.tokens(question)), unknown)


def folder_name(path: Path) -> str:
    """What a model is called: its folder."""
    return (path if path.is_dir() else path.parent).name
