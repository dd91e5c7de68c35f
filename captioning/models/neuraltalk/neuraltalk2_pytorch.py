"""FC captioners of ImageCaptioning.pytorch and neuraltalk2.pytorch (ruotianluo), from their files.

An LSTM reads the image feature (the mean over the last map of a Caffe-style ResNet), then the words
so far, and predicts the next one. Three variants share the decoding and most names: ``fc`` and
``newfc`` (an LSTM whose candidate is the larger of two, not squashed) and ``show_tell`` (an
ordinary LSTM or GRU).

A checkpoint is a folder with ``infos_*.pkl`` (options, vocabulary) and ``model*.pth``, with
``model-cnn*.pth`` where the CNN was fine-tuned. Where it was not, the captioner was trained on
features of an ImageNet ResNet with the weights Caffe users know, run on photos in their own size:
put its ``resnet101.pth`` into the folder to explain photos. (torchvision's weights of that name
belong to another network: its stride sits on another convolution.)
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from captioning.language.captioner import TokenizedWord
from captioning.language.lstm import Reader, ReadsImageFirst
from captioning.language.vocabularies import WordList
from captioning.models.neuraltalk.fc_model import (
    ARCHITECTURE,
    KINDS,
    Config,
    FcModel,
    LanguageModel,
    State,
    load_module,
)
from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.adapters.once_per_image import once_per_image
from vlcam.formats import checkpoint
from vlcam.formats.pickles.names import Namespace
from vlcam.formats.restricted_pickle import read_pickle
from vlcam.formats.state_dict import load_exactly, read_state_dict
from vlcam.formats.vocabulary import UNKNOWN
from vlcam.geometry.cells import derive
from vlcam.geometry.grid import Grid, Placement
from vlcam.models import configuration
from vlcam.networks.channels_last import run_channels_last
from vlcam.networks.resnet import resnet
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.expected import described, expect

LAYERS = ("4", "5", "6", "7")
"""Layers that can be explained: the four stages of the ResNet; the last is the default."""

_END = 0  # also the start token
_UNKNOWN_PENALTY = 1000.0
_DONE = -1000.0
_LARGEST_INFOS = 2**26  # bytes; larger files are not searched for what they are
_LARGEST_SIDE = 640  # of a photo in its own size: that of the COCO photos trained on
_SMALLEST_SIDE = 32


class NeuralTalk2PyTorch(ReadsImageFirst):
    """A ruotianluo FC captioner.

    The layer is a stage of the ResNet. Behind the last one only a mean over the cells follows, so
    features (N, F) computed elsewhere can be explained as maps of one cell (N, F, 1, 1); this works
    where the checkpoint has no CNN.
    """

    module: FcModel

    def __init__(self, model: FcModel, folder: Path, layer: str | None = None) -> None:
        self.name, self.module = model.config.name, model
        self.language = model.language
        self._folder = folder
        self._words = WordList(model.config.words)
        self.cut_at(layer)

    def cut_at(self, layer: str | None) -> None:
        self.layer = layer or LAYERS[-1]
        if self.layer not in LAYERS:
            raise ValueError(
                f"{self.name}: no layer {layer!r};"
                f" known: {', '.join(LAYERS)} (the stages of the CNN)"
            )
        if self.layer != LAYERS[-1]:
            self._cnn()

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """Fine-tuned: stretched to 256 x 256, of that the centre 224 x 224. Else in its own size,
        larger photos made as large as those of COCO."""
        self._cnn()
        if self.module.config.finetuned:
            return Preprocess(size=(224, 224), resize_to=(256, 256))(photo)
        ratio = min(1.0, _LARGEST_SIDE / max(photo.size))
        height, width = (max(_SMALLEST_SIDE, round(ratio * n)) for n in (photo.height, photo.width))
        return Preprocess(size=(height, width))(photo)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        return FeatureMaps(run_channels_last(self._before, pixels))

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return derive(
            self._before, torch.empty(1, 3, *input_size, dtype=self.language.embed.weight.dtype)
        )

    def image_embedding(self, features: FeatureMaps) -> Tensor:
        embedded: Tensor = self.language.img_embed(once_per_image(self._feature, features))
        return embedded

    def reader(self) -> Reader:
        return Reader(self.language.core, self.language.embed, _END)

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self.language.logit(states))

    def words(self, text: str) -> list[TokenizedWord]:
        """Words without punctuation, as the training captions were prepared."""
        bare = text.translate(str.maketrans("", "", string.punctuation))
        return [self._words.find(word, word.lower()) for word in bare.split()]

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        tokens = self.greedy(features) if beam == 1 else self.beam_search(features, beam)
        return self._words.written(tokens)

    def describe(self) -> dict[str, Any]:
        size = "256 x 256, of that the centre 224 x 224" if self.module.config.finetuned else "own"
        return {
            "family": "neuraltalk2-pytorch",
            "caption_model": self.module.config.kind,
            "preprocess": Preprocess().to_json() | {"size": size},
            "assumed as published": ["preprocess"],
        }

    def save(self, folder: Path) -> None:
        checkpoint.save_folder(self.module, self.module.config.to_json(), folder)

    @torch.no_grad()
    def greedy(self, features: FeatureMaps) -> list[int]:
        """The likeliest word at each step, until the end token or the longest caption."""
        tokens: list[int] = []
        log_probabilities, state = self._begin(features)
        while len(tokens) < self.module.config.longest:
            token = int(log_probabilities[0].argmax())
            if token == _END:
                break
            tokens.append(token)
            log_probabilities, state = self._next([token], state)
        return tokens

    @torch.no_grad()
    def beam_search(self, features: FeatureMaps, beam: int) -> list[int]:
        """The originals' beam search, with its peculiarities: the last word of the vocabulary (UNK)
        is never chosen; ``newfc`` takes the likeliest finished caption (by the sum of
        log-probabilities, whatever the length), the older two take the one that is finished
        first."""
        log_probabilities, state = self._begin(features)
        sums = torch.zeros(1)
        captions: list[list[int]] = [[]]
        done: list[tuple[float, list[int]]] = []
        for step in range(self.module.config.longest):
            if self.module.config.unknown_last:
                log_probabilities[:, -1] -= _UNKNOWN_PENALTY
            values, words = log_probabilities.cpu().sort(1, descending=True)
            # Ranks first, then beams: the order in which equal candidates are preferred.
            candidates = (sums[:, None] + values[:, :beam]).T.flatten()
            order = candidates.argsort(descending=True, stable=True)[:beam]
            parents = order % len(sums)
            chosen = words[parents, order // len(sums)]
            sums = candidates[order]
            captions = [
                [*captions[p], w] for p, w in zip(parents.tolist(), chosen.tolist(), strict=True)
            ]
            for i, caption in enumerate(captions):
                if caption[-1] == _END or step == self.module.config.longest - 1:
                    done.append((float(sums[i]), caption))
                    sums[i] = _DONE  # carried on nevertheless, but out of the running
            # The older models keep a view of each finished caption's sum, which the line above
            # overwrites (with any PyTorch since 0.4): all sums are equal, and the first one wins.
            if done and self.module.config.kind != "newfc":
                break
            log_probabilities, state = self._next(chosen.tolist(), _rows(state, parents))
        _, tokens = max(done, key=lambda finished: finished[0])
        return tokens[: tokens.index(_END)] if _END in tokens else tokens

    def _begin(self, features: FeatureMaps) -> tuple[Tensor, State]:
        """Log-probabilities (1, V) of the first word of one image's caption, and the state."""
        image = self.image_embedding(features)
        _, state = self.language.core(image[None])
        return self._next([_END], state)

    def _next(self, tokens: list[int], state: State) -> tuple[Tensor, State]:
        """Log-probabilities (N, V) of the words behind N more tokens, and the new state."""
        weight = self.language.embed.weight
        words = self.language.embed(torch.tensor(tokens, device=weight.device))
        states, state = self.language.core(words[None], state)
        return self.log_probabilities(states[0]), state

    def _feature(self, features: FeatureMaps) -> Tensor:
        maps = features.maps
        if self.layer != LAYERS[-1]:
            maps = self._cnn()[int(self.layer) + 1 :](maps)
        return maps.mean((2, 3))

    def _before(self, pixels: Tensor) -> Tensor:
        maps: Tensor = self._cnn()[: int(self.layer) + 1](pixels)
        return maps

    def _cnn(self) -> nn.Sequential:
        if self.module.cnn is None:
            raise ValueError(
                f"{self._folder}: no CNN to see photos with; model-cnn.pth is missing"
                " (or, for a model trained on features, the resnet101.pth they were computed with)"
            )
        return self.module.cnn


