"""Checkpoints of Karpathy's NeuralTalk2 as Torch7 wrote them, on a CPU or a GPU (``.t7``).

The file's table has the networks in ``protos``: ``cnn``, a VGG of Caffe's (from loadcaffe) with a
rectified embedding behind it, and ``lm``, the LSTM, whose layers are nodes of a graph; its words
are in ``vocab``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captioning.models.neuraltalk import neuraltalk2
from captioning.models.neuraltalk.neuraltalk2 import (
    ARCHITECTURE,
    Config,
    NeuralTalk2,
    NeuralTalk2Captioner,
)
from vlcam.formats.state_dict import load_exactly
from vlcam.formats.torch7 import LuaObject, LuaTable, get, items, load_torch7, mentions, outline
from vlcam.models import configuration
from vlcam.utils.messages.expected import described_shape, expect

_CLASS = "nn.LanguageModel"

_LETTERS = {
    "SpatialConvolution": "c",
    "SpatialConvolutionMM": "c",
    "ReLU": "r",
    "SpatialMaxPooling": "p",
    "Linear": "l",
    "View": "",
    "Reshape": "",
    "Dropout": "",
}
"""Kinds of layers of the CNN, by their classes' names within ``nn`` or ``cudnn``."""

_ABSENT = {"padW": 0, "padH": 0, "groups": 1}
"""Values of fields that older files leave out."""

_VGG = re.compile("((cr)+p)+lrlrlr")


def recognises(path: Path) -> bool:
    """Whether it is such a file, a folder with one, or the folder of a model saved by us."""
    saved = configuration(path).get("architecture") == ARCHITECTURE
    return saved or any(_is_checkpoint(file) for file in _candidates(path))


def load(path: Path, layer: str | None = None, paper_script: bool = False) -> NeuralTalk2Captioner:
    """A captioner from a ``.t7`` file, the folder of one, or the folder of a model saved by us.

    Args:
        layer: of the CNN (``conv1_1``, ``relu1_1`` ... ``pool5``); None: the last ReLU before the
            last pooling, ``relu5_3`` of VGG-16.
        paper_script: photos and captions are read as in the script of the Grad-CAM paper's authors,
            not in NeuralTalk2's own way: see
            :class:`captioning.models.neuraltalk.neuraltalk2.Config`.

    Raises:
        ValueError: the file is damaged, of another architecture, or its parts do not fit each
            other; one line says which and why.
    """
    if configuration(path).get("architecture") == ARCHITECTURE:
        folder = path if path.is_dir() else path.parent
        model, name = neuraltalk2.load_module(folder), folder.resolve().name
    else:
        file = _file(path)
        model, name = _read(file), file.stem
    if paper_script:
        neuraltalk2.as_in_paper(model)
    return NeuralTalk2Captioner(model.eval().requires_grad_(False), name, layer)


def _candidates(path: Path) -> list[Path]:
    return sorted(path.glob("*.t7")) if path.is_dir() else [path]


def _is_checkpoint(path: Path) -> bool:
    """By its content; for a damaged file by the names in it, so that it is refused here."""
    if not path.is_file():
        return False
    try:
        root = outline(path)
    except ValueError:
        return mentions(path, "protos", _CLASS)
    return _class(get(root, "protos", "lm")) == _CLASS


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [file for file in _candidates(path) if _is_checkpoint(file)]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{path}: expected one checkpoint (.t7), found {names}; give the file")
    return found[0]


def _read(path: Path) -> NeuralTalk2:
    root = load_torch7(path)
    what = f"{path}: not a checkpoint of NeuralTalk2"
    try:
        lm = get(root, "protos", "lm")
        if _class(lm) != _CLASS:
            raise ValueError(f"no protos.lm of class {_CLASS}")
        state = _cnn(get(root, "protos", "cnn")) | _language_model(lm)
        config = Config(_words(get(root, "vocab")), get(lm, "seq_length"))
        model = neuraltalk2.build(config, state)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    load_exactly(model, state, what)
    return model


def _words(vocabulary: Any) -> tuple[str, ...]:
    expect(vocabulary, LuaTable, "vocab", "a table of words")
    numbered = {str(key): word for key, word in vocabulary.items()}
    try:
        return tuple(numbered[str(i)] for i in range(1, len(numbered) + 1))
    except KeyError as error:
        raise ValueError(f"vocab has {len(numbered)} words, but no word {error}") from error


# --- the CNN


