"""The captioner of yunjey's PyTorch tutorial (``image_captioning``), from its own files.

The mean over a ResNet's last map goes through a linear layer and a batch normalisation, and is the
first input of an LSTM (after Vinyals et al., 2015); ``<start>`` and the words so far follow.

A checkpoint is a folder with ``encoder-EPOCH-STEP.ckpt``, ``decoder-EPOCH-STEP.ckpt`` (state dicts;
``.pkl`` in earlier versions) and ``vocab.pkl``, a pickled object of the project's own class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captioning.language.captioner import TokenizedWord
from captioning.language.decoding import Search, State, search
from captioning.language.lstm import Reader, ReadsImageFirst
from captioning.language.vocabularies import UNKNOWN, MarkedWords, words_by_token
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.cnn import CnnAdapter
from vlcam.formats import checkpoint
from vlcam.formats.restricted_pickle import read_pickle
from vlcam.formats.state_dict import load_exactly, matrix, read_state_dict
from vlcam.formats.torch_pickle import mentions
from vlcam.models import configuration
from vlcam.networks.resnet import PooledResNet, resnet
from vlcam.photo.preprocess import Preprocess

ARCHITECTURE = "tutorial-captioner"
VOCABULARY = "vocab.pkl"

_LARGEST = 2**26  # bytes; larger files are no vocabularies
_LONGEST = 20  # steps that the original takes, with the one that gives <start>
_SUFFIXES = (".ckpt", ".pkl", ".pth", ".pt")  # of equals, the first is taken
_ENCODERS = (
    ("resnet.0.weight", "linear.weight", "bn.running_mean"),
    ("resnet.conv1.weight", "resnet.fc.weight", "bn.running_mean"),
)
"""Names of weights, now and in the project's first versions."""
_DECODER = ("embed.weight", "lstm.weight_ih_l0", "linear.weight")
_OTHER = {"encoder": "decoder", "decoder": "encoder"}


@dataclass(frozen=True)
class Config:
    """Everything but the weights.

    Attributes:
        words: word i has token i.
        preprocess: from a photo to the CNN's input.
        cnn: what it is.
    """

    words: tuple[str, ...]
    preprocess: Preprocess = field(
        default_factory=lambda: Preprocess(size=(224, 224), interpolation="lanczos")
    )
    cnn: str = "resnet"

    assumed = ("preprocess",)  # no checkpoint says how photos are prepared

    def __post_init__(self) -> None:
        MarkedWords(self.words)  # refuses those without marks

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)


