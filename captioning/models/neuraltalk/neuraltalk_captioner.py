"""The NeuralTalk2 captioner as vlcam explains it: its CNN cut at any layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from captioning.language.captioner import CaptionWord
from captioning.language.decoding import Caption
from captioning.language.lstm import Reader, ReadsImageFirst
from captioning.models.neuraltalk import neuraltalk
from captioning.models.neuraltalk.neuraltalk import NeuralTalk
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.cnn import CnnAdapter
from vlcam.formats.vocabulary import END, words_of

_KEPT_BY_LSTM = 6  # numbers a unit, for the way back (caption_lstm.py)
_STEPS = 20  # about the words of a long caption


class NeuralTalkCaptioner(CnnAdapter, ReadsImageFirst):
    """Adapter of :class:`captioning.models.neuraltalk.neuraltalk.NeuralTalk`; see
    :class:`CnnAdapter`."""

    module: NeuralTalk

    def image_embedding(self, features: FeatureMaps) -> Tensor:
        return self.module.image_embedding(self.image_features(features))

    def reader(self) -> Reader:
        return Reader(self.module.rnn, self.module.embed_word, END)

    def kept_bytes(self, features: FeatureMaps) -> int | None:
        """Little, where but a mean over the cells lies between the layer and the LSTM."""
        if any(True for _ in self._after.parameters()):
            return None
        of_step = _KEPT_BY_LSTM * self.module.rnn.hidden_size
        return (features.maps[0].numel() + _STEPS * of_step) * features.maps.element_size()

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self.module.logits(states))

    def words(self, text: str) -> list[CaptionWord]:
        vocabulary = self.module.config.vocabulary
        return [
            CaptionWord(word, tuple(vocabulary.tokens([word])), word not in vocabulary)
            for word in words_of(text)
        ]

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[CaptionWord]:
        return self.generate_all([features], beam)[0]

    def generate_all(self, images: Sequence[FeatureMaps], beam: int = 1) -> list[list[CaptionWord]]:
        """All captions advance together, a word a step."""
        maps = torch.cat([features.maps for features in images])
        return [self._words(caption) for caption in self.module.write(self._after(maps), beam)]

    def _words(self, caption: Caption) -> list[CaptionWord]:
        words = self.module.config.vocabulary.text(caption.tokens)
        return [CaptionWord(w, (t,)) for w, t in zip(words, caption.tokens, strict=True)]


def load(path: Path, layer: str | None = None) -> NeuralTalkCaptioner:
    """A captioner from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    folder = path if path.is_dir() else path.parent
    return NeuralTalkCaptioner(neuraltalk.load(path), folder.name, layer)