def recognises(path: Path) -> bool:
    """Whether a file belongs to, or a folder holds, a checkpoint of this project, or a model of it
    saved by us."""
    if configuration(path).get("architecture") == ARCHITECTURE:
        return True
    if path.is_file() and path.suffix != ".pth":
        return _is_infos(path)
    return bool(_infos(_folder(path)))


def load(path: Path, layer: str | None = None) -> NeuralTalk2PyTorch:
    """A captioner from a checkpoint's folder, its ``infos`` file or its ``model`` file, or from the
    folder of a model saved by us.

    Where a folder holds both the last and the best model, the best (``-best``) is taken.

    Args:
        layer: one of :data:`LAYERS`; None: the last.

    Raises:
        ValueError: a file is missing, damaged, hostile, of another architecture, or does not fit
            the others; one line says which and why.
    """
    if configuration(path).get("architecture") == ARCHITECTURE:
        model = load_module(path)
    else:
        model = read_checkpoint(path)
    return NeuralTalk2PyTorch(model.eval().requires_grad_(False), _folder(path), layer)


def read_checkpoint(path: Path) -> FcModel:
    """The files of one trained model; errors as for :func:`load`."""
    infos_path, model_path, cnn_path = _files(path)
    options, words = _read_infos(infos_path)
    kind, name = options["caption_model"], options.get("id")
    cell = options.get("rnn_type", "lstm")
    config = Config(
        name=f"{kind} {name if isinstance(name, str) and name else infos_path.stem}",
        kind=kind,
        words=words,
        longest=_longest(kind, options, infos_path),
        unknown_last=kind != "newfc" or words[-1] == UNKNOWN,
        finetuned=cnn_path is not None and cnn_path.name.startswith("model-cnn"),
        cell=expect(cell, str, f"{infos_path}: rnn_type", "a text").lower(),
    )
    what = f"{model_path}: not the weights of a {kind} model"
    # newfc has two names of its own for the same parts.
    state = {
        key.replace("fc_embed.", "img_embed.").removeprefix("_"): tensor
        for key, tensor in read_state_dict(model_path).items()
    }
    try:
        language = LanguageModel(config, state)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    load_exactly(language, state, what)
    if cnn_path is None:
        return FcModel(config, language)
    what = f"{cnn_path}: not the weights of a ResNet"
    cnn, channels = resnet(read_state_dict(cnn_path), "caffe", what)
    if channels != language.img_embed.in_features:
        raise ValueError(
            f"{cnn_path} makes features of {channels} numbers,"
            f" {model_path} takes {language.img_embed.in_features}"
        )
    return FcModel(config, language, cnn)