class Embedding(nn.Module):
    """Image features (N, F) to the LSTM's first input (N, E)."""

    def __init__(self, feature: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(feature, width)
        self.bn = nn.BatchNorm1d(width)

    def forward(self, feature: Tensor) -> Tensor:
        embedded: Tensor = self.bn(self.linear(feature))
        return embedded


class Decoder(nn.Module):
    """The language model; names of the weights as in the files."""

    def __init__(self, words: int, width: int, *, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, words)


class TutorialNet(nn.Module):
    """The two networks as one."""

    def __init__(
        self, config: Config, encoder: PooledResNet, embedding: Embedding, decoder: Decoder
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.embedding, self.decoder = encoder, embedding, decoder


class TutorialCaptioner(CnnAdapter, ReadsImageFirst):
    """Adapter of :class:`TutorialNet`; see :class:`CnnAdapter`.

    Layers are the ResNet's stages (``resnet.7`` is the default) and blocks (``resnet.7.0``).
    """

    module: TutorialNet

    def __init__(self, model: TutorialNet, name: str, layer: str | None = None) -> None:
        super().__init__(model, name, layer)
        self._words = MarkedWords(model.config.words)

    def image_embedding(self, features: FeatureMaps) -> Tensor:
        embedded: Tensor = self.module.embedding(self.image_features(features).flatten(1))
        return embedded

    def reader(self) -> Reader:
        return Reader(self.module.decoder.lstm, self.module.decoder.embed, self._words.start)

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self.module.decoder.linear(states))

    def words(self, text: str) -> list[TokenizedWord]:
        """Lower-case words and punctuation marks, as nltk tokenises a caption."""
        from nltk.tokenize import word_tokenize

        words: list[str] = []
        for piece in re.split(f"({re.escape(UNKNOWN)})", text.lower()):
            # Without a model of sentences, which nltk would have to download.
            words += [piece] if piece == UNKNOWN else word_tokenize(piece, preserve_line=True)
        return [self._words.find(word) for word in words]

    @torch.no_grad()
    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        """Greedy as the original's ``sample``: twenty steps, the first of which gives ``<start>``,
        cut at ``<end>``. The original has no beam search; wider beams are ours."""
        decoder = self.module.decoder
        states, state = decoder.lstm(self.image_embedding(features)[:, None])
        if beam > 1:
            marks = self._words
            how = Search(
                beam,
                max_words=_LONGEST - 1,
                start=marks.start,
                end=marks.end,
                forbidden=marks.forbidden,
            )
            (caption,) = search(self._step, state, 1, how, row_dim=1)
            return marks.written(caption.tokens)
        tokens: list[int] = []
        while len(tokens) < _LONGEST and self._words.end not in tokens:
            tokens.append(int(decoder.linear(states[:, -1]).argmax()))
            last = torch.tensor([tokens[-1:]], device=states.device)
            states, state = decoder.lstm(decoder.embed(last), state)
        return self._words.written(tokens)

    def describe(self) -> dict[str, Any]:
        return {"family": ARCHITECTURE} | super().describe()

    def _step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        decoder = self.module.decoder
        states, state = decoder.lstm(decoder.embed(tokens)[:, None], state)
        return self.log_probabilities(states[:, 0]), state


def recognises(path: Path) -> bool:
    """Whether a file belongs to, or a folder holds, a checkpoint of this project, or one of ours
    of its architecture."""
    if configuration(path).get("architecture") == ARCHITECTURE:
        return True
    return any(_part(file) for file in _candidates(path))


def load(path: Path, layer: str | None = None) -> TutorialCaptioner:
    """A captioner from a checkpoint's folder, its encoder's file or its decoder's.

    Of several checkpoints in a folder the one of the last epoch and step is taken.

    Raises:
        ValueError: a file is missing, damaged, hostile, of another architecture, or does not fit
            the others; or it cannot be told which are meant.
    """
    folder = path if path.is_dir() else path.parent
    if configuration(path).get("architecture") == ARCHITECTURE:
        model = checkpoint.load_folder(path, _build, "tutorial captioner")
    else:
        model = _read(path)
    return TutorialCaptioner(model.eval().requires_grad_(False), folder.resolve().name, layer)


def _read(path: Path) -> TutorialNet:
    encoder_path, decoder_path = _pair(path)
    vocabulary = _vocabulary(encoder_path)
    return _assemble(
        Config(_read_words(vocabulary)),
        _now_named(read_state_dict(encoder_path)),
        read_state_dict(decoder_path),
        no_encoder=f"{encoder_path}: not the weights of an encoder",
        no_decoder=f"{decoder_path}: not the weights of a decoder",
        vocabulary=f"the vocabulary of {vocabulary}",
    )


def _build(data: Any, state: dict[str, Tensor]) -> TutorialNet:
    """From what :meth:`TutorialCaptioner.save` wrote."""
    config = checkpoint.from_json(Config, data, ARCHITECTURE, "captioner")
    encoder, decoder = dict[str, Tensor](), dict[str, Tensor]()
    for name, tensor in state.items():
        part, _, rest = name.partition(".")  # encoder, embedding or decoder
        (decoder if part == "decoder" else encoder)[rest] = tensor
    what = "not the weights of this captioner"
    return _assemble(
        config, encoder, decoder, no_encoder=what, no_decoder=what, vocabulary="its vocabulary"
    )


def _assemble(
    config: Config,
    encoder: dict[str, Tensor],
    decoder: dict[str, Tensor],
    *,
    no_encoder: str,
    no_decoder: str,
    vocabulary: str,
) -> TutorialNet:
    """The networks of those weights.

    Args:
        no_encoder, no_decoder: how errors about the weights begin.
        vocabulary: how errors call it.
    """
    trunk = {k.removeprefix("resnet."): v for k, v in encoder.items() if k.startswith("resnet.")}
    net, channels = resnet(trunk, "torchvision", no_encoder)
    width, feature = matrix(encoder, "linear.weight", no_encoder)
    if feature != channels:
        raise ValueError(f"{no_encoder}: linear takes {feature} features of a CNN of {channels}")
    embedding = Embedding(feature, width)
    rest = {k: v for k, v in encoder.items() if not k.startswith("resnet.")}
    load_exactly(embedding, rest, no_encoder)
    count, inputs = matrix(decoder, "embed.weight", no_decoder)
    _, hidden = matrix(decoder, "linear.weight", no_decoder)
    if inputs != width:
        raise ValueError(f"{no_decoder}: it takes {inputs} numbers, the encoder gives {width}")
    if count != len(config.words):
        raise ValueError(f"{no_decoder}: it has {count} words, {vocabulary} {len(config.words)}")
    layers = sum(name.startswith("lstm.weight_ih_l") for name in decoder)
    language = Decoder(count, inputs, hidden=hidden, layers=max(1, layers))
    load_exactly(language, decoder, no_decoder)
    cnn = PooledResNet(net, nn.AdaptiveAvgPool2d(1), size=config.preprocess.size)
    return TutorialNet(config, cnn, embedding, language)


def _now_named(encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """The project's first encoders had the linear layer in place of the ResNet's classifier."""
    if "linear.weight" in encoder:
        return encoder
    return {name.replace("resnet.fc.", "linear."): value for name, value in encoder.items()}


def _candidates(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())


def _part(file: Path) -> str | None:
    """``encoder``, ``decoder``, or neither."""
    if any(mentions(file, *names) for names in _ENCODERS):
        return "encoder"
    return "decoder" if mentions(file, *_DECODER) else None


def _pair(path: Path) -> tuple[Path, Path]:
    """The files of encoder and decoder that are meant by one of them, or by their folder."""
    parts = {file: part for file in _candidates(path) if (part := _part(file))}
    pairs = set()
    for file, part in parts.items():
        if (partner := _partner(file, part)) is not None:
            pairs.add((file, partner) if part == "encoder" else (partner, file))
    if not pairs:
        file, part = next(iter(parts.items()))
        other = _OTHER[part]
        expected = file.name.replace(part, other)
        expected = expected if expected != file.name else f"{other}-EPOCH-STEP.ckpt"
        raise ValueError(f"{file}: no {other} beside it; expected {expected}")
    last = max(_order(encoder) for encoder, _ in pairs)
    latest = sorted(pair for pair in pairs if _order(pair[0]) == last)
    if len(latest) > 1:
        names = ", ".join(encoder.name for encoder, _ in latest)
        raise ValueError(f"{path}: it cannot be told which of {names} is meant; give the file")
    return latest[0]


def _partner(file: Path, part: str) -> Path | None:
    """The file of the other part: by its name; where names do not tell, the only one there is."""
    name = file.name.replace(part, _OTHER[part])
    if name != file.name:
        return file.with_name(name) if file.with_name(name).is_file() else None
    beside = {file: part} | {other: _part(other) for other in _candidates(file.parent)}
    others = [other for other, kind in beside.items() if kind == _OTHER[part]]
    return others[0] if len(others) == 1 and list(beside.values()).count(part) == 1 else None


def _order(encoder: Path) -> tuple[tuple[int, ...], int]:
    """By epoch and step, which are in the name; of equals, the one with today's suffix is last."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", encoder.stem))
    kind = _SUFFIXES.index(encoder.suffix) if encoder.suffix in _SUFFIXES else len(_SUFFIXES)
    return numbers, -kind


def _vocabulary(encoder: Path) -> Path:
    """The vocabulary's file: beside the encoder, or where the project itself puts it."""
    folder = encoder.parent
    found = [file for file in sorted(folder.iterdir()) if _is_vocabulary(file)]
    found = [file for file in found if file.name == VOCABULARY] or found
    found = found or [file for file in [folder.parent / "data" / VOCABULARY] if file.is_file()]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(
            f"{folder}: expected the vocabulary {VOCABULARY} beside {encoder.name}, found {names}"
        )
    return found[0]


def _is_vocabulary(file: Path) -> bool:
    if file.suffix not in (".pkl", ".pickle", ".p") or not file.is_file():
        return False
    return file.stat().st_size < _LARGEST and b"word2idx" in file.read_bytes()


def _read_words(path: Path) -> tuple[str, ...]:
    vocabulary = read_pickle(path, classes=("Vocabulary",))
    try:
        words = words_by_token(getattr(vocabulary, "word2idx", None))
        listed = getattr(vocabulary, "idx2word", None)
        if listed is not None and listed != dict(enumerate(words)):
            raise ValueError("its word2idx and its idx2word contradict each other")
        MarkedWords(words)
    except ValueError as error:
        raise ValueError(f"{path}: not a vocabulary of this project: {error}") from error
    return words
