"""The NeuralTalk2 captioner as vlcam explains it: its CNN cut at any layer."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from captioning import neuraltalk
from captioning.captioner import Captioner, CaptionWord
from captioning.neuraltalk import NeuralTalk
from vlcam.adapter import FeatureMaps
from vlcam.cnn_adapter import CnnAdapter
from vlcam.vocabulary import words_of


class NeuralTalkCaptioner(CnnAdapter, Captioner):
    """Adapter of :class:`captioning.neuraltalk.NeuralTalk`; see :class:`CnnAdapter`."""

    module: NeuralTalk

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        return self.module.hidden_states(self.image_features(features), tokens)[:, :-1]

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self.module.logits(states))

    def words(self, text: str) -> list[CaptionWord]:
        vocabulary = self.module.config.vocabulary
        return [
            CaptionWord(word, tuple(vocabulary.tokens([word])), word not in vocabulary)
            for word in words_of(text)
        ]

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[CaptionWord]:
        (caption,) = self.module.write(self._after(features.maps), beam)
        words = self.module.config.vocabulary.text(caption.tokens)
        return [CaptionWord(w, (t,)) for w, t in zip(words, caption.tokens, strict=True)]


def load(path: Path, layer: str | None = None) -> NeuralTalkCaptioner:
    """A captioner from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    folder = path if path.is_dir() else path.parent
    return NeuralTalkCaptioner(neuraltalk.load(path), folder.name, layer)
