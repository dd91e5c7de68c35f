"""Hierarchical question-image co-attention (Lu et al., NIPS 2016; section 8.2 of the paper).

A question is read as words, as phrases and as a whole. At each of these levels the model attends to
the image's regions (the cells of a CNN's feature maps) and to the question's words together, and
what it attended to is combined from the words up to the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vlcam.adapters.adapter import FeatureMaps, OwnAttention, Prompt
from vlcam.formats import checkpoint
from vlcam.formats.state_dict import CNN_PREFIX
from vlcam.networks.cutting import Layer
from vlcam.networks.encoder import RegionEncoder
from vlcam.networks.torch7_network import TORCH7
from vlcam.networks.torch7_network import trunk as torch7_trunk
from vlcam.networks.trunk import GivenMaps
from vlcam.networks.vgg import CAFFE, vgg_trunk
from vlcam.utils.messages.expected import described
from vqa.answering.cnn_answerer import CnnAnswerer, folder_name
from vqa.answering.question import QuestionConfig, padded

Attention = Literal["alternating", "parallel"]

ARCHITECTURE = "coattention"
NO_CNN = "none"
"""The name, in configurations, of the CNN of a model that comes without."""
VGG_REGIONS = "pool5"
"""The name of the feature maps of such a model that was trained on VGG's."""
STRIDE = 32  # pixels from one cell of such a model's feature maps to the next
LEVELS = ("word", "phrase", "question")


@dataclass(frozen=True)
class Config(QuestionConfig):
    """Everything but the weights.

    Attributes:
        regions: the CNN's layer whose cells are the image's regions; None: the last feature maps.
            With ``cnn`` :data:`NO_CNN`: a name for the feature maps.
        network: the CNN's layers (:mod:`vlcam.networks.described_network`), with ``cnn``
            ``torch7``.
        hidden: size of everything but the last step of the fusion, which has ``common``.
        attention: ``alternating``: from the question to the image and back; ``parallel``: both at
            once, by the affinity of every word and region.
        filled: whether each question is padded to ``max_words``, and what the convolutions make of
            the padding has an affinity to regions too (in the parallel attention; nowhere else does
            it matter). So it is in the original.
    """

    architecture = ARCHITECTURE

    regions: str | None = None
    network: tuple[dict[str, Any], ...] = ()
    hidden: int = 512
    layers: int = 2
    common: int = 1024
    attention: Attention = "alternating"
    filled: bool = False

    @property
    def assumed(self) -> tuple[str, ...]:
        """No published checkpoint says how photos are prepared; ours do."""
        return ("preprocess",) if self.cnn in (CAFFE, TORCH7, NO_CNN) else ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_sizes("hidden", "layers", "common")
        if self.attention not in get_args(Attention):
            known = " or ".join(get_args(Attention))
            raise ValueError(f"attention is {described(self.attention)}, expected {known}")
        if not isinstance(self.filled, bool):
            raise ValueError(f"filled is {described(self.filled)}, expected true or false")


@dataclass(frozen=True)
class Attended:
    """What a level made of a question's words and an image's regions, and its attention.

    Attributes:
        question, image: (N, H).
        words: attention to the question's words (N, L), regions: to the image's regions (N, R);
            each row sums to 1.
    """

    question: Tensor
    image: Tensor
    words: Tensor
    regions: Tensor


