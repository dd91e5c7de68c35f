"""Checkpoints of SkyOL5's VQA-CoAttention, a PyTorch port of co-attention (Lu et al., NIPS 2016).

It is a simpler network than the original: one parallel attention that its three levels share, the
affinity without a tanh, the last feature maps of ResNet-18 as they are. A checkpoint is a
``.pth.tar`` file with the weights, and ``q2i.pkl`` and ``i2a.pkl`` (words and answers) beside it.
The CNN is torchvision's ResNet-18, untouched: put its weights (``resnet18*.pth``) into the folder
to explain photos; without, only feature maps can be explained.

The original pads a question to the longest one of its batch, and the padding takes part in the
attention; here each question is read as in a batch of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vlcam.formats import checkpoint
from vlcam.formats.restricted_pickle import read_pickle
from vlcam.formats.state_dict import CNN_PREFIX, load_exactly, matrix
from vlcam.formats.torch_pickle import mentions, read_checkpoint
from vlcam.models import of_architecture
from vlcam.networks.cutting import Layer
from vlcam.networks.resnet import read_resnet, resnet
from vlcam.networks.trunk import GivenMaps, Trunk
from vlcam.photo.preprocess import Preprocess
from vqa.answering.cnn_answerer import folder_name
from vqa.answering.question import padded
from vqa.models.coattention.model import LEVELS, Attended, CoAttentionAnswerer, Levels
from vqa.models.published import ListedConfig, checkpoints, the_checkpoint

ARCHITECTURE = "coattention-pytorch"

START, END = "<sos>", "<eos>"
SIZE = (448, 448)  # of the input, in pixels
STRIDE = 32  # pixels from one region to the next

_NAMES = ("unigram_conv.weight", "W_b", "w_hq", "W_s.weight")
_CNN_SUFFIXES = (".safetensors", ".pth", ".pt")
_QUESTIONS, _ANSWERS, _NUMBERS = "q2i.pkl", "i2a.pkl", "a2i.pkl"
_MISSING = "the weights of torchvision's ResNet-18 (resnet18*.pth) are not beside the checkpoint"


@dataclass(frozen=True)
class Config(ListedConfig):
    """Everything but the weights. ``<sos>`` and ``<eos>`` stand around a question; words that are
    not in the vocabulary are left out."""

    architecture = ARCHITECTURE
    cnn = "resnet18"
    special = (START, END)
    assumed = ("preprocess",)  # no checkpoint says how photos are prepared

    preprocess: Preprocess = field(
        default_factory=lambda: Preprocess(SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    )

    def words(self, question: str) -> list[str]:
        """What lies between single spaces, lower case, without the question mark at the end."""
        words = question.removesuffix("?").lower().split(" ")
        return [word for word in words if word or word in self.numbers]

    def tokens(self, question: str) -> list[int]:
        words = (START, *self.words(question), END)
        return [self.numbers[word] for word in words if word in self.numbers]


class CoAttentionPyTorch(Levels):
    """The model, its parts under the original's names. D is the size of everything, R the number of
    regions, K that of the attention's hidden units.

    Args:
        state: its weights, whose shapes give its sizes.
        encoder: the CNN, or what stands in its place.

    Raises:
        ValueError: they are not the weights of such a model.
    """

    def __init__(
        self, config: Config, state: dict[str, Tensor], encoder: Trunk | GivenMaps
    ) -> None:
        super().__init__()
        self.config, self.encoder = config, encoder
        words, size = matrix(state, "embed.weight")
        answers, _ = matrix(state, "fc.weight")
        hidden, _ = matrix(state, "W_v")
        layers = sum(key.startswith("lstm.weight_hh_l") for key in state)
        if len(config.vocabulary) > words:
            raise ValueError(
                f"the model has {words} words, the vocabulary {len(config.vocabulary)}"
            )
        if len(config.answers) != answers:
            raise ValueError(f"the model has {answers} answers, {len(config.answers)} are named")
        if encoder.regions.shape[0] != size:
            raise ValueError(
                f"the CNN makes maps of {encoder.regions.shape[0]} channels, the model takes {size}"
            )
        self.embed = nn.Embedding(words, size)
        self.unigram_conv = nn.Conv1d(size, size, 1)
        self.bigram_conv = nn.Conv1d(size, size, 2, padding=1, dilation=2)  # the neighbours
        self.trigram_conv = nn.Conv1d(size, size, 3, padding=2, dilation=2)
        self.lstm = nn.LSTM(size, size, max(1, layers), batch_first=True)
        self.W_b = nn.Parameter(torch.empty(size, size))
        self.W_v, self.W_q = (nn.Parameter(torch.empty(hidden, size)) for _ in range(2))
        self.w_hv, self.w_hq = (nn.Parameter(torch.empty(hidden, 1)) for _ in range(2))
        self.W_w, self.W_p = nn.Linear(size, size), nn.Linear(2 * size, size)
        self.W_s, self.fc = nn.Linear(2 * size, size), nn.Linear(size, answers)

    def encode_question(self, questions: Sequence[Sequence[int]]) -> Tensor:
        """Tokens (N, L) of N questions, from 1: 0 is behind a question's end."""
        counted = [[token + 1 for token in question] for question in questions]
        return padded(counted, self.W_b.device)[0]

    def read_question(self, tokens: Tensor) -> dict[str, Tensor]:
        """Tokens (N, L) to their features at each level, (N, L, D); 0 behind a question's end."""
        mask = (tokens > 0)[:, :, None]
        word = self.embed((tokens - 1).clamp(min=0)) * mask
        across = word.transpose(1, 2)
        grams = [
            conv(across).tanh() for conv in (self.unigram_conv, self.bigram_conv, self.trigram_conv)
        ]
        phrase = torch.stack(grams).amax(0).transpose(1, 2) * mask
        lengths, length = mask.sum((1, 2)).cpu(), tokens.shape[1]
        packed = pack_padded_sequence(phrase, lengths, batch_first=True, enforce_sorted=False)
        whole, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=length)
        return {"word": word, "phrase": phrase, "question": whole}

    def attention_by_level(self, feature: Tensor, tokens: Tensor) -> dict[str, Attended]:
        """What each level attends to, of image features (N, D R) and tokens (N, L)."""
        regions = feature.unflatten(1, (self.encoder.regions.shape[0], -1))
        read = self.read_question(tokens)
        return {level: self._attend(read[level], regions, tokens > 0) for level in LEVELS}

    def _attend(self, words: Tensor, regions: Tensor, mask: Tensor) -> Attended:
        """Words (N, L, D) attend to regions (N, D, R) and back; mask (N, L): true at words."""
        affinity = words @ (self.W_b @ regions)
        image, question = self.W_v @ regions, self.W_q @ words.transpose(1, 2)
        about_image = (image + question @ affinity).tanh()
        about_words = (question + image @ affinity.transpose(1, 2)).tanh()
        to_regions = (self.w_hv.t() @ about_image).softmax(2)
        scores = self.w_hq.t() @ about_words
        to_words = scores.masked_fill(~mask[:, None], -torch.inf).softmax(2)
        image = (to_regions @ regions.transpose(1, 2)).squeeze(1)
        question = (to_words @ words).squeeze(1)
        return Attended(question, image, words=to_words.squeeze(1), regions=to_regions.squeeze(1))

    def forward(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, answers) from image features (N, D R) and questions' tokens (N, L)."""
        word, phrase, question = (
            attended.question + attended.image
            for attended in self.attention_by_level(feature, tokens).values()
        )
        below = self.W_w(word).tanh()
        below = self.W_p(torch.cat([phrase, below], 1)).tanh()
        below = self.W_s(torch.cat([question, below], 1)).tanh()
        logits: Tensor = self.fc(below)
        return logits


