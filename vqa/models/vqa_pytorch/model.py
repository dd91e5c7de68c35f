"""Models of Cadene's vqa.pytorch (MLB and MUTAN, with attention or without) and their adapter.

A ResNet makes feature maps of the photo, a question encoder (:mod:`.skip_thoughts`) a vector of the
question; a fusion (:mod:`.fusion`) of both gives the answers. :mod:`.files` reads checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vlcam.adapters.adapter import FeatureMaps, OwnAttention, Prompt, Question
from vlcam.adapters.once_per_image import once_per_image
from vlcam.formats import checkpoint
from vlcam.formats.vocabulary import UNKNOWN
from vlcam.geometry.cells import derive
from vlcam.geometry.grid import Grid, Placement
from vlcam.networks.channels_last import run_channels_last
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.expected import described
from vqa.answering.answerer import Answerer
from vqa.models.vqa_pytorch import fusion
from vqa.models.vqa_pytorch.fusion import WithAttention, WithoutAttention
from vqa.models.vqa_pytorch.tokenizers import TOKENIZERS

ARCHITECTURE = "vqa-pytorch"
"""The name of these models in a ``config.json`` of ours."""

LAYERS = ("layer1", "layer2", "layer3", "layer4")
"""Layers that can be explained: the stages of the ResNet. The last is the default: its maps are
the features that the models were trained on."""

LONGEST = 26
"""Words of a question that the published models read."""

_FIRST = 4  # where the stages begin in the chain of a ResNet's layers
_STRIDE = 32  # pixels from one cell of a ResNet's last maps to the next


@dataclass(frozen=True)
class Config:
    """Everything but the weights and their sizes.

    Attributes:
        words: of questions; word i has token i + 1.
        answers: in the order of the logits.
        activations: see :data:`vqa.models.vqa_pytorch.fusion.PLACES`.
        tokenizer: how questions are split into words, one of
            :data:`vqa.models.vqa_pytorch.tokenizers.TOKENIZERS`.
        longest: words of a question that are read; the rest is cut off.
        pad_left: whether questions are filled up with padding on the left, not on the right.
        cnn: the network whose features the model was trained on; empty: not known.
        preprocess: from a photo to that network's input.
        assumed: options that no file gave, taken from the published models.
    """

    words: tuple[str, ...]
    answers: tuple[str, ...]
    activations: Mapping[str, str]
    preprocess: Preprocess
    tokenizer: str = "mcb"
    longest: int = LONGEST
    pad_left: bool = False
    cnn: str = ""
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what in ("words", "answers"):
            texts = getattr(self, what)
            if not texts or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"{what}: expected a list of texts, at least one")
            if len(set(texts)) != len(texts):
                raise ValueError(f"{what}: one occurs twice")
        if not isinstance(self.activations, Mapping):
            raise ValueError("activations: expected an object of names")
        for place, name in self.activations.items():
            if place not in fusion.PLACES or name not in fusion.ACTIVATIONS:
                known = ", ".join(fusion.ACTIVATIONS)
                raise ValueError(f"activation {name!r} of {place} is not known; known: {known}")
        if self.tokenizer not in TOKENIZERS:
            raise ValueError(f"tokenizer {self.tokenizer!r} is none of {', '.join(TOKENIZERS)}")
        if type(self.longest) is not int or self.longest < 1:
            raise ValueError(
                f"longest is {described(self.longest)}, expected a whole number, at least 1"
            )


class Model(nn.Module):
    """The CNN, where there is one, and what answers behind it.

    Raises:
        ValueError: the weights are for other numbers of words, answers or channels of the CNN.
    """

    def __init__(
        self,
        config: Config,
        answerer: WithAttention | WithoutAttention,
        cnn: tuple[nn.Sequential, int] | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.cnn: nn.Sequential | None
        self.cnn, channels = cnn or (None, answerer.channels)
        self.answerer = answerer
        for what, found, expected in (
            ("words", len(config.words), answerer.seq2vec.embedding.num_embeddings - 1),
            ("answers", len(config.answers), answerer.linear_classif.out_features),
            ("channels of the CNN", channels, answerer.channels),
        ):
            if found != expected:
                raise ValueError(f"{found} {what}, but weights for {expected}")


class VqaPyTorch(Answerer):
    """An MLB or MUTAN model.

    Args:
        model: its weights and configuration.
        name: as results carry it.
        folder: where the CNN's weights are expected, for errors.
        layer: one of :data:`LAYERS`; None: the last.

    Raises:
        ValueError: there is no such layer, or it needs a CNN that is not there.
    """

    module: Model

    def __init__(self, model: Model, *, name: str, folder: Path, layer: str | None = None) -> None:
        self.module, self.name, self._folder = model, name, folder
        self.config = model.config
        self.answers = model.config.answers
        self._tokens = {word: i for i, word in enumerate(self.config.words, 1)}
        self._preprocess = self.config.preprocess
        self._grids: dict[tuple[int, ...], Grid] = {}
        self.cut_at(layer)

    def cut_at(self, layer: str | None) -> None:
        self.layer = layer or LAYERS[-1]
        if self.layer not in LAYERS:
            known = ", ".join(LAYERS)
            raise ValueError(f"{self.name}: no layer {layer!r}; known: {known} (stages of the CNN)")
        self._cut = _FIRST + LAYERS.index(self.layer) + 1
        if self.layer != LAYERS[-1]:
            self._cnn()

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        self._cnn()
        return self._preprocess(photo)

    def resize(self, size: tuple[int, int]) -> None:
        """A larger input gives more cells."""
        self._preprocess = replace(self._preprocess, size=size, resize_to=None)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        return FeatureMaps(run_channels_last(self.encoder(), pixels))

    def encoder(self) -> nn.Module:
        """The CNN up to the layer."""
        return self._cnn()[: self._cut]

    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Logits (N, answers)."""
        vectors = self._encoded_questions(prompts)
        logits: Tensor = self.module.answerer(self._features(features), vectors)
        return logits

    def understand(self, question: str) -> Question:
        """The question; of one that is too long only the first words, as in the original.

        Raises:
            ValueError: it has no word, or words that the model cannot read.
        """
        words = TOKENIZERS[self.config.tokenizer](question)
        if not words:
            raise ValueError(f"the question {question!r} has no word")
        read = words[: self.config.longest]
        unknown = tuple(word for word in dict.fromkeys(read) if word not in self._tokens)
        if all(word in unknown for word in read):
            raise ValueError(f"{self.name} knows no word of the question: {', '.join(unknown)}")
        if unknown and UNKNOWN not in self._tokens:
            listed = ", ".join(unknown)
            raise ValueError(f"{self.name} has no {UNKNOWN} to read unknown words as: {listed}")
        stand_in = self._tokens.get(UNKNOWN, 0)
        tokens = tuple(self._tokens.get(word, stand_in) for word in read)
        # Words that are cut off are no part of what is explained.
        text = question if len(read) == len(words) else " ".join(read)
        return Question(text, self._padded(tokens, len(words)), unknown)

    def _padded(self, tokens: tuple[int, ...], words: int) -> tuple[int, ...]:
        """Tokens padded as in training, of a question of so many words."""
        if not self.config.pad_left:
            return tokens  # zeros behind them are never read
        longest = self.config.longest
        if words <= longest:
            return (0,) * (longest - words) + tokens
        # The original counts places back from the row's end for the words that do not fit, and
        # those before its start come around to the end.
        beyond = (words - longest) % longest
        return tokens[beyond:] + tokens[:beyond]

    def attention(
        self, features: FeatureMaps, prompt: Prompt, input_size: tuple[int, int]
    ) -> OwnAttention | None:
        """Each glimpse's attention to the cells of the CNN's last maps, shares that sum to 1."""
        answerer = self.module.answerer
        if not isinstance(answerer, WithAttention):
            return None
        vectors = self._encoded_questions([prompt])
        shares = answerer.attend(self._features(features), vectors)[0]
        names = tuple(f"glimpse {i}" for i in range(1, len(shares) + 1))
        return OwnAttention(names, shares, self._grid(input_size, _FIRST + len(LAYERS)))

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return self._grid(input_size, self._cut)

    def save(self, folder: Path) -> None:
        checkpoint.save_folder(self.module, checkpoint.to_json(self.config, ARCHITECTURE), folder)

    def describe(self) -> dict[str, Any]:
        answerer = self.module.answerer
        return {
            "family": ARCHITECTURE,
            "architecture": fusion.architecture_of(answerer.state_dict()),
            "question encoder": answerer.seq2vec.kind,
            "cnn": self.config.cnn,
            "preprocess": self._preprocess.to_json(),
            "assumed as published": list(self.config.assumed),
        }

    def _encoded_questions(self, prompts: Sequence[Any]) -> Tensor:
        """The questions' vectors (N, Q), one row per prompt."""
        # A question's vector does not depend on the photo: no graph, and each is encoded once.
        distinct = list(dict.fromkeys(prompts))
        with torch.no_grad():
            vectors = self.module.answerer.encode(distinct)
        return vectors[[distinct.index(prompt) for prompt in prompts]]

    def _features(self, features: FeatureMaps) -> Tensor:
        """The CNN's last maps (N, F, u, v), computed once per image."""
        if self.layer == LAYERS[-1]:
            return features.maps
        rest = self._cnn()[self._cut :]
        return once_per_image(lambda seen: rest(seen.maps), features)

    def _grid(self, input_size: tuple[int, int], cut: int) -> Grid:
        if self.module.cnn is None:  # features that are given: the grid of any ResNet
            size = (-(-input_size[0] // _STRIDE), -(-input_size[1] // _STRIDE))
            return Grid(size, (0.0, 0.0), (_STRIDE, _STRIDE))
        key = (*input_size, cut)
        if key not in self._grids:
            kind = self.module.answerer.linear_classif.weight.dtype
            pixels = torch.empty(1, 3, *input_size, dtype=kind)
            self._grids[key] = derive(self.module.cnn[:cut], pixels)
        return self._grids[key]

    def _cnn(self) -> nn.Sequential:
        if self.module.cnn is None:
            raise ValueError(
                f"{self._folder}: no CNN to see photos with; the weights of"
                f" {self.config.cnn or 'fbresnet152'} are missing, whose features the model was"
                " trained on (fbresnet152-2e20f6b4.pth of pretrained-models.pytorch, say; .pth or"
                " .safetensors)"
            )
        return self.module.cnn
