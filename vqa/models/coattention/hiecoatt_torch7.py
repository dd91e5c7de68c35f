"""Checkpoints of HieCoAttenVQA (Lu et al., NIPS 2016), as Lua Torch7 wrote them.

A ``.t7`` file holds the model in four flat vectors (word, phrase and question level, answers), with
words and answers in ``vqa_data_prepro.json`` beside it. It was trained on the feature maps of a CNN
for photos of 448 x 448 pixels: the last pooling of Caffe's VGG-19, or the last maps of the
ResNet-200 of fb.resnet.torch (``resnet-200.t7``). The CNN's weights are expected beside the
checkpoint; without them only feature maps can be explained, no photos.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlcam.formats.state_dict import load_exactly
from vlcam.formats.vocabulary import Vocabulary
from vlcam.networks.torch7_network import TORCH7, read_trunk
from vlcam.networks.vgg import CAFFE, MEAN, STD, read_vgg_trunk
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.expected import expect
from vqa.models.coattention.model import (
    LEVELS,
    NO_CNN,
    VGG_REGIONS,
    Attention,
    CoAttention,
    CoAttentionAnswerer,
    Config,
    given_maps,
)
from vqa.models.torch7_files import (
    CNN_SUFFIXES,
    Flat,
    checkpoint_of,
    cnn_beside,
    holds,
    lstm_size,
    lstm_weights,
    network_beside,
    read_vectors,
    words_and_answers,
)

SIZE = (448, 448)  # of the input, in pixels

_VECTORS = ("wparams", "pparams", "qparams", "aparams")
_LARGEST = 8192  # hidden units
_ATTENTION: dict[Attention, tuple[tuple[str, bool], ...]] = {
    "alternating": (
        ("question", False),
        ("image", False),
        ("summary", False),
        ("summary_score", True),
        ("question_to_image", False),
        ("image_score", True),
        ("image_to_question", False),
        ("question_score", True),
    ),
    "parallel": (
        ("affinity", False),
        ("image", False),
        ("question", False),
        ("question_score", True),
        ("image_score", True),
    ),
}
"""Our names for a level's linear layers in the order of the vectors, and whether they give one
number, a score. The order is that in which nngraph sorted the network."""


def recognises(path: Path) -> bool:
    """Whether it is such a checkpoint, or a folder with one."""
    files = sorted(path.glob("*.t7")) if path.is_dir() else [path]
    return any(holds(file, *_VECTORS) for file in files)


def load(path: Path, layer: str | None = None) -> CoAttentionAnswerer:
    """A model from its ``.t7`` file, or the folder that holds it and the files beside it.

    Args:
        layer: of VGG, ``conv1_1`` ... ``pool5``; of a ResNet of Torch7 its number in the file, and
            those of layers within it (``8.3``: the last stage's third block). None: VGG's last
            ReLU, ``relu5_4``, or the ResNet's last layer.

    Raises:
        ValueError: a file is missing, damaged, or does not fit the others.
    """
    checkpoint = checkpoint_of(path, *_VECTORS)
    words, answers = words_and_answers(checkpoint.parent)
    vectors, table = read_vectors(checkpoint, _VECTORS)
    options = table.get("lmOpt")
    options = {} if options is None else expect(options, dict, f"{checkpoint}: lmOpt", "a table")
    counted = options.get("vocab_size", len(words) + 1)  # one more than there are words
    rows = expect(counted, int, f"{checkpoint}: lmOpt.vocab_size", "a whole number") + 1
    if rows < 1:
        raise ValueError(f"{checkpoint}: lmOpt.vocab_size is {counted}")
    sizes = _sizes(vectors, rows=rows, answers=len(answers), options=options, path=checkpoint)
    said = options.get("feature_type", "VGG")
    residual = expect(said, str, f"{checkpoint}: lmOpt.feature_type", "a text") == "Residual"
    weights = (network_beside if residual else cnn_beside)(checkpoint)
    encoder: Any = None
    network: list[Any] = []
    if weights is not None and residual:
        encoder, network = read_trunk(weights, SIZE)
    elif weights is not None:
        encoder = read_vgg_trunk(weights, SIZE)
    config = Config(
        NO_CNN if weights is None else TORCH7 if residual else CAFFE,
        Vocabulary(words),
        answers,
        preprocess=_preprocess(residual),
        tokenizer="nltk",
        regions=None if weights else "features" if residual else VGG_REGIONS,
        network=tuple(network),
        hidden=sizes.hidden,
        layers=sizes.layers,
        common=sizes.common,
        attention=sizes.attention,
        filled=True,
    )
    if encoder is None:
        encoder = given_maps(config, sizes.features, _missing(checkpoint.parent, residual))
    if encoder.regions.shape != (sizes.features, 14, 14):
        raise ValueError(
            f"{weights} makes feature maps {encoder.regions.shape},"
            f" {checkpoint} takes ({sizes.features}, 14, 14)"
        )
    model = CoAttention(config, encoder)
    seen = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    state = dict(_state(vectors, config, features=sizes.features, rows=rows)) | seen
    load_exactly(model, state, f"{checkpoint}: not a HieCoAtt model")
    return CoAttentionAnswerer(model.eval().requires_grad_(False), checkpoint.parent.name, layer)


def _missing(folder: Path, residual: bool) -> str:
    if residual:
        return f"the ResNet-200 of fb.resnet.torch (resnet-200.t7) is not in {folder}"
    return f"the weights of Caffe's VGG-19 ({', '.join(CNN_SUFFIXES)}) are not in {folder}"


def _preprocess(residual: bool) -> Preprocess:
    if residual:
        return Preprocess(SIZE, interpolation="torch7")
    return Preprocess(SIZE, mean=MEAN, std=STD, interpolation="torch7")


@dataclass(frozen=True)
class _Sizes:
    hidden: int
    features: int
    layers: int
    common: int
    attention: Attention


def _sizes(
    vectors: Mapping[str, Tensor],
    *,
    rows: int,
    answers: int,
    options: Mapping[Any, Any],
    path: Path,
) -> _Sizes:
    """Those that give the vectors' lengths.

    Args:
        rows: of the table of words.
        path: of the checkpoint, for errors.

    Raises:
        ValueError: none do.
    """
    words, phrases, questions, last = (len(vectors[name]) for name in _VECTORS)
    said = options.get("atten_type", "")
    said = expect(said, str, f"{path}: lmOpt.atten_type", "a text").lower()
    for attention in sorted(_ATTENTION, key=lambda kind: kind != said):
        for n in range(1, _LARGEST):
            attend = _attention_size(attention, n)
            if 6 * n * n + 3 * n + attend >= phrases:
                break
        if 6 * n * n + 3 * n + attend != phrases:
            continue
        features, rest = divmod(words - attend - n - rows * n, n)
        layers, more = divmod(questions - attend, lstm_size(n, n, 1))
        common, less = divmod(last - 3 * n * n - 2 * n - answers, 2 * n + 1 + answers)
        if rest == more == less == 0 and min(features, layers, common) > 0:
            return _Sizes(n, features, layers, common, attention)
    lengths = ", ".join(str(len(vectors[name])) for name in _VECTORS)
    raise ValueError(
        f"{path}: its {lengths} numbers fit no model of {rows - 1} words and {answers} answers"
    )


def _attention_size(attention: Attention, n: int) -> int:
    return sum((1 if score else n) * (n + 1) for _, score in _ATTENTION[attention])


def _state(
    vectors: Mapping[str, Tensor], config: Config, *, features: int, rows: int
) -> Iterator[tuple[str, Tensor]]:
    """The weights under our names."""
    n, words = config.hidden, len(config.vocabulary)
    flats = {level: Flat(vectors[f"{level[0]}params"]) for level in LEVELS}
    flat = flats["word"]
    yield from _linear("image", flat, (n, features))
    # Row 0 is padding's, row i that of word i; there are rows that no word has.
    table = torch.zeros(words, n)
    known = flat.take(rows, n)[1:words]
    table[1 : 1 + len(known)] = known
    yield "embed_word.weight", table
    for width, name in enumerate(("unigram", "bigram", "trigram"), 1):
        weight = flats["phrase"].take(n, width, n)
        yield f"{name}.weight", weight.transpose(1, 2).contiguous()
        yield f"{name}.bias", flats["phrase"].take(n)
    lstm = lstm_weights(flats["question"], inputs=n, hidden=n, layers=config.layers)
    for name, value in lstm:
        yield f"rnn.{name}", value
    for level in LEVELS:
        for name, score in _ATTENTION[config.attention]:
            yield from _linear(f"attend.{level}.{name}", flats[level], (1 if score else n, n))
    flat = Flat(vectors["aparams"])
    yield from _linear("fuse.word", flat, (n, n))
    yield from _linear("fuse.phrase", flat, (n, 2 * n))
    yield from _linear("fuse.question", flat, (config.common, 2 * n))
    yield from _linear("answer", flat, (len(config.answers), config.common))


def _linear(name: str, flat: Flat, size: tuple[int, int]) -> Iterator[tuple[str, Tensor]]:
    """Weight and bias of a linear layer of (outputs, inputs), the next in the vector."""
    yield f"{name}.weight", flat.take(*size)
    yield f"{name}.bias", flat.take(size[0])