def recognises(path: Path) -> bool:
    """Whether it is such a checkpoint, or a folder with one, or what :meth:`Adapter.save` wrote."""
    return of_architecture(ARCHITECTURE)(path) or bool(checkpoints(path, _NAMES))


def load(path: Path, layer: str | None = None) -> CoAttentionAnswerer:
    """A model from its checkpoint, or the folder that holds it and the files beside it.

    Where a folder holds both the last and the best model (``model_best.pth.tar``), the best is
    taken.

    Args:
        layer: ``0`` ... ``7`` of the ResNet, as of torchvision's children (``4`` to ``7`` are its
            four stages); None: the last.

    Raises:
        ValueError: a file is missing, damaged or does not fit the others; one line names it.
    """
    if of_architecture(ARCHITECTURE)(path):
        model = checkpoint.load_folder(path, _build, f"{ARCHITECTURE} VQA model")
    else:
        model = _read(the_checkpoint(path, _NAMES))
    return CoAttentionAnswerer(model.requires_grad_(False), folder_name(path), layer)


def _build(data: Any, state: dict[str, Tensor]) -> CoAttentionPyTorch:
    config = checkpoint.from_json(Config, data, ARCHITECTURE, "VQA model")
    own = {k.removeprefix(CNN_PREFIX): v for k, v in state.items() if k.startswith(CNN_PREFIX)}
    net = resnet(own, "torchvision", "not the weights of a ResNet")[0] if own else None
    return CoAttentionPyTorch(config, state, _encoder(net, state, config, missing=_MISSING))


