"""Checkpoints of tbmoon's basic_vqa: VGG-19 and an LSTM, multiplied (after Lu et al., 2015).

A checkpoint is one file (``model-epoch-30.ckpt``), the CNN included, with ``vocab_questions.txt``
and ``vocab_answers.txt`` beside it, one word or answer per line. The LSTM reads all places of a
question, padding included. The image feature is divided by its length, which the original treats as
a constant in the backward pass; here it is differentiated too, unless ``constant_norm`` is set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlcam.formats import checkpoint
from vlcam.formats.state_dict import load_exactly, matrix
from vlcam.formats.torch_pickle import read_checkpoint
from vlcam.models import of_architecture
from vlcam.networks.vgg import TorchvisionVgg
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.exact_backward import exact_backward
from vlcam.utils.files.text_files import read_text
from vqa.answering.cnn_answerer import CnnAnswerer, folder_name
from vqa.models.published import ListedConfig, checkpoints, the_checkpoint

ARCHITECTURE = "basic-vqa"

PADDING, UNKNOWN = "<pad>", "<unk>"
QUESTIONS, ANSWERS = "vocab_questions.txt", "vocab_answers.txt"

_VGG = "img_encoder.model."
_NAMES = ("qst_encoder.word2vec.weight", "img_encoder.fc.weight")
_SEPARATORS = re.compile(r"(\W+)")
_LARGEST_VOCABULARY = 2**24  # bytes


@dataclass(frozen=True)
class Config(ListedConfig):
    """Everything but the weights. An answer ``<unk>`` is any other.

    Attributes:
        max_words: places of a question; shorter ones are filled up with ``<pad>``.
    """

    architecture = ARCHITECTURE
    cnn = "vgg"
    special = (PADDING, UNKNOWN)
    assumed = ("preprocess",)  # no checkpoint says how photos are prepared

    preprocess: Preprocess = field(default_factory=lambda: Preprocess(interpolation="lanczos"))
    max_words: int = 30

    def words(self, question: str) -> list[str]:
        """The question's words, lower case; what stands between them is a word too."""
        parts = (part.strip() for part in _SEPARATORS.split(question.lower()))
        return [part for part in parts if part]

    def tokens(self, question: str) -> list[int]:
        """The question's token in each of its places."""
        unknown = self.numbers[UNKNOWN]
        tokens = [self.numbers.get(word, unknown) for word in self.words(question)]
        filling = [self.numbers[PADDING]] * (self.max_words - len(tokens))
        return (tokens + filling)[: self.max_words]


