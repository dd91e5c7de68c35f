"""The deeper LSTM question + normalised image model as vlcam explains it: its CNN cut anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlcam.adapter import FeatureMaps, Prompt, Question
from vlcam.cells import derive
from vlcam.geometry import Grid, Placement
from vlcam.sharing import once_an_image
from vqa import lstm_cnn
from vqa.answerer import Answerer
from vqa.lstm_cnn import LstmCnn


class LstmCnnAnswerer(Answerer):
    """Adapter of :class:`vqa.lstm_cnn.LstmCnn`.

    Args:
        model: the VQA model.
        name: as results carry it.
        layer: of the CNN; None is the last rectified convolutional feature map.
        input_size: (height, width) to feed the CNN where it is fully convolutional, instead of the
            size it was trained at; a larger one gives more cells.

    Raises:
        ValueError: the CNN has no such layer, or does not take such an input.
    """

    def __init__(
        self,
        model: LstmCnn,
        name: str,
        layer: str | None = None,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        self.module = self._model = model
        self.name = name
        self.answers = model.config.answers
        encoder = model.encoder
        self.layer = encoder.layer(layer).name
        self._before, self._after = encoder.split(self.layer)
        self._preprocess = model.config.preprocess
        if input_size is not None:
            self._preprocess = replace(self._preprocess, size=input_size, resize_to=None)
        self._grids: dict[tuple[int, int], Grid] = {}

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        return self._preprocess(photo)

    def encode(self, pixels: Tensor, prompts: Any = None) -> FeatureMaps:
        return FeatureMaps(self._before(pixels))

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, answers)."""
        feature = once_an_image(lambda seen: self._after(seen.maps), features)
        # The question is no function of the photo, so it needs no graph, and is read once.
        distinct = list(dict.fromkeys(prompts))
        with torch.no_grad():
            encoded = self._model.encode_question(distinct)  # type: ignore[arg-type]
        rows = torch.tensor([distinct.index(p) for p in prompts], device=encoded.device)
        logits: Tensor = self._model(feature, encoded[rows])
        return logits

    def understand(self, question: str) -> Question:
        config = self._model.config
        words = config.words(question)
        if not words:
            raise ValueError(f"the question {question!r} has no word")
        unknown = tuple(config.vocabulary.missing(words))
        if all(word in unknown for word in words):
            raise ValueError(f"{self.name} knows no word of the question: {', '.join(unknown)}")
        return Question(question, tuple(config.tokens(question)), unknown)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        if input_size not in self._grids:
            blank = torch.empty(1, 3, *input_size, dtype=self._model.answer.weight.dtype)
            self._grids[input_size] = derive(self._before, blank)
        return self._grids[input_size]

    def describe(self) -> dict[str, Any]:
        return {"cnn": self._model.config.cnn, "preprocess": self._preprocess.to_json()}


def load(
    path: Path, layer: str | None = None, input_size: tuple[int, int] | None = None
) -> LstmCnnAnswerer:
    """A VQA model from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    folder = path if path.is_dir() else path.parent
    return LstmCnnAnswerer(lstm_cnn.load(path), folder.name, layer, input_size)
