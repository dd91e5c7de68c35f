"""The captioner of sgrvinod's tutorial on Show, Attend and Tell (Xu et al., 2015), from its files.

A ResNet's last maps are pooled to 14 x 14 cells. At each word an LSTM attends to all cells (soft
attention), reads their weighted mean through a gate, and predicts the word.

A checkpoint is a ``.pth.tar`` file that holds encoder and decoder as whole modules (or as state
dicts) beside ``WORDMAP_....json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captioning.language.captioner import Captioner, TokenizedWord, padded
from captioning.language.vocabularies import END, START, MarkedWords, words_by_token
from vlcam.adapters.adapter import FeatureMaps, OwnAttention, Prompt
from vlcam.adapters.cnn import CnnAdapter
from vlcam.adapters.once_per_image import once_per_image
from vlcam.attribution.backward_rules import outside_cnn
from vlcam.formats import checkpoint
from vlcam.formats.state_dict import load_exactly, matrix
from vlcam.formats.torch_pickle import Inert, mentions, module_state, read_torch_modules
from vlcam.formats.vocabulary import words_of
from vlcam.formats.wrapped_names import WRAPPERS
from vlcam.geometry.cells import derive
from vlcam.geometry.grid import Grid
from vlcam.models import configuration
from vlcam.networks.resnet import PooledResNet, resnet
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.expected import expect

ARCHITECTURE = "show-attend-tell"

POOL = "adaptive_pool"
"""The layer behind the CNN: its maps pooled to those that are attended to."""

_CELLS = 14  # a side, where the checkpoint does not say
_MOST_CELLS = 256  # a side
_LONGEST = 51  # steps after which the original's search gives up
_LARGEST = 2**26  # bytes; larger files are no word maps
_SUFFIXES = (".tar", ".pth", ".pt", ".ckpt")
_NAMES = ("encoder_att", "decode_step", "f_beta")


@dataclass(frozen=True)
class Config:
    """Everything but the weights.

    Attributes:
        words: word i has token i.
        cells: a side, of the maps attended to.
        preprocess: from a photo to the CNN's input.
        cnn: what it is.
    """

    words: tuple[str, ...]
    cells: int = _CELLS
    preprocess: Preprocess = field(default_factory=lambda: Preprocess(size=(256, 256)))
    cnn: str = "resnet"

    assumed = ("preprocess",)  # no checkpoint says how photos are prepared

    def __post_init__(self) -> None:
        if expect(self.cells, int, "cells", "a whole number") not in range(1, _MOST_CELLS + 1):
            raise ValueError(f"cells is {self.cells}, expected 1 to {_MOST_CELLS} a side")
        MarkedWords(self.words)  # refuses those without marks

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)


class Attention(nn.Module):
    """Weights of the cells, from their contents and the LSTM's state."""

    def __init__(self, channels: int, hidden: int, width: int) -> None:
        super().__init__()
        self.encoder_att = nn.Linear(channels, width)
        self.decoder_att = nn.Linear(hidden, width)
        self.full_att = nn.Linear(width, 1)

    def forward(self, keys: Tensor, h: Tensor) -> Tensor:
        """Weights (N, P) that sum to 1, of keys (N, P, A) and states (N, H)."""
        with outside_cnn():
            both = (keys + self.decoder_att(h)[:, None]).relu()
        return self.full_att(both).squeeze(2).softmax(1)


