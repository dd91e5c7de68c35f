"""Checkpoints of VT-vision-lab's VQA_LSTM_CNN (Lu et al., 2015), as Torch7 wrote them.

``lstm.t7`` holds the language model in three flat vectors, ``data_prepro.json`` beside it words and
answers; the CNN is Caffe's VGG, untouched, whose weights are expected beside them too.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vlcam.formats.vocabulary import Vocabulary
from vlcam.networks.vgg import CAFFE, MEAN, STD, read_vgg
from vlcam.photo.preprocess import Preprocess
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.lstm_cnn.model import Config, LstmCnn
from vqa.models.torch7_files import (
    CNN_SUFFIXES,
    Flat,
    checkpoint_of,
    cnn_beside,
    holds,
    lstm_size,
    lstm_weights,
    read_vectors,
    words_and_answers,
)

CHECKPOINT = "lstm.t7"
_MOST_LAYERS = 64
_VECTORS = ("embedding_w_q", "encoder_w_q", "multimodal_w")


def recognises(path: Path) -> bool:
    """Whether it is such a checkpoint (``lstm.t7``, ``lstm_save_iter*.t7``), or its folder."""
    files = sorted(path.glob("*.t7")) if path.is_dir() else [path]
    return any(file.name == CHECKPOINT or holds(file, *_VECTORS) for file in files)


def load(path: Path, layer: str | None = None) -> CnnAnswerer:
    """A model from ``lstm.t7``, or the folder that holds it, ``data_prepro.json`` and the CNN's
    weights.

    The weights of VGG-16 or VGG-19 (a ``.safetensors`` or ``.pth`` file of a state dict with
    Caffe's or torchvision's names) must be Caffe's, for BGR pixels.

    Args:
        layer: of VGG; None: its last rectified feature maps.

    Raises:
        ValueError: a file is missing, damaged, or does not fit the others.
    """
    whole = path.is_dir() and (path / CHECKPOINT).is_file()
    checkpoint = path / CHECKPOINT if whole else checkpoint_of(path, *_VECTORS)
    folder = checkpoint.parent
    cnn = cnn_beside(checkpoint)
    if cnn is None:
        raise ValueError(
            f"{folder}: expected one file of the CNN's weights beside {checkpoint.name}"
            f" ({', '.join(CNN_SUFFIXES)}), found none"
        )
    words, answers = words_and_answers(folder)
    vectors, _ = read_vectors(checkpoint, _VECTORS)
    encoder = read_vgg(cnn)
    embedding, hidden, layers, common = _sizes(
        vectors,
        words=len(words),
        answers=len(answers),
        features=encoder.feature_size,
        path=checkpoint,
    )
    config = Config(
        CAFFE,
        Vocabulary(words),
        answers,
        preprocess=Preprocess(mean=MEAN, std=STD, interpolation="torch7"),
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


def _sizes(
    vectors: dict[str, Tensor], *, words: int, answers: int, features: int, path: Path
) -> tuple[int, int, int, int]:
    """The sizes that give the vectors' lengths: of the embedding, of the LSTM, how many layers it
    has, of the common space.

    Raises:
        ValueError: none do.
    """
    lengths = [len(vectors[name]) for name in _VECTORS]
    for known in (words, words - 1):  # an UNK that we added has no weights
        embedding, rest = divmod(lengths[0], known + 1)
        for layers in range(1, _MOST_LAYERS + 1) if rest == 0 else ():
            hidden = _hidden(embedding, layers, lengths[1])
            inputs = 2 * layers * hidden + 1 + features + 1
            common, rest = divmod(lengths[2] - answers, inputs + answers)
            if hidden and common and rest == 0:
                return embedding, hidden, layers, common
    raise ValueError(
        f"{path}: its {', '.join(map(str, lengths))} numbers fit no model of {words} words,"
        f" {answers} answers and {features} image features"
    )


def _hidden(embedding: int, layers: int, length: int) -> int:
    """The hidden size of an LSTM that has, with a projection of its output to one number (which is
    not used), ``length`` weights; 0: there is none."""
    hidden = 1
    while (size := lstm_size(embedding, hidden, layers) + hidden + 1) < length:
        hidden += 1
    return hidden if size == length else 0


def _state(vectors: dict[str, Tensor], config: Config, features: int) -> dict[str, Tensor]:
    """The weights under our names."""
    flat = Flat(vectors["embedding_w_q"])
    count = len(vectors["embedding_w_q"]) // config.embedding - 1
    table, bias = flat.take(config.embedding, count), flat.take(config.embedding)
    rows = torch.zeros(len(config.vocabulary), config.embedding)
    rows[1 : count + 1] = table.t() + bias
    state = {"embed_word.weight": rows}
    lstm = lstm_weights(
        Flat(vectors["encoder_w_q"]),
        inputs=config.embedding,
        hidden=config.hidden,
        layers=config.layers,
    )
    state.update({f"rnn.{name}": values for name, values in lstm})
    flat = Flat(vectors["multimodal_w"])
    common = config.common
    for name, out, inputs in (
        ("question", common, 2 * config.layers * config.hidden),
        ("image", common, features),
        ("answer", len(config.answers), common),
    ):
        state[f"{name}.weight"], state[f"{name}.bias"] = flat.take(out, inputs), flat.take(out)
    return state