class BasicVqa(nn.Module):
    """The model, its parts under the original's names.

    Args:
        state: its weights, whose shapes give its sizes.

    Attributes:
        constant_norm: whether the length of the image feature is a constant in the backward pass,
            as in the original's training.

    Raises:
        ValueError: they are not the weights of such a model.
    """

    def __init__(self, config: Config, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        self.constant_norm = False
        cnn = {k.removeprefix(_VGG): v for k, v in state.items() if k.startswith(_VGG)}
        words, embedding = matrix(state, "qst_encoder.word2vec.weight")
        _, hidden = matrix(state, "qst_encoder.lstm.weight_hh_l0")
        layers = sum(key.startswith("qst_encoder.lstm.weight_hh_l") for key in state)
        (common, feature), (wide, _) = (
            matrix(state, f"{name}.weight") for name in ("img_encoder.fc", "fc1")
        )
        answers, _ = matrix(state, "fc2.weight")
        for what, texts, rows in (
            ("words of questions", config.vocabulary, words),
            ("answers", config.answers, answers),
        ):
            if len(texts) != rows:
                raise ValueError(f"the model has {rows} {what}, the vocabulary {len(texts)}")
        self.img_encoder = nn.ModuleDict(
            {"model": TorchvisionVgg(cnn), "fc": nn.Linear(feature, common)}
        )
        self.qst_encoder = nn.ModuleDict(
            {
                "word2vec": nn.Embedding(words, embedding),
                "lstm": nn.LSTM(embedding, hidden, layers, batch_first=True),
                "fc": nn.Linear(2 * layers * hidden, common),
            }
        )
        self.fc1, self.fc2 = nn.Linear(common, wide), nn.Linear(wide, answers)

    @property
    def encoder(self) -> nn.Module:
        """The CNN."""
        return self.img_encoder["model"]

    def encode_question(self, questions: Sequence[Sequence[int]]) -> Tensor:
        """Encodings (N, C) of N questions (a token at each place), from the LSTM's last outputs and
        cells, layer by layer."""
        tokens = torch.tensor(questions, device=self.fc1.weight.device)
        words = self.qst_encoder["word2vec"](tokens).tanh()
        states = self.qst_encoder["lstm"](words)[1]
        last = torch.stack(states, 1).flatten(0, 1).transpose(0, 1).flatten(1)
        encoded: Tensor = self.qst_encoder["fc"](last.tanh())
        return encoded

    def forward(self, feature: Tensor, question: Tensor) -> Tensor:
        """Logits (N, answers) from the CNN's features (N, F) and question encodings (N, C)."""
        image = self.img_encoder["fc"](feature)
        length = image.norm(dim=1, keepdim=True)
        if self.constant_norm:
            with exact_backward():  # as asked for: no derivative is missing
                length = length.detach()
        image = image / length
        logits: Tensor = self.fc2(self.fc1((image * question).tanh()).tanh())
        return logits


def recognises(path: Path) -> bool:
    """Whether it is such a checkpoint, or a folder with one, or what :meth:`Adapter.save` wrote."""
    return of_architecture(ARCHITECTURE)(path) or bool(checkpoints(path, _NAMES))


def load(path: Path, layer: str | None = None, constant_norm: bool = False) -> CnnAnswerer:
    """A model from its checkpoint, or the folder that holds it and its vocabularies.

    Args:
        layer: ``features.N``; None: the last rectified feature map.
        constant_norm: see :class:`BasicVqa`.

    Raises:
        ValueError: a file is missing, damaged or does not fit the others; one line names it.
    """
    if of_architecture(ARCHITECTURE)(path):
        model = checkpoint.load_folder(path, _build, f"{ARCHITECTURE} VQA model")
    else:
        model = _read(path)
    model.constant_norm = constant_norm
    return CnnAnswerer(model.requires_grad_(False), folder_name(path), layer)


def _build(data: Any, state: dict[str, Tensor]) -> BasicVqa:
    return BasicVqa(checkpoint.from_json(Config, data, ARCHITECTURE, "VQA model"), state)


def _read(path: Path) -> BasicVqa:
    file = the_checkpoint(path, _NAMES)
    folder, what = file.parent, f"{file}: not a basic_vqa model"
    state = read_checkpoint(file)
    words = _lines(folder, QUESTIONS, padded=True)
    answers = _lines(folder, ANSWERS, padded=False)
    try:
        model = BasicVqa(Config(words, answers), state)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    load_exactly(model, state, what)
    return model.eval()


def _lines(folder: Path, name: str, *, padded: bool) -> tuple[str, ...]:
    """The lines of a vocabulary: of that name, or the one text file that begins like one.

    Args:
        padded: whether it has ``<pad>``, as that of questions does.
    """
    named = folder / name
    texts = [named] if named.is_file() else [p for p in sorted(folder.glob("*.txt")) if p.is_file()]
    found = {}
    for path in texts:
        if path.stat().st_size > _LARGEST_VOCABULARY:
            continue
        try:
            text = read_text(path).removesuffix("\n")
        except ValueError:
            if path == named:
                raise
            continue
        lines = tuple(line.strip() for line in text.split("\n"))
        if path == named or (UNKNOWN in lines and (PADDING in lines) == padded):
            found[path] = lines
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ValueError(f"{folder}: expected one vocabulary {name}, found {names}")
    return next(iter(found.values()))