def _cnn(cnn: Any) -> dict[str, Tensor]:
    """Weights of VGG and of the embedding, by our names for them."""
    modules = items(get(cnn, "modules"))
    kinds = [_class(module).rpartition(".")[2] for module in modules]
    unknown = [kind for kind in kinds if kind not in _LETTERS]
    if unknown:
        raise ValueError(f"its CNN has a layer of class {unknown[0][:60]!r}")
    letters = [_LETTERS[kind] for kind in kinds]
    if not _VGG.fullmatch("".join(letters)):
        raise ValueError("its CNN is no VGG with one embedding behind it")
    state = dict[str, Tensor]()
    block, place, linear = 1, 0, iter(("encoder.fc6", "encoder.fc7", "embed_image"))
    for number, (letter, module) in enumerate(zip(letters, modules, strict=True), 1):
        what = f"layer {number} of its CNN"
        if letter == "c":
            place += 1
            name = f"encoder.conv{block}_{place}"
            state[f"{name}.weight"] = _kernels(module, what)
            state[f"{name}.bias"] = _tensor(module, "bias", what, 1)
        elif letter == "p":
            _check(module, what, kW=2, kH=2, dW=2, dH=2, padW=0, padH=0)
            block, place = block + 1, 0
        elif letter == "l":
            state |= _affine(next(linear), module, what)
    return state


def _kernels(module: Any, what: str) -> Tensor:
    """Weights (out, in, height, width) of a convolution, which some classes keep as a matrix."""
    weight = _tensor(module, "weight", what, 2, 4)
    if weight.ndim == 2:
        shape = [get(module, name) for name in ("nInputPlane", "kH", "kW")]
        fits = all(isinstance(n, int) and n > 0 for n in shape)
        if not fits or shape[0] * shape[1] * shape[2] != weight.shape[1]:
            asked = described_shape(tuple(shape))
            raise ValueError(f"weight of {what} has shape {tuple(weight.shape)}, not {asked}")
        weight = weight.reshape(len(weight), *shape)
    height, width = weight.shape[2:]
    if height != width or height % 2 == 0:
        raise ValueError(f"{what} has kernels of {height} x {width} pixels")
    _check(module, what, dW=1, dH=1, padW=width // 2, padH=height // 2, groups=1)
    return weight


def _check(module: Any, what: str, **expected: int) -> None:
    for name, value in expected.items():
        found = get(module, name)
        if found is None and name in ("padW", "padH"):
            found = get(module, "padding")
        if found is None:
            found = _ABSENT.get(name)
        if expect(found, int, f"{name} of {what}", f"{value}") != value:
            raise ValueError(f"{what} has {name} {found}, expected {value}")


# --- the language model


def _language_model(lm: Any) -> dict[str, Tensor]:
    """Weights of words and LSTM by our names; the last row of words, start and end, comes first."""
    modules = _named(get(lm, "core"))
    layers = 0
    while f"i2h_{layers + 1}" in modules:
        layers += 1
    said = get(lm, "num_layers")
    if said is not None and expect(said, int, "num_layers", "a whole number") != layers:
        raise ValueError(f"it has {layers} layers of LSTM, num_layers is {said}")
    state = {"embed_word.weight": _tensor(get(lm, "lookup_table"), "weight", "lookup_table", 2)}
    state |= _affine("logits", modules.get("decoder"), "decoder")
    state = {name: values.roll(1, 0) for name, values in state.items()}
    for layer in range(layers):
        for ours, theirs in (("ih", f"i2h_{layer + 1}"), ("hh", f"h2h_{layer + 1}")):
            for kind, dimensions in (("weight", 2), ("bias", 1)):
                values = _tensor(modules.get(theirs), kind, theirs, dimensions)
                state[f"rnn.{kind}_{ours}_l{layer}"] = _gates(values, theirs)
    return state


def _named(core: Any) -> dict[str, Any]:
    """The graph's modules by the names its nodes have; without names, by their order."""
    nodes = [get(node, "data") for node in items(get(core, "forwardnodes"))]
    names = [get(data, "annotations", "name") for data in nodes]
    pairs = zip(names, nodes, strict=True)
    named = {name: get(data, "module") for name, data in pairs if isinstance(name, str)}
    if "decoder" not in named:
        linear = [m for m in items(get(core, "modules")) if _class(m).endswith(".Linear")]
        if len(linear) != 3:
            raise ValueError("the modules of protos.lm.core have no names (i2h_1, ..., decoder)")
        named = dict(zip(("i2h_1", "h2h_1", "decoder"), linear, strict=True))
    return named


def _gates(values: Tensor, what: str) -> Tensor:
    """Rows of the gates i, f, o, g in the order i, f, g, o."""
    if len(values) % 4:
        raise ValueError(f"{what} has {len(values)} rows, not those of four gates")
    i, f, o, g = values.chunk(4)
    return torch.cat([i, f, g, o])


# --- parts of both


def _affine(name: str, module: Any, what: str) -> dict[str, Tensor]:
    """A linear layer's weight and bias."""
    weight, bias = _tensor(module, "weight", what, 2), _tensor(module, "bias", what, 1)
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _tensor(module: Any, name: str, what: str, *dimensions: int) -> Tensor:
    value = get(module, name)
    if not isinstance(value, np.ndarray) or value.ndim not in dimensions or not value.size:
        raise ValueError(f"no tensor {name} of {what}")
    return torch.from_numpy(value).float()


def _class(value: Any) -> str:
    return value.kind if isinstance(value, LuaObject) else ""
