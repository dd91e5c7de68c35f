"""NeuralTalk2's captioner: CNN -> image embedding -> LSTM -> words.

The captioner of section 8.1 of Selvaraju et al., IJCV 2019 (Karpathy's neuraltalk2), with any of
our CNNs; how its LSTM reads and writes: ``captioning/language/writer.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from captioning.language.captioner import TokenizedWord
from captioning.language.decoding import Caption
from captioning.language.lstm import Reader, ReadsImageFirst
from captioning.language.writer import Writer, WriterConfig
from captioning.models.neuraltalk.word_evidence import EvidentLogits, WordEncoder
from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.adapters.cnn import CnnAdapter
from vlcam.formats import checkpoint
from vlcam.formats.vocabulary import END, words_of
from vlcam.networks.encoder import Encoder
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.expected import described

ARCHITECTURE = "neuraltalk"

_KEPT_BY_LSTM = 6  # numbers per unit, for the backward pass (captioning/language/lstm.py)
_STEPS = 20  # about the words of a long caption


@dataclass(frozen=True, kw_only=True)
class Config(WriterConfig):
    """Everything but the weights.

    Attributes:
        cnn: name of the encoder (see :class:`vlcam.networks.encoder.Encoder`).
        preprocess: from a photo to the CNN's input.
        detected: the words whose evidence speaks for them
            (:mod:`captioning.models.neuraltalk.word_evidence`).
    """

    cnn: str
    preprocess: Preprocess = field(default_factory=Preprocess)
    detected: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [word for word in self.detected if word not in self.vocabulary]
        if unknown:
            raise ValueError(f"detected: {described(unknown[0])} is not in the vocabulary")

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)

    @classmethod
    def from_json(cls, data: Any) -> Config:
        """Inverse of :meth:`to_json`; ValueError for anything else."""
        return checkpoint.from_json(cls, data, ARCHITECTURE, "captioner")


class NeuralTalk(Writer):
    """The captioner.

    ``standardise`` brings the image feature to the scale of its embedding. Without it the features
    of all photos are nearly the same (the mean of a rectified map has much the same value on every
    photo), and an LSTM that starts from them learns to write without the image.
    """

    config: Config

    def __init__(self, config: Config) -> None:
        nn.Module.__init__(self)
        size = config.preprocess.size
        self.encoder: Encoder = (
            WordEncoder(config.cnn, size, len(config.detected))
            if config.detected
            else Encoder(config.cnn, size)
        )
        self.standardise = nn.BatchNorm1d(self.encoder.feature_size, affine=False)
        self.add_layers(self.encoder.feature_size - len(config.detected), config)
        if config.detected:
            detected = config.vocabulary.tokens(config.detected)
            self.logits = EvidentLogits(cast(nn.Linear, self.logits), detected)

    def image_embedding(self, feature: Tensor) -> Tensor:
        """As of a :class:`Writer`, from the mean of the maps: what the LSTM would read of all words
        would be most of every word's gradient, and hide what speaks for the word itself."""
        mean = feature.shape[1] - len(self.config.detected)
        return super().image_embedding(self.standardise(feature)[:, :mean])

    def evidence(self, feature: Tensor) -> Tensor:
        """Standardised evidence (N, D) of the detected words, in image features (N, F)."""
        return self.standardise(feature)[:, feature.shape[1] - len(self.config.detected) :]

    def hidden_states(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """As of a :class:`Writer`, and behind each output the evidence: (N, L + 1, H + D)."""
        outputs = super().hidden_states(feature, tokens)
        return self.with_image(outputs, (self.evidence(feature),))

    def start(self, feature: Tensor) -> tuple[Tensor, ...]:
        return *super().start(feature), self.evidence(feature)[None]

    def with_image(self, outputs: Tensor, image: tuple[Tensor, ...]) -> Tensor:
        if not self.config.detected:
            return outputs
        evidence = image[0].view(*outputs.shape[:1], *[1] * (outputs.ndim - 2), -1)
        return torch.cat([outputs, evidence.expand(*outputs.shape[:-1], -1)], -1)

    def forward(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, L + 1, V) of each token and of the end, from the encoder's image features
        (N, F); see :meth:`hidden_states`."""
        logits: Tensor = self.logits(self.hidden_states(feature, tokens))
        return logits

    def start_blind(self) -> None:
        """Make the image embedding begin near zero, for a fixed CNN: what random weights make of
        the background, which is much the same on every photo, would never be unlearned and would
        show in the maps."""
        nn.init.normal_(self.embed_image.weight, std=1e-3)
        nn.init.zeros_(self.embed_image.bias)


def save_module(model: NeuralTalk, folder: Path, half: bool = False) -> None:
    """Write ``config.json`` and ``model.safetensors`` (float16 where ``half``) to a folder."""
    checkpoint.save_folder(model, model.config.to_json(), folder, half)


def load_module(path: Path) -> NeuralTalk:
    """Read a captioner from its folder (or either file in it), in float32 and eval mode.

    Raises ValueError naming the file that is missing, truncated, or of another architecture.
    """
    return checkpoint.load_folder(
        path, lambda data, _: NeuralTalk(Config.from_json(data)), f"{ARCHITECTURE} captioner"
    )


class NeuralTalkCaptioner(CnnAdapter, ReadsImageFirst):
    """Adapter of :class:`NeuralTalk`; see :class:`CnnAdapter`."""

    module: NeuralTalk

    def __init__(self, model: NeuralTalk, name: str, layer: str | None = None) -> None:
        super().__init__(model, name, layer)
        self.beams = model.config.beams

    def image_embedding(self, features: FeatureMaps) -> Tensor:
        return self.module.image_embedding(self.image_features(features))

    def states_at(
        self, features: FeatureMaps, prompts: Sequence[Prompt], tokens: Tensor, wanted: Tensor
    ) -> Tensor:
        feature = self.image_features(features)
        image = self.module.image_embedding(feature)
        outputs = self.read_at(image, features, prompts, tokens, wanted)
        text = wanted.nonzero()[:, 0]
        return self.module.with_image(outputs, (self.module.evidence(feature)[text],))

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        outputs = super().teacher_force(features, tokens)
        evidence = self.module.evidence(self.image_features(features))
        return self.module.with_image(outputs, (evidence,))

    def reader(self) -> Reader:
        return Reader(self.module.rnn, self.module.embed_word, END)

    def kept_bytes(self, features: FeatureMaps) -> int | None:
        """Few, where only a mean over the cells lies between the layer and the LSTM."""
        if any(True for _ in self._after.parameters()):
            return None
        of_step = _KEPT_BY_LSTM * self.module.rnn.hidden_size
        return (features.maps[0].numel() + _STEPS * of_step) * features.maps.element_size()

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self.module.logits(states))

    def words(self, text: str) -> list[TokenizedWord]:
        vocabulary = self.module.config.vocabulary
        return [
            TokenizedWord(word, tuple(vocabulary.tokens([word])), word not in vocabulary)
            for word in words_of(text)
        ]

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        return self.generate_all([features], beam)[0]

    def generate_all(
        self, images: Sequence[FeatureMaps], beam: int = 1
    ) -> list[list[TokenizedWord]]:
        """All captions advance together, one word per step."""
        maps = torch.cat([features.maps for features in images])
        return [self._words(caption) for caption in self.module.write(self._after(maps), beam)]

    def _words(self, caption: Caption) -> list[TokenizedWord]:
        words = self.module.config.vocabulary.text(caption.tokens)
        return [TokenizedWord(w, (t,)) for w, t in zip(words, caption.tokens, strict=True)]


def load(path: Path, layer: str | None = None) -> NeuralTalkCaptioner:
    """A captioner from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    folder = path if path.is_dir() else path.parent
    return NeuralTalkCaptioner(load_module(path), folder.name, layer)