def _longest(kind: str, options: dict[str, Any], path: Path) -> int:
    """Most words the original writes: its later versions have an option for that."""
    steps = options.get("max_length", 20 if kind == "newfc" else 0) or options["seq_length"]
    return expect(steps, int, f"{path}: the length of captions", "a whole number")


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _infos(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.pkl")) if _is_infos(file)]


def _is_infos(file: Path) -> bool:
    # Damaged or hostile files are ours to refuse where their names say that they are ours.
    if file.name.startswith("infos") and any(file.parent.glob("model*.pth")):
        return True
    small = file.is_file() and file.stat().st_size < _LARGEST_INFOS
    return small and b"caption_model" in file.read_bytes()


def _files(path: Path) -> tuple[Path, Path, Path | None]:
    """The files of options, language model and CNN (if any) of one checkpoint."""
    folder = _folder(path)
    given = path if path.suffix == ".pth" and "-cnn" not in path.name else None
    found = [path] if path.is_file() and path.suffix != ".pth" else _infos(folder)
    if given is not None and len(found) > 1:
        found = [file for file in found if ("-best" in file.stem) == ("-best" in given.stem)]
    found = [file for file in found if "-best" in file.stem] or found
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{folder}: expected one infos file, found {names}; give the file")
    infos = found[0]
    order = ("-best", "") if "-best" in infos.stem else ("", "-best")
    models = [given or folder / f"model{suffix}.pth" for suffix in order]
    cnns = [folder / f"model-cnn{suffix}.pth" for suffix in order]
    model = next((file for file in models if file.is_file()), None)
    if model is None:
        raise ValueError(f"{folder}: no model.pth beside {infos.name}")
    cnn = next((f for f in [*cnns, *sorted(folder.glob("resnet*.pth"))] if f.is_file()), None)
    return infos, model, cnn


def _read_infos(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options, and the words by their ids from 1."""
    infos = expect(read_pickle(path), dict, f"{path}: what it holds", "a dictionary")
    said = infos.get("opt", {})
    said = vars(said) if isinstance(said, Namespace) else said
    options: dict[str, Any] = expect(said, dict, f"{path}: opt", "the options of a training")
    lacking = [name for name in ("opt", "vocab") if name not in infos]
    lacking += [name for name in ("caption_model", "seq_length") if name not in options]
    if lacking:
        raise ValueError(f"{path}: it lacks an option or the vocabulary ({lacking[0]!r})")
    kind = expect(options["caption_model"], str, f"{path}: caption_model", "a text")
    if kind not in KINDS:
        raise ValueError(f"{path}: caption_model is {described(kind)}; known: {', '.join(KINDS)}")
    vocabulary = expect(infos["vocab"], dict, f"{path}: vocab", "a dictionary of words")
    words = dict[int, str]()
    for number, word in vocabulary.items():
        known = isinstance(number, str) and re.fullmatch(r"\d{1,9}", number)
        number = int(number) if known else number
        expect(number, int, f"{path}: an id of its vocabulary", "a whole number")
        words[number] = expect(word, str, f"{path}: word {number} of its vocabulary", "a text")
    if not words or set(words) != set(range(1, len(words) + 1)):
        raise ValueError(f"{path}: the vocabulary's ids are not 1, 2, 3, ...")
    return options, tuple(words[i] for i in range(1, len(words) + 1))


def _rows(state: State, index: Tensor) -> State:
    """Rows of a recurrent network's state."""
    if isinstance(state, tuple):
        return tuple(_rows(part, index) for part in state)
    return state.index_select(1, index.to(state.device))
