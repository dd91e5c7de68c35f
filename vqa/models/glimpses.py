"""Answers as sums over glimpses: for questions that ask where and how many.

As in the deeper LSTM question + normalised image model, question and image meet in products, but at
every region of the image, and what they find is *added up* over the regions. Models whose attention
is a softmax (:mod:`vqa.models.coattention.model`) take a mean of the regions instead, and a mean
cannot count (Zhang et al., ICLR 2018)::

    regions x_r >= 0                       cells of the CNN's last rectified feature maps
    concepts c_r = relu(C x_r)
    evidence e_r = relu(E c_r)
    glimpse  m_gr = relu(Q_g(q) . c_r) sigmoid(P_g(q) . place_r)       how much glimpse g is there
    logits   y = W (gate(q) * log(1 + 10 mean_r m_gr e_r)) + prior(q)

No layer that reads the image has a bias: what the CNN does not show (x_r = 0) adds nothing to the
prior, which only reads the question. Between the products m_gr e_r, the last feature maps, and the
logits lies nothing but their mean and a function of it (see :class:`GlimpsesAnswerer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.formats import checkpoint
from vlcam.networks.encoder import RegionEncoder
from vqa.answering.cnn_answerer import CnnAnswerer, folder_name
from vqa.answering.question import QuestionConfig, padded

ARCHITECTURE = "glimpses"
LAYER = "glimpses"
"""The layer of the products m_gr e_r."""

_PLACE = 5  # numbers that say where a region is


@dataclass(frozen=True)
class Config(QuestionConfig):
    """Everything but the weights.

    Attributes:
        regions: the CNN's layer whose cells are the image's regions; None: the last feature maps.
        embedding: size of the word embedding.
        hidden: size of the LSTM, and the number of concepts.
        common: how many kinds of evidence there are.
        glimpses: how many there are.
    """

    architecture = ARCHITECTURE

    regions: str | None = None
    embedding: int = 128
    hidden: int = 256
    common: int = 256
    glimpses: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_sizes("embedding", "hidden", "common", "glimpses")


class ChannelScale(nn.Module):
    """Feature maps (N, K, R) divided by each channel's root mean square: batch normalisation that
    leaves zeros where they are. Trained like it, by batches, with a running mean of the squares."""

    square: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("square", torch.ones(channels))

    def forward(self, maps: Tensor) -> Tensor:
        square = self.square
        if self.training:
            square = maps.detach().square().mean((0, 2))
            self.square.lerp_(square, self.momentum)
        # A channel that is hardly ever active is not blown up.
        return maps / (square + 1e-3 * square.mean() + 1e-12).sqrt()[:, None]

    @torch.no_grad()
    def measure(self, maps: Tensor) -> None:
        """Scale by the maps (N, K, R) of a fixed CNN."""
        self.square.copy_(torch.stack([part.float().square().mean(1) for part in maps]).mean(0))


class Glimpses(nn.Module):
    """The model. C concepts, J kinds of evidence, G glimpses, R regions, A answers."""

    encoder: Any  # a RegionEncoder, or whatever has its layer, split, regions and feature_size

    def __init__(self, config: Config, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        hidden, glimpses, kinds = config.hidden, config.glimpses, config.common
        self.encoder = encoder or RegionEncoder(config.cnn, config.preprocess.size, config.regions)
        channels, answers = self.encoder.regions.shape[0], len(config.answers)
        self.standardise = ChannelScale(channels)
        self.concepts = nn.Linear(channels, hidden, bias=False)
        self.evidence = nn.Linear(hidden, kinds, bias=False)
        self.embed_word = nn.Embedding(len(config.vocabulary), config.embedding, padding_idx=0)
        self.rnn = nn.LSTM(config.embedding, hidden, batch_first=True)
        self.match = nn.Linear(hidden, glimpses * hidden)
        self.place = nn.Linear(hidden, glimpses * _PLACE)
        self.gate = nn.Linear(hidden, glimpses * kinds)
        self.answer = nn.Linear(glimpses * kinds, answers, bias=False)
        self.prior = nn.Linear(hidden, answers)
        self.dropout = nn.Dropout(config.dropout)
        for layer in (self.concepts, self.evidence):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(self.gate.weight)
        nn.init.ones_(self.gate.bias)

    def measure_features(self, feature: Tensor) -> None:
        """Standardise by the features (P, F) of a fixed CNN."""
        self.standardise.measure(self._maps(feature))

    def _maps(self, feature: Tensor) -> Tensor:
        """Image features (N, F) as (N, K, R)."""
        return feature.unflatten(1, (self.encoder.regions.shape[0], -1))

    def grid(self, regions: int) -> tuple[int, int]:
        """(u, v) of so many regions: those of an input of the usual size, or all the same multiple
        of it."""
        _, u, v = self.encoder.regions.shape
        times = (regions / (u * v)) ** 0.5
        return round(u * times), round(v * times)

    def encode_question(self, questions: Sequence[Sequence[int]]) -> Tensor:
        """Encodings (N, H) of N questions, each of at least one token: the LSTM's last output."""
        tokens, lengths = padded(questions, self.embed_word.weight.device)
        words = self.dropout(self.embed_word(tokens))
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        return self.dropout(self.rnn(packed)[1][0][0])

    def forward(self, feature: Tensor, question: Tensor, photo: Tensor | None = None) -> Tensor:
        """Logits (N, A) from image features (N, F) and question encodings (N, H).

        Args:
            photo: (N,), the row of ``feature`` (P, F) that each question is about, where photos are
                asked several questions.
        """
        glimpses, evidence = self.attend(feature, question, photo)
        mean = torch.bmm(glimpses, evidence).flatten(1) / evidence.shape[1]
        return self.conclude(mean, question)

    def attend(
        self, feature: Tensor, question: Tensor, photo: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Glimpses (N, G, R) and evidence (N, R, J); arguments as of :meth:`forward`."""
        maps = self.standardise(self._maps(feature))
        concepts = self.dropout(self.concepts(maps.transpose(1, 2)).relu())
        evidence = self.evidence(concepts).relu()
        place = _places(self.grid(concepts.shape[1]), concepts)
        if photo is not None:
            concepts, evidence = concepts[photo], evidence[photo]
        match = self.match(question).unflatten(1, (self.config.glimpses, -1))
        found = torch.bmm(match, concepts.transpose(1, 2)) / concepts.shape[2] ** 0.5
        inside = self.place(question).unflatten(1, (self.config.glimpses, -1)) @ place.T
        return found.relu() * inside.sigmoid(), evidence

    def conclude(self, mean: Tensor, question: Tensor) -> Tensor:
        """Logits (N, A) from each glimpse's mean evidence (N, G J)."""
        # Logarithms, because a thing twice as large is not twice as likely to be there.
        logits: Tensor = self.answer(self.dropout(self.gate(question) * (10 * mean).log1p()))
        return logits + self.prior(question)


def _places(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Where each of u x v regions is, (R, 5): 3x, 3y, their squares about the middle, and 1, x and
    y going from -1 to 1. Linear functions of these tell sides from each other and from the middle.
    """
    u, v = shape
    y, x = (torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) for n in (u, v))
    x, y = x.expand(u, v).flatten(), y[:, None].expand(u, v).flatten()
    return 3 * torch.stack([x, y, 2 * x * x - 1, 2 * y * y - 1, torch.ones_like(x)], 1)


class GlimpsesAnswerer(CnnAnswerer):
    """Explained at its last feature maps: each glimpse's share of each kind of evidence, region by
    region (G J channels). They come right before the model's only pooling, so that Grad-CAM is CAM
    (section 3.1 of the paper), and they depend on the question. The CNN runs once per photo."""

    module: Glimpses
    encode_reads_prompt = True

    def __init__(self, model: Glimpses, name: str) -> None:
        super().__init__(model, name, model.encoder.regions.name)
        self.layer = LAYER

    def at_layer(self, layer: str) -> CnnAnswerer:
        return answerer(self.module, self.name, layer)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        assert prompts is not None
        return self.encode_prompt(self.encode_photo(pixels), prompts)

    def encode_photo(self, pixels: Tensor) -> FeatureMaps:
        """The CNN's feature maps, which do not depend on the question."""
        return super().encode(pixels)

    def encode_prompt(self, photo: FeatureMaps, prompts: Sequence[Prompt]) -> FeatureMaps:
        """The products (N, G J, u, v) of glimpses and evidence."""
        questions = self.encoded_questions(prompts)
        glimpses, evidence = self.module.attend(photo.maps.flatten(1), questions)
        products = glimpses[:, :, None] * evidence.transpose(1, 2)[:, None]
        grid = self.module.grid(products.shape[3])
        return FeatureMaps(products.flatten(1, 2).unflatten(2, grid))

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, answers)."""
        return self.module.conclude(features.maps.mean((2, 3)), self.encoded_questions(prompts))


class SeenAnswerer(CnnAnswerer):
    """A model of glimpses, explained at a layer of its CNN."""

    module: Glimpses

    def at_layer(self, layer: str) -> CnnAnswerer:
        return answerer(self.module, self.name, layer)


def answerer(model: Glimpses, name: str, layer: str | None = None) -> CnnAnswerer:
    """An adapter at ``glimpses`` (the default) or a layer of the CNN; ValueError for others."""
    if layer in (None, LAYER):
        return GlimpsesAnswerer(model, name)
    return SeenAnswerer(model, name, layer)


def load(path: Path, layer: str | None = None) -> CnnAnswerer:
    """A model of glimpses from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Args:
        layer: ``glimpses`` (the default), or one of the CNN.

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    return answerer(load_module(path), folder_name(path), layer)


def load_module(path: Path) -> Glimpses:
    """A model from its folder (or either file in it), in float32 and eval mode.

    Raises:
        ValueError: a file is missing, truncated or of another architecture; it is named.
    """
    return checkpoint.load_folder(
        path, lambda data, _: Glimpses(Config.from_json(data)), f"{ARCHITECTURE} VQA model"
    )
