"""The deeper LSTM question + normalised image model (Lu et al., 2015; section 8.2 of the paper).

CNN -> L2-normalised image feature; two-layer LSTM -> its last states as question encoding; both
projected and multiplied -> answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from vlcam.formats import checkpoint
from vlcam.networks.encoder import Encoder
from vlcam.networks.vgg import CAFFE, CaffeVgg
from vlcam.utils.messages.expected import described
from vqa.answering.cnn_answerer import CnnAnswerer, folder_name
from vqa.answering.question import QuestionConfig, padded

ARCHITECTURE = "lstm-cnn"


@dataclass(frozen=True)
class Config(QuestionConfig):
    """Everything but the weights.

    Attributes:
        embedding, hidden, layers: sizes of the word embedding and of the LSTM.
        common: size of the space in which question and image are multiplied.
        standardise: whether the normalised image feature is brought to mean 0 and variance 1, as
            measured in training. The features of all photos are nearly the same (the mean of a
            rectified map has much the same value on every photo), and a model that starts from
            them learns to answer without the photo. The original does not do it.
    """

    architecture = ARCHITECTURE

    embedding: int = 200
    hidden: int = 512
    layers: int = 2
    common: int = 1024
    standardise: bool = True

    @property
    def assumed(self) -> tuple[str, ...]:
        """No published checkpoint says how photos are prepared; ours do."""
        return ("preprocess",) if self.cnn == CAFFE else ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_sizes("embedding", "hidden", "layers", "common")
        if not isinstance(self.standardise, bool):
            raise ValueError(
                f"standardise is {described(self.standardise)}, expected true or false"
            )


class LstmCnn(nn.Module):
    """The model. V question words, E the embedding's size, H the LSTM's, C the common space's."""

    encoder: Any  # an Encoder, or whatever has its layer, split and feature_size

    def __init__(self, config: Config, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder or Encoder(config.cnn, config.preprocess.size)
        # A linear layer on one-hot words, bias included, is an embedding (token 0: padding).
        self.embed_word = nn.Embedding(len(config.vocabulary), config.embedding, padding_idx=0)
        self.rnn = nn.LSTM(
            config.embedding,
            config.hidden,
            config.layers,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.question = nn.Linear(2 * config.layers * config.hidden, config.common)
        features = self.encoder.feature_size
        self.standardise = (
            nn.BatchNorm1d(features, affine=False) if config.standardise else nn.Identity()
        )
        self.image = nn.Linear(features, config.common)
        self.answer = nn.Linear(config.common, len(config.answers))
        self.dropout = nn.Dropout(config.dropout)

    @torch.no_grad()
    def measure_features(self, feature: Tensor) -> None:
        """Standardise by the features (P, F) of a fixed CNN."""
        if isinstance(self.standardise, nn.BatchNorm1d):
            normalised = functional.normalize(feature, dim=1)
            scale = self.standardise
            assert scale.running_mean is not None and scale.running_var is not None
            scale.running_mean.copy_(normalised.mean(0))
            # A unit that is hardly ever active is not blown up.
            scale.running_var.copy_((normalised.std(0) + 1e-3 * normalised.std()).square())

    def encode_question(self, questions: Sequence[Sequence[int]]) -> Tensor:
        """Encodings (N, 2 * layers * H) of N questions, each a sequence of at least one token: per
        layer the LSTM's last cell, then its last output (zero states before the first word)."""
        tokens, lengths = padded(questions, self.embed_word.weight.device)
        words = self.dropout(self.embed_word(tokens)).tanh()
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        hidden, cell = self.rnn(packed)[1]
        return torch.stack([cell, hidden], 1).flatten(0, 1).transpose(0, 1).flatten(1)

    def forward(self, feature: Tensor, question: Tensor, photo: Tensor | None = None) -> Tensor:
        """Logits (N, answers) from image features (N, F) and encodings (N, ...) of questions.

        Args:
            photo: (N,), the row of ``feature`` (P, F) that each question is about, where photos are
                asked several questions.
        """
        normalised = self.standardise(functional.normalize(feature, dim=1))
        image = self.image(self.dropout(normalised)).tanh()
        if photo is not None:
            image = image[photo]
        projected = self.question(self.dropout(question)).tanh()
        logits: Tensor = self.answer(self.dropout(projected * image))
        return logits


def load(path: Path, layer: str | None = None) -> CnnAnswerer:
    """A VQA model from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Args:
        layer: of the CNN; None: its default (:attr:`Encoder.default_layer`).

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    return CnnAnswerer(load_module(path), folder_name(path), layer)


def load_module(path: Path) -> LstmCnn:
    """A model from its folder (or either file in it), in float32 and eval mode.

    Raises:
        ValueError: a file is missing, truncated or of another architecture; it is named.
    """
    return checkpoint.load_folder(path, _build, f"{ARCHITECTURE} VQA model")


def _build(data: Any, state: dict[str, Tensor]) -> LstmCnn:
    config = Config.from_json(data)
    if config.cnn != CAFFE:
        return LstmCnn(config)
    own = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    return LstmCnn(config, CaffeVgg(own))
