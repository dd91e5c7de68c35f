"""The model behind ruotianluo's FC captioners: a ResNet's mean feature, and an LSTM that writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlcam.formats import checkpoint
from vlcam.networks.resnet import resnet
from vlcam.utils.messages.expected import described

ARCHITECTURE = "neuraltalk2-pytorch"

KINDS = ("fc", "newfc", "show_tell")
"""Values of ``opt.caption_model`` that can be read."""

State = Any
"""The state of a recurrent network: a tensor (layers, N, R), or a tuple of them."""


@dataclass(frozen=True)
class Config:
    """Everything but the weights, whose shapes say the sizes.

    Attributes:
        name: of the model.
        kind: one of :data:`KINDS`.
        words: word i (from 0) has token i + 1; token 0 is start and end.
        longest: most words of a caption that the model writes.
        unknown_last: whether beam search forbids the last word of the vocabulary.
        finetuned: whether the CNN is the checkpoint's own, fed with 224 x 224 pixels.
        cell: of ``show_tell``, ``lstm`` or ``gru``.
    """

    name: str
    kind: str
    words: tuple[str, ...]
    longest: int
    unknown_last: bool
    finetuned: bool
    cell: str = "lstm"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {described(self.kind)}; known: {', '.join(KINDS)}")
        if not self.words or not all(isinstance(word, str) for word in self.words):
            raise ValueError("words must be a list of texts")
        if isinstance(self.longest, bool) or not isinstance(self.longest, int) or self.longest < 1:
            raise ValueError(
                f"longest is {described(self.longest)}, expected a whole number of at least 1"
            )

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)

    @classmethod
    def from_json(cls, data: Any) -> Config:
        """Inverse of :meth:`to_json`; ValueError for anything else."""
        return checkpoint.from_json(cls, data, ARCHITECTURE, "captioner")


class LanguageModel(nn.Module):
    """Image feature and words to log-probabilities; names of the weights as in the files."""

    def __init__(self, config: Config, state: Mapping[str, Tensor]) -> None:
        """Of the sizes of those weights, which are not loaded.

        Raises:
            ValueError: they are not of such a model, or of another number of words.
        """
        super().__init__()
        sizes = []
        for key in ("img_embed.weight", "embed.weight", "logit.weight"):
            if key not in state or state[key].ndim != 2:
                raise ValueError(f"no matrix {key}")
            sizes.append(tuple(state[key].shape))
        (_, feature), (words, width), (_, hidden) = sizes
        if words != len(config.words) + 1:
            raise ValueError(f"it has {words - 1} words, the vocabulary {len(config.words)}")
        self.img_embed = nn.Linear(feature, width)
        self.embed = nn.Embedding(words, width)
        self.core = _core(config, state, width=width, hidden=hidden)
        self.logit = nn.Linear(hidden, words)


def _core(config: Config, state: Mapping[str, Tensor], *, width: int, hidden: int) -> nn.Module:
    """The recurrent network of those sizes."""
    if config.kind != "show_tell":
        return MaxoutLSTM(width, hidden)  # of one layer, whatever num_layers says
    if config.cell not in ("lstm", "gru"):
        raise ValueError(f"rnn_type {config.cell} is neither LSTM nor GRU")
    layers = sum(key.startswith("core.weight_ih_l") for key in state)
    cell: type[nn.LSTM | nn.GRU] = {"lstm": nn.LSTM, "gru": nn.GRU}[config.cell]
    return cell(width, hidden, max(1, layers), bias=False)


class MaxoutLSTM(nn.Module):
    """An LSTM whose candidate is the larger of two linear maps, without tanh. Called as nn.LSTM."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.i2h = nn.Linear(width, 5 * hidden)
        self.h2h = nn.Linear(hidden, 5 * hidden)

    def forward(self, inputs: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Inputs (L, N, E) and (h, c), each (1, N, R), to outputs (L, N, R) and the new (h, c)."""
        of_inputs = self.i2h(inputs)
        if state is None:
            zero = of_inputs.new_zeros(inputs.shape[1], self.h2h.in_features)
            state = (zero[None], zero[None])
        h, c = state[0][0], state[1][0]
        outputs = []
        for of_input in of_inputs:
            *gates, one, other = (of_input + self.h2h(h)).chunk(5, 1)
            write, forget, show = (gate.sigmoid() for gate in gates)
            c = forget * c + write * torch.maximum(one, other)
            h = show * c.tanh()
            outputs.append(h)
        return torch.stack(outputs), (h[None], c[None])


class FcModel(nn.Module):
    """From an image feature to captions; ``cnn``, where there is one, computes the feature: the
    mean of its last maps."""

    def __init__(
        self, config: Config, language: LanguageModel, cnn: nn.Sequential | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.cnn = cnn  # first, as modules are in the order they run
        self.language = language


def load_module(path: Path) -> FcModel:
    """Read a model from its folder (``config.json``, ``model.safetensors``) or a file in it.

    Raises:
        ValueError: naming the file that is missing, truncated, or of another architecture.
    """
    return checkpoint.load_folder(path, _build, f"{ARCHITECTURE} captioner")


def _build(data: Any, state: Mapping[str, Tensor]) -> FcModel:
    config = Config.from_json(data)
    language, cnn = (
        {k.removeprefix(own): v for k, v in state.items() if k.startswith(own)}
        for own in ("language.", "cnn.")
    )
    trunk = resnet(cnn, "caffe", "not the weights of a ResNet")[0] if cnn else None
    return FcModel(config, LanguageModel(config, language), trunk)