class Alternating(nn.Module):
    """A summary of the question attends to the image, then what was found there to the question."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.summary, self.summary_score = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.question_to_image = nn.Linear(hidden, hidden)
        self.image, self.image_score = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.image_to_question = nn.Linear(hidden, hidden)
        self.question, self.question_score = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor, regions: Tensor, mask: Tensor) -> Attended:
        """Words (N, L, H), regions (N, R, H), mask (N, L): true at words."""
        drop = self.dropout
        scores = self.summary_score(drop(self.summary(words).tanh()))
        summary = _mean(words, _shares(scores, mask))
        guide = self.question_to_image(summary)[:, None]
        to_regions = _shares(self.image_score(drop((self.image(regions) + guide).tanh())))
        image = _mean(regions, to_regions)
        guide = self.image_to_question(image)[:, None]
        to_words = _shares(self.question_score(drop((self.question(words) + guide).tanh())), mask)
        return Attended(_mean(words, to_words), image, words=to_words, regions=to_regions)


class Parallel(nn.Module):
    """Words attend to regions and regions to words, by their affinity.

    Args:
        filled: whether a question's padding has an affinity to regions too.
    """

    def __init__(self, hidden: int, dropout: float, filled: bool = False) -> None:
        super().__init__()
        self.filled = filled
        self.affinity = nn.Linear(hidden, hidden)
        self.image, self.image_score = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.question, self.question_score = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor, regions: Tensor, mask: Tensor) -> Attended:
        """Words (N, L, H), regions (N, R, H), mask (N, L): true at words."""
        drop = self.dropout
        affinity = torch.bmm(words, self.affinity(regions).transpose(1, 2)).tanh()
        if not self.filled:  # a question's padding is no word
            affinity = affinity * mask[:, :, None]
        image, question = self.image(regions), self.question(words)
        about_image = (image + torch.bmm(affinity.transpose(1, 2), question)).tanh()
        about_words = (question + torch.bmm(affinity, image)).tanh()
        to_regions = _shares(self.image_score(drop(about_image)))
        to_words = _shares(self.question_score(drop(about_words)), mask)
        question = _mean(words, to_words)
        image = _mean(regions, to_regions)
        return Attended(question, image, words=to_words, regions=to_regions)


def _shares(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax of scores (N, L, 1) over the second axis, 0 where the mask is false: (N, L)."""
    scores = scores.squeeze(2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(1)


def _mean(values: Tensor, shares: Tensor) -> Tensor:
    """The mean (N, H) of values (N, L, H), weighted by shares (N, L)."""
    return torch.bmm(shares[:, None], values).squeeze(1)


def _attention(config: Config) -> nn.Module:
    """A level's attention."""
    if config.attention == "alternating":
        return Alternating(config.hidden, config.dropout)
    return Parallel(config.hidden, config.dropout, config.filled)


class Levels(nn.Module):
    """A model that attends to an image's regions at several levels of the question.

    Attributes:
        encoder: the CNN; its ``regions`` are its last layer, whose cells are attended to.
    """

    encoder: Any

    def attention_by_level(self, feature: Tensor, tokens: Tensor) -> dict[str, Attended]:
        """What each level attends to, of image features (N, F) and encoded questions (N, L)."""
        raise NotImplementedError


class CoAttention(Levels):
    """The model. H is ``hidden``, R the number of regions, V the vocabulary's size."""

    encoder: Any  # a RegionEncoder, or whatever has its layer, split, regions and feature_size

    def __init__(self, config: Config, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        size, dropout = config.hidden, config.dropout
        self.encoder = encoder or RegionEncoder(config.cnn, config.preprocess.size, config.regions)
        self.standardise = nn.Identity()  # regions are taken as they are
        self.image = nn.Linear(self.encoder.regions.shape[0], size)
        self.embed_word = nn.Embedding(len(config.vocabulary), size, padding_idx=0)
        self.unigram = nn.Conv1d(size, size, 1)
        self.bigram = nn.Conv1d(size, size, 2, padding=1)  # of a word and the one before it
        self.trigram = nn.Conv1d(size, size, 3, padding=1)
        inner = dropout if config.layers > 1 else 0.0
        self.rnn = nn.LSTM(size, size, config.layers, batch_first=True, dropout=inner)
        self.attend = nn.ModuleDict({level: _attention(config) for level in LEVELS})
        self.fuse = nn.ModuleDict(
            {
                "word": nn.Linear(size, size),
                "phrase": nn.Linear(2 * size, size),
                "question": nn.Linear(2 * size, config.common),
            }
        )
        self.answer = nn.Linear(config.common, len(config.answers))
        self.dropout = nn.Dropout(dropout)

    def measure_features(self, feature: Tensor) -> None:
        """Nothing of a fixed CNN's features needs to be measured."""

    def encode_question(self, questions: Sequence[Sequence[int]]) -> Tensor:
        """Tokens (N, L) of N questions, each of at least one word, filled up with 0: their further
        encoding depends on the image too."""
        tokens = padded(questions, self.embed_word.weight.device)[0]
        if not self.config.filled:
            return tokens
        return functional.pad(tokens, (0, self.config.max_words - tokens.shape[1]))

    def read_question(self, tokens: Tensor) -> dict[str, Tensor]:
        """Tokens (N, L) to their features at each level, (N, L, H); 0 behind a question's end
        (except for phrases where questions are ``filled``)."""
        mask = (tokens != 0)[:, :, None]
        word = self.dropout(self.embed_word(tokens).tanh()) * mask
        across, length = word.transpose(1, 2), tokens.shape[1]
        grams = (self.unigram(across), self.bigram(across)[:, :, :length], self.trigram(across))
        phrase = torch.stack(grams).amax(0).tanh().transpose(1, 2)
        phrase = self.dropout(phrase)
        if not self.config.filled:
            phrase = phrase * mask
        lengths = mask.sum((1, 2)).cpu()
        packed = pack_padded_sequence(phrase, lengths, batch_first=True, enforce_sorted=False)
        whole, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=length)
        return {"word": word, "phrase": phrase, "question": whole}

    def attention_by_level(
        self, feature: Tensor, tokens: Tensor, photo: Tensor | None = None
    ) -> dict[str, Attended]:
        """What each level attends to, of image features (N, F) and tokens (N, L); ``photo`` as in
        :meth:`forward`."""
        channels = self.encoder.regions.shape[0]
        cells = self.standardise(feature).unflatten(1, (channels, -1)).transpose(1, 2)
        regions = self.dropout(self.image(cells).tanh())
        if photo is not None:
            regions = regions[photo]
        mask = tokens != 0
        read = self.read_question(tokens)
        return {level: self.attend[level](read[level], regions, mask) for level in LEVELS}

    def forward(self, feature: Tensor, tokens: Tensor, photo: Tensor | None = None) -> Tensor:
        """Logits (N, answers) from image features (N, F) and questions' tokens (N, L).

        Args:
            photo: (N,), the row of ``feature`` (P, F) that each question is about, where photos are
                asked several questions.
        """
        below: Tensor | None = None
        for level, attended in self.attention_by_level(feature, tokens, photo).items():
            summed = attended.question + attended.image
            joined = summed if below is None else torch.cat([summed, below], 1)
            below = self.fuse[level](self.dropout(joined)).tanh()
        assert below is not None
        logits: Tensor = self.answer(self.dropout(below))
        return logits


class CoAttentionAnswerer(CnnAnswerer):
    """Adapter of :class:`Levels`, whose own attention can be shown beside the maps."""

    module: Levels

    def attention(
        self, features: FeatureMaps, prompt: Prompt, input_size: tuple[int, int]
    ) -> OwnAttention:
        """Each level's attention to the regions, shares that sum to 1."""
        regions = self.module.encoder.regions
        attended = self.module.attention_by_level(
            self.image_features(features), self.encoded_questions([prompt])
        )
        maps = torch.cat([level.regions for level in attended.values()])
        before, _ = self.module.encoder.split(regions.name)
        grid = self._grid_behind(before, input_size)
        return OwnAttention(tuple(attended), maps.unflatten(1, grid.size), grid)


def load(path: Path, layer: str | None = None) -> CoAttentionAnswerer:
    """A VQA model from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Args:
        layer: of the CNN; None: its default (:attr:`RegionEncoder.default_layer`).

    Raises:
        ValueError: a file is missing, damaged or of another architecture.
    """
    return CoAttentionAnswerer(load_module(path), folder_name(path), layer)


def load_module(path: Path) -> CoAttention:
    """A model from its folder (or either file in it), in float32 and eval mode.

    Raises:
        ValueError: a file is missing, truncated or of another architecture; it is named.
    """
    return checkpoint.load_folder(path, _build, f"{ARCHITECTURE} VQA model")


def _build(data: Any, state: dict[str, Tensor]) -> CoAttention:
    config = Config.from_json(data)
    own = {k.removeprefix(CNN_PREFIX): v for k, v in state.items() if k.startswith(CNN_PREFIX)}
    if config.cnn == CAFFE:
        return CoAttention(config, vgg_trunk(own, config.preprocess.size))
    if config.cnn == TORCH7:
        return CoAttention(config, torch7_trunk(config.network, config.preprocess.size))
    if config.cnn == NO_CNN:
        weight = state.get("image.weight")
        if weight is None or weight.ndim != 2:
            raise ValueError("no matrix image.weight")
        missing = "it was trained on features, and its checkpoint came without the CNN"
        return CoAttention(config, given_maps(config, weight.shape[1], missing))
    return CoAttention(config)


def given_maps(config: Config, channels: int, missing: str) -> GivenMaps:
    """In place of the CNN of a model that comes without; ``missing`` says what is missing."""
    rows, columns = (side // STRIDE for side in config.preprocess.size)
    layer = Layer(config.regions or "features", (channels, rows, columns))
    # VGG's cells are centred in their part of the input; a ResNet's begin at its first pixel.
    first = (STRIDE - 1) / 2 if layer.name == VGG_REGIONS else 0.0
    return GivenMaps(layer, missing, first=first, stride=STRIDE)
