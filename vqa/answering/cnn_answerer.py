"""Our VQA models as vlcam explains them: a CNN, cut anywhere, and what answers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlcam.adapters.adapter import FeatureMaps, OwnAttention, Prompt, Question
from vlcam.adapters.cnn import CnnAdapter
from vlcam.geometry.cells import derive
from vqa.answering.answerer import Answerer
from vqa.models.coattention import model as coattention
from vqa.models.coattention.model import Levels
from vqa.models.lstm_cnn import model as lstm_cnn


class CnnAnswerer(CnnAdapter, Answerer):
    """Adapter of :class:`vqa.models.lstm_cnn.model.LstmCnn`,
    :class:`vqa.models.coattention.model.CoAttention`, :class:`vqa.models.glimpses.Glimpses` and
    whatever has their ``encoder``, ``encode_question``, ``forward`` and, of their ``config``, how
    questions are read; see :class:`CnnAdapter`."""

    module: Any

    @property
    def answers(self) -> Sequence[str]:  # type: ignore[override]
        answers: Sequence[str] = self.module.config.answers
        return answers

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, answers)."""
        logits: Tensor = self.module(self.image_features(features), self._encoded(prompts))
        return logits

    def _encoded(self, prompts: Sequence[Any]) -> Tensor:
        """The questions' encodings, one row a prompt."""
        # The question is no function of the photo, so it needs no graph, and is read once.
        distinct = list(dict.fromkeys(prompts))
        with torch.no_grad():
            encoded: Tensor = self.module.encode_question(distinct)
        return encoded[[distinct.index(prompt) for prompt in prompts]]

    def understand(self, question: str) -> Question:
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

    def attention(
        self, features: FeatureMaps, prompt: Prompt, input_size: tuple[int, int]
    ) -> OwnAttention | None:
        """Of co-attention: where each of its levels looked, the regions' shares."""
        if not isinstance(self.module, Levels):
            return None
        regions = self.module.encoder.regions
        seen = self.module.look(self.image_features(features), self._encoded([prompt]))
        maps = torch.cat([level.regions for level in seen.values()])
        before, _ = self.module.encoder.split(regions.name)
        kind = next(self.module.parameters()).dtype
        grid = derive(before, torch.empty(1, 3, *input_size, dtype=kind))
        return OwnAttention(tuple(seen), maps.unflatten(1, grid.size), grid)


def load_lstm_cnn(path: Path, layer: str | None = None) -> CnnAnswerer:
    """A VQA model from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    return CnnAnswerer(lstm_cnn.load(path), folder_name(path), layer)


def load_coattention(path: Path, layer: str | None = None) -> CnnAnswerer:
    """As :func:`load_lstm_cnn`, of a co-attention model."""
    return CnnAnswerer(coattention.load(path), folder_name(path), layer)


def folder_name(path: Path) -> str:
    """What a model is called: its folder."""
    return (path if path.is_dir() else path.parent).name
