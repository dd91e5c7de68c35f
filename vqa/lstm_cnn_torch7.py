"""Checkpoints of VT-vision-lab's VQA_LSTM_CNN (Lu et al., 2015), as Torch7 wrote them.

``lstm.t7`` holds the language model in three flat vectors, ``data_prepro.json`` beside it words and
answers; the CNN is Caffe's VGG, untouched, whose weights are expected beside them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vlcam.caffe_vgg import CAFFE, MEAN, STD, read_vgg
from vlcam.preprocess import Preprocess
from vlcam.torch7 import load as load_torch7
from vlcam.vocabulary import UNKNOWN, Vocabulary
from vqa.cnn_answerer import CnnAnswerer
from vqa.lstm_cnn import Config, LstmCnn

CHECKPOINT = "lstm.t7"
WORDS = "data_prepro.json"
_VECTORS = ("embedding_w_q", "encoder_w_q", "multimodal_w")
_CNN_SUFFIXES = (".safetensors", ".pth", ".pt")


def recognises(path: Path) -> bool:
    """Whether it is such a checkpoint, or the folder of one."""
    folder = path if path.is_dir() else path.parent
    named = path.is_dir() or path.name == CHECKPOINT
    return named and (folder / CHECKPOINT).is_file() and (folder / WORDS).is_file()


def load(path: Path, layer: str | None = None) -> CnnAnswerer:
    """A model from the folder that holds ``lstm.t7``, ``data_prepro.json`` and the CNN's weights.

    The weights of VGG-16 or VGG-19 (a ``.safetensors`` or ``.pth`` file of a state dict with
    Caffe's or torchvision's names) must be Caffe's, for BGR pixels.

    Raises:
        ValueError: a file is missing, damaged, or does not fit the others.
    """
    folder = path if path.is_dir() else path.parent
    cnns = sorted(p for p in folder.iterdir() if p.suffix in _CNN_SUFFIXES)
    if len(cnns) != 1:
        found = ", ".join(p.name for p in cnns) or "none"
        raise ValueError(
            f"{folder}: expected one file of the CNN's weights beside {CHECKPOINT}"
            f" ({', '.join(_CNN_SUFFIXES)}), found {found}"
        )
    words, answers = _words_and_answers(folder / WORDS)
    vectors = _vectors(folder / CHECKPOINT)
    encoder = read_vgg(cnns[0])
    sizes = _sizes(vectors, len(words), len(answers), encoder.feature_size, folder / CHECKPOINT)
    preprocess = Preprocess(mean=MEAN, std=STD, interpolation="torch7")
    embedding, hidden, layers, common = sizes
    config = Config(
        CAFFE,
        Vocabulary(words),
        answers,
        preprocess,
        tokenizer="nltk",
        embedding=embedding,
        hidden=hidden,
        layers=layers,
        common=common,
        standardise=False,
    )
    model = LstmCnn(config, encoder)
    seen = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    model.load_state_dict(_state(vectors, config, encoder.feature_size) | seen)
    return CnnAnswerer(model.eval(), folder.name, layer)


def _words_and_answers(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        data = json.loads(path.read_bytes())
        words, answers = (
            tuple(table[str(i)] for i in range(1, len(table) + 1))
            for table in (data["ix_to_word"], data["ix_to_ans"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no ix_to_word and ix_to_ans, numbered from 1") from error
    return (words if words[-1] == UNKNOWN else (*words, UNKNOWN)), answers


def _vectors(path: Path) -> dict[str, Tensor]:
    data = load_torch7(path)
    flat = {name: data.get(name) if isinstance(data, dict) else None for name in _VECTORS}
    for name, value in flat.items():
        if not isinstance(value, np.ndarray) or value.ndim != 1:
            raise ValueError(f"{path}: expected a vector {name}")
    return {name: torch.from_numpy(value).float() for name, value in flat.items()}


def _sizes(
    vectors: dict[str, Tensor], words: int, answers: int, features: int, path: Path
) -> tuple[int, int, int, int]:
    """Embedding's size, LSTM's, its layers and the common space's: those that give the lengths."""
    lengths = [len(vectors[name]) for name in _VECTORS]
    known = words - (lengths[0] % words != 0)  # an UNK that we added has no weights
    embedding = lengths[0] // (known + 1)
    for hidden in range(1, 4097):
        layers, rest = 1, lengths[1] - _layer_size(embedding, hidden) - hidden - 1
        while rest > 0:
            layers, rest = layers + 1, rest - _layer_size(hidden, hidden)
        if rest == 0:
            inputs = 2 * layers * hidden + 1 + features + 1
            common = (lengths[2] - answers) // (inputs + answers)
            if common * (inputs + answers) + answers == lengths[2]:
                return embedding, hidden, layers, common
    raise ValueError(
        f"{path}: its {', '.join(map(str, lengths))} numbers fit no model of {words} words,"
        f" {answers} answers and {features} image features"
    )


def _layer_size(inputs: int, hidden: int) -> int:
    return 4 * hidden * (inputs + 1 + hidden + 1)


class _Flat:
    """A flat vector taken apart from its start."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def take(self, *shape: int) -> Tensor:
        size = int(np.prod(shape))
        taken, self._values = self._values[:size], self._values[size:]
        return taken.view(shape)


def _state(vectors: dict[str, Tensor], config: Config, features: int) -> dict[str, Tensor]:
    """Our names for the weights; gates i, f, o, g become i, f, g, o."""
    flat = _Flat(vectors["embedding_w_q"])
    count = len(vectors["embedding_w_q"]) // config.embedding - 1
    table, bias = flat.take(config.embedding, count), flat.take(config.embedding)
    rows = torch.zeros(len(config.vocabulary), config.embedding)
    rows[1 : count + 1] = table.t() + bias
    state = {"embed_word.weight": rows}
    state.update(_lstm(_Flat(vectors["encoder_w_q"]), config))
    flat = _Flat(vectors["multimodal_w"])
    common = config.common
    for name, out, inputs in (
        ("question", common, 2 * config.layers * config.hidden),
        ("image", common, features),
        ("answer", len(config.answers), common),
    ):
        state[f"{name}.weight"], state[f"{name}.bias"] = flat.take(out, inputs), flat.take(out)
    return state


def _lstm(flat: _Flat, config: Config) -> Iterator[tuple[str, Tensor]]:
    hidden = config.hidden
    for layer in range(config.layers):
        inputs = hidden if layer else config.embedding
        for kind, width in (("ih", inputs), ("hh", hidden)):
            for what, values in (
                ("weight", flat.take(4 * hidden, width)),
                ("bias", flat.take(4 * hidden)),
            ):
                i, f, o, g = values.chunk(4)
                yield f"rnn.{what}_{kind}_l{layer}", torch.cat([i, f, g, o])