def _encoder(
    net: nn.Sequential | None, state: dict[str, Tensor], config: Config, *, missing: str
) -> Trunk | GivenMaps:
    """The CNN, or, where there is none, what says so (``missing``) when it is needed."""
    if net is not None:
        return Trunk(net, config.preprocess.size)
    rows, columns = (side // STRIDE for side in config.preprocess.size)
    return GivenMaps(Layer("7", (matrix(state, "W_b")[0], rows, columns)), missing)


def _read(path: Path) -> CoAttentionPyTorch:
    folder, what = path.parent, f"{path}: not a co-attention model"
    state = read_checkpoint(path)
    words, answers = _words(folder / _QUESTIONS), _answers(folder)
    cnns = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix in _CNN_SUFFIXES and not mentions(file, *_NAMES)
    ]
    if len(cnns) > 1:
        names = ", ".join(file.name for file in cnns)
        raise ValueError(f"{folder}: expected one file of the CNN's weights, found {names}")
    net = read_resnet(cnns[0], "torchvision")[0] if cnns else None
    for name in ("fc.weight", "fc.bias"):
        # The original always has 1000 scores, of which those behind its last answer mean nothing.
        if name in state and len(state[name]) > len(answers):
            state[name] = state[name][: len(answers)]
    try:
        config = Config(words, answers)
        encoder = _encoder(net, state, config, missing=f"{folder}: {_MISSING}")
        model = CoAttentionPyTorch(config, state, encoder)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    seen = {f"encoder.{name}": value for name, value in model.encoder.state_dict().items()}
    load_exactly(model, state | seen, what)
    return model.eval()


def _words(path: Path) -> tuple[str, ...]:
    return _listed(path, {number: word for word, number in _table(path).items()})


def _answers(folder: Path) -> tuple[str, ...]:
    """Of ``i2a.pkl``, or else of ``a2i.pkl``, which says the same the other way round."""
    if not (folder / _ANSWERS).is_file() and (folder / _NUMBERS).is_file():
        return _words(folder / _NUMBERS)
    return _listed(folder / _ANSWERS, _table(folder / _ANSWERS))


def _table(path: Path) -> dict[Any, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    table = read_pickle(path)
    if not isinstance(table, dict):
        raise ValueError(f"{path}: expected a dict")
    return table


def _listed(path: Path, table: dict[Any, Any]) -> tuple[str, ...]:
    if set(table) != set(range(len(table))) or not all(isinstance(t, str) for t in table.values()):
        raise ValueError(f"{path}: expected texts, numbered 0, 1, 2, ...")
    return tuple(table[i] for i in range(len(table)))
