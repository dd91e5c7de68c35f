"""The deeper LSTM question + normalised image model as vlcam explains it: its CNN cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vlcam.adapter import FeatureMaps, Prompt, Question
from vlcam.cnn_adapter import CnnAdapter
from vqa import lstm_cnn
from vqa.answerer import Answerer
from vqa.lstm_cnn import LstmCnn


class LstmCnnAnswerer(CnnAdapter, Answerer):
    """Adapter of :class:`vqa.lstm_cnn.LstmCnn`; see :class:`CnnAdapter`."""

    module: LstmCnn

    @property
    def answers(self) -> Sequence[str]:  # type: ignore[override]
        return self.module.config.answers

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, answers)."""
        feature = self.image_features(features)
        # The question is no function of the photo, so it needs no graph, and is read once.
        distinct = list(dict.fromkeys(prompts))
        with torch.no_grad():
            encoded = self.module.encode_question(distinct)  # type: ignore[arg-type]
        rows = torch.tensor([distinct.index(p) for p in prompts], device=encoded.device)
        logits: Tensor = self.module(feature, encoded[rows])
        return logits

    def understand(self, question: str) -> Question:
        config = self.module.config
        words = config.words(question)
        if not words:
            raise ValueError(f"the question {question!r} has no word")
        unknown = tuple(config.vocabulary.missing(words))
        if all(word in unknown for word in words):
            raise ValueError(f"{self.name} knows no word of the question: {', '.join(unknown)}")
        return Question(question, tuple(config.tokens(question)), unknown)


def load(
    path: Path, layer: str | None = None, input_size: tuple[int, int] | None = None
) -> LstmCnnAnswerer:
    """A VQA model from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    folder = path if path.is_dir() else path.parent
    return LstmCnnAnswerer(lstm_cnn.load(path), folder.name, layer, input_size)
