"""The NeuralTalk2 captioner as vlcam explains it: its CNN cut at any layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captioning import neuraltalk
from captioning.captioner import Captioner, CaptionWord
from captioning.neuraltalk import NeuralTalk
from vlcam.adapter import FeatureMaps
from vlcam.cells import derive
from vlcam.geometry import Grid, Placement
from vlcam.sharing import once_an_image
from vlcam.vocabulary import words_of


class NeuralTalkCaptioner(Captioner):
    """Adapter of :class:`captioning.neuraltalk.NeuralTalk`.

    Args:
        model: the captioner.
        name: as results carry it.
        layer: of the CNN; None is the last rectified convolutional feature map.
        input_size: (height, width) to feed the CNN where it is fully convolutional, instead of the
            size it was trained at; a larger one gives more cells.

    Raises:
        ValueError: the CNN has no such layer, or does not take such an input.
    """

    def __init__(
        self,
        model: NeuralTalk,
        name: str,
        layer: str | None = None,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        self.module = self._model = model
        self.name = name
        self.layer = model.encoder.layer(layer).name
        self._before, self._after = model.encoder.split(self.layer)
        self._preprocess = model.config.preprocess
        if input_size is not None:
            self._preprocess = replace(self._preprocess, size=input_size, resize_to=None)
        self._grids: dict[tuple[int, int], Grid] = {}

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        return self._preprocess(photo)

    def encode(self, pixels: Tensor, prompts: Any = None) -> FeatureMaps:
        return FeatureMaps(self._before(pixels))

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        image = once_an_image(lambda seen: self._after(seen.maps), features)
        return self._model.hidden_states(image, tokens)[:, :-1]

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self._model.logits(states))

    def words(self, text: str) -> list[CaptionWord]:
        vocabulary = self._model.config.vocabulary
        return [
            CaptionWord(word, tuple(vocabulary.tokens([word])), word not in vocabulary)
            for word in words_of(text)
        ]

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[CaptionWord]:
        (caption,) = self._model.write(self._after(features.maps), beam)
        words = self._model.config.vocabulary.text(caption.tokens)
        return [CaptionWord(w, (t,)) for w, t in zip(words, caption.tokens, strict=True)]

    def grid(self, input_size: tuple[int, int]) -> Grid:
        if input_size not in self._grids:
            blank = torch.empty(1, 3, *input_size, dtype=self._model.logits.weight.dtype)
            self._grids[input_size] = derive(self._before, blank)
        return self._grids[input_size]

    def describe(self) -> dict[str, Any]:
        return {"cnn": self._model.config.cnn, "preprocess": self._preprocess.to_json()}


def load(
    path: Path, layer: str | None = None, input_size: tuple[int, int] | None = None
) -> NeuralTalkCaptioner:
    """A captioner from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    folder = path if path.is_dir() else path.parent
    return NeuralTalkCaptioner(neuraltalk.load(path), folder.name, layer, input_size)