class Decoder(nn.Module):
    """The language model; names of the weights as in the files.

    An image is given as (N, P, K + A): the contents of its P cells, and the attention's keys for
    them (:meth:`image`), which are the same at every step.
    """

    def __init__(
        self, words: int, *, embedding: int, channels: int, hidden: int, attention: int
    ) -> None:
        super().__init__()
        self.attention = Attention(channels, hidden, attention)
        self.embedding = nn.Embedding(words, embedding)
        self.decode_step = nn.LSTMCell(embedding + channels, hidden)
        self.init_h = nn.Linear(channels, hidden)
        self.init_c = nn.Linear(channels, hidden)
        self.f_beta = nn.Linear(hidden, channels)
        self.fc = nn.Linear(hidden, words)

    def image(self, maps: Tensor) -> Tensor:
        """Images, as above, from pooled maps (N, K, u, v)."""
        cells = maps.flatten(2).transpose(1, 2)
        return torch.cat([cells, self.attention.encoder_att(cells)], 2)

    def begin(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The LSTM's first state."""
        mean = self._parts(image)[0].mean(1)
        return self.init_h(mean), self.init_c(mean)

    def step(
        self, image: Tensor, words: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The state after words (N,), and the attention (N, P) of this step."""
        cells, keys = self._parts(image)
        alpha = self.attention(keys, h)
        context = torch.bmm(alpha[:, None], cells).squeeze(1)
        gated = self.f_beta(h).sigmoid() * context
        h, c = self.decode_step(torch.cat([self.embedding(words), gated], 1), (h, c))
        return h, c, alpha

    def _parts(self, image: Tensor) -> tuple[Tensor, Tensor]:
        channels = self.attention.encoder_att.in_features
        return image[..., :channels], image[..., channels:]


class ShowAttendTellNet(nn.Module):
    """The two networks as one."""

    def __init__(self, config: Config, encoder: PooledResNet, decoder: Decoder) -> None:
        super().__init__()
        self.config, self.encoder, self.decoder = config, encoder, decoder


class ShowAttendTell(CnnAdapter, Captioner):
    """Adapter of :class:`ShowAttendTellNet`; see :class:`CnnAdapter`.

    Layers are the ResNet's stages (``resnet.7`` is the default) and blocks (``resnet.7.0``), and
    ``adaptive_pool``, whose cells are those attended to.
    """

    module: ShowAttendTellNet

    def __init__(self, model: ShowAttendTellNet, name: str, layer: str | None = None) -> None:
        super().__init__(model, name, layer)
        self._words = MarkedWords(model.config.words)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return self._pooled(input_size) if self.layer == POOL else super().grid(input_size)

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        return self._read(features, tokens)[0]

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self.module.decoder.fc(states))

    def words(self, text: str) -> list[TokenizedWord]:
        """Lower-case words without punctuation, unless the vocabulary has them as written."""
        words: list[str] = []
        for piece in text.split():
            known = [word for word in (piece, piece.lower()) if word in self._words]
            words += known[:1] or words_of(piece)
        return [self._words.find(word) for word in words]

    @torch.no_grad()
    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        """The original's beam search: captions that end leave the beam, which narrows; the
        likeliest of them is taken, whatever its length. Where none has ended after 51 steps (the
        original fails then), it is the likeliest unfinished one."""
        decoder = self.module.decoder
        image = self.image_features(features)
        beam = min(beam, len(self._words.words))
        image = image.expand(beam, -1, -1)
        h, c = decoder.begin(image)
        last = torch.full((beam,), self._words.start, device=image.device)
        captions = last[:, None]
        sums = torch.zeros(beam, 1, device=image.device)
        done: list[tuple[float, list[int]]] = []
        for step in range(_LONGEST):
            h, c, _ = decoder.step(image, last, h, c)
            candidates = sums + self.log_probabilities(h)
            # At the first step all rows are the same.
            flat = candidates.flatten() if step else candidates[0]
            best, places = flat.topk(len(captions))
            parents, last = places // candidates.shape[1], places % candidates.shape[1]
            captions = torch.cat([captions[parents], last[:, None]], 1)
            ended = last == self._words.end
            done += zip(best[ended].tolist(), captions[ended].tolist(), strict=True)
            captions, parents, last = captions[~ended], parents[~ended], last[~ended]
            h, c, image, sums = h[parents], c[parents], image[parents], best[~ended, None]
            if not len(captions):
                break
        if not done:
            done = list(zip(sums[:, 0].tolist(), captions.tolist(), strict=True))
        _, tokens = max(done, key=lambda caption: caption[0])
        return self._words.written(tokens)

    def attention(
        self, features: FeatureMaps, prompt: Prompt, input_size: tuple[int, int]
    ) -> OwnAttention:
        """The attention with which each word is predicted."""
        tokens = padded([prompt]).to(features.device)
        alphas = self._read(features, tokens)[1][0]
        names = tuple(self._words.words[token] for token in tokens[0])
        side = self.module.config.cells
        return OwnAttention(names, alphas.unflatten(1, (side, side)), self._pooled(input_size))

    def describe(self) -> dict[str, Any]:
        return {"family": ARCHITECTURE} | super().describe()

    def _read(self, features: FeatureMaps, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """States (N, L, H) that predict each token of N captions, and the attention (N, L, P) of
        each step."""
        decoder, image = self.module.decoder, self.image_features(features)
        h, c = decoder.begin(image)
        start = torch.full_like(tokens[:, :1], self._words.start)
        states, alphas = [], []
        for words in torch.cat([start, tokens[:, :-1]], 1).T:
            h, c, alpha = decoder.step(image, words, h, c)
            states.append(h)
            alphas.append(alpha)
        return torch.stack(states, 1), torch.stack(alphas, 1)

    def image_features(self, features: FeatureMaps) -> Tensor:
        """The decoder's input for each row's image (:meth:`Decoder.image`)."""
        return once_per_image(
            lambda seen: self.module.decoder.image(self._after(seen.maps)), features
        )

    def _pooled(self, input_size: tuple[int, int]) -> Grid:
        """The grid of the cells attended to: unevenly spaced where 8 are pooled to 14."""
        kind = self.module.decoder.fc.weight.dtype
        unpooled = derive(self.module.encoder.resnet, torch.empty(1, 3, *input_size, dtype=kind))
        side = self.module.config.cells
        return unpooled.pooled((side, side))


def recognises(path: Path) -> bool:
    """Whether a file is, or a folder holds, a checkpoint of this project, or one of ours of its
    architecture."""
    if configuration(path).get("architecture") == ARCHITECTURE:
        return True
    return any(mentions(file, *_NAMES) for file in _candidates(path))


def load(path: Path, layer: str | None = None) -> ShowAttendTell:
    """A captioner from a checkpoint's file, or from its folder.

    Where a folder holds several, the best (``BEST_...``) is taken.

    Raises:
        ValueError: a file is missing, damaged, hostile, of another architecture, or does not fit
            the other; or it cannot be told which is meant.
    """
    folder = path if path.is_dir() else path.parent
    if configuration(path).get("architecture") == ARCHITECTURE:
        model = checkpoint.load_folder(path, _build, "show, attend and tell captioner")
    else:
        model = _read(_checkpoint(path))
    return ShowAttendTell(model.eval().requires_grad_(False), folder.resolve().name, layer)


def _read(path: Path) -> ShowAttendTellNet:
    word_map = _word_map(path)
    saved = read_torch_modules(path)
    encoder, decoder = (_part(saved, name, path) for name in ("encoder", "decoder"))
    states = [
        module_state(part, f"{path}: its {name}")
        for part, name in ((encoder, "encoder"), (decoder, "decoder"))
    ]
    words = _read_words(word_map)
    try:
        config = Config(words, _cells(encoder))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    vocabulary = f"the word map {word_map}"
    return _assemble(config, states[0], states[1], no=f"{path}: not", vocabulary=vocabulary)


def _build(data: Any, state: dict[str, Tensor]) -> ShowAttendTellNet:
    """From what :meth:`ShowAttendTell.save` wrote."""
    config = checkpoint.from_json(Config, data, ARCHITECTURE, "captioner")
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    encoder, decoder = parts["encoder"], parts["decoder"]
    return _assemble(config, encoder, decoder, no="not", vocabulary="its vocabulary")


def _assemble(
    config: Config,
    encoder: dict[str, Tensor],
    decoder: dict[str, Tensor],
    *,
    no: str,
    vocabulary: str,
) -> ShowAttendTellNet:
    """The networks of those weights.

    Args:
        no: how errors about the weights begin.
        vocabulary: how errors call it.
    """
    what = f"{no} the weights of a ResNet as encoder"
    odd = [name for name in encoder if not name.startswith("resnet.")]
    if odd:
        raise ValueError(f"{what}: unexpected {odd[0]}")
    trunk = {name.removeprefix("resnet."): value for name, value in encoder.items()}
    net, channels = resnet(trunk, "torchvision", what)
    what = f"{no} the weights of an attending decoder"
    count, embedding = matrix(decoder, "embedding.weight", what)
    width, attended = matrix(decoder, "attention.encoder_att.weight", what)
    _, hidden = matrix(decoder, "fc.weight", what)
    if attended != channels:
        raise ValueError(f"{what}: it attends to {attended} channels of a CNN of {channels}")
    if count != len(config.words):
        raise ValueError(f"{what}: it has {count} words, {vocabulary} {len(config.words)}")
    language = Decoder(
        count, embedding=embedding, channels=channels, hidden=hidden, attention=width
    )
    load_exactly(language, decoder, what)
    pool = nn.AdaptiveAvgPool2d(config.cells)
    cnn = PooledResNet(net, pool, POOL, size=config.preprocess.size)
    return ShowAttendTellNet(config, cnn, language)


def _part(saved: Any, name: str, path: Path) -> Any:
    """The encoder or the decoder of a checkpoint (``encoder``, ``encoder_state_dict``)."""
    if not isinstance(saved, Mapping):
        raise ValueError(f"{path}: expected a dict with encoder and decoder")
    found = [k for k in saved if isinstance(k, str) and k.startswith(name) and "optim" not in k]
    if name in found:
        found = [name]
    if len(found) != 1:
        raise ValueError(f"{path}: expected one {name}, found {', '.join(found) or 'none'}")
    return saved[found[0]]


def _cells(encoder: Any) -> int:
    """To how many cells a side the encoder pools; a state dict does not say."""
    while isinstance(encoder, Inert) and len(parts := encoder.attributes.get("_modules", ())) == 1:
        (name,) = parts
        if name not in WRAPPERS:
            break
        encoder = parts[name]
    said = encoder.attributes if isinstance(encoder, Inert) else {}
    cells: int = said.get("enc_image_size", _CELLS)  # checked by the configuration
    return cells


def _candidates(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())


def _checkpoint(path: Path) -> Path:
    found = [file for file in _candidates(path) if mentions(file, *_NAMES)]
    best = [file for file in found if file.name.startswith("BEST")]
    found = best or found
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{path}: expected one checkpoint, found {names}; give the file")
    return found[0]


def _word_map(path: Path) -> Path:
    """The word map beside a checkpoint; of several the one of the same data set."""
    found = [file for file in sorted(path.parent.glob("*.json")) if _is_word_map(file)]
    same = [f for f in found if f.stem.removeprefix("WORDMAP_") in path.name]
    meant = found if len(found) == 1 else same
    if len(meant) != 1:
        names = ", ".join(file.name for file in found) or "none"
        data = path.name.partition(".")[0].removeprefix("BEST_").removeprefix("checkpoint_")
        raise ValueError(
            f"{path.parent}: expected the word map WORDMAP_{data}.json beside {path.name},"
            f" found {names}"
        )
    return meant[0]


def _is_word_map(file: Path) -> bool:
    if not file.is_file() or file.stat().st_size >= _LARGEST:
        return False
    if file.name.startswith("WORDMAP_"):  # also a damaged one is ours to refuse
        return True
    data = file.read_bytes()
    return all(f'"{mark}":'.encode() in data for mark in (START, END))


def _read_words(path: Path) -> tuple[str, ...]:
    try:
        words = words_by_token(json.loads(path.read_bytes()))
        MarkedWords(words)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a word map: {one_line(error)}") from error
    return words
