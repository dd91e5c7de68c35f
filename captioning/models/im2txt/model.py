"""Google's Show and Tell (Vinyals et al., 2016; im2txt), from its TensorFlow checkpoints.

An LSTM reads the image (the mean over Inception v3's last feature maps, embedded), then the words
so far from ``<S>`` on, and predicts the next one, up to ``</S>``.

A checkpoint is ``PREFIX.index`` and ``PREFIX.data-*``, as
:mod:`vlcam.formats.tensorflow_checkpoint` reads them; beside it lies the vocabulary,
``word_counts.txt``. It may have fewer words than the model has
tokens: what lies beyond them is written ``<UNK>``.
"""

from __future__ import annotations

import heapq
import math
import re
from ast import literal_eval
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captioning.language.captioner import CaptionWord
from captioning.language.lstm import Reader, ReadsImageFirst
from captioning.models.im2txt.inception import SIZE, InceptionV3, from_slim
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.cnn import CnnAdapter
from vlcam.adapters.once_per_image import once_an_image
from vlcam.formats import checkpoint
from vlcam.formats.tensorflow_checkpoint import (
    STATE,
    TensorFlowCheckpoint,
    is_version_1,
    prefix_of,
    prefixes,
    read_checkpoint,
)
from vlcam.models import of_architecture
from vlcam.networks.encoder import load_exactly
from vlcam.photo.preprocess import Preprocess

ARCHITECTURE = "im2txt"
START, END, UNKNOWN = "<S>", "</S>", "<UNK>"
WORDS = "word_counts.txt"
"""How the vocabulary's file is called; any other ``.txt`` of such content will do."""

_CNN = "InceptionV3/"
_IMAGE = "image_embedding/weights"
_WORDS = "seq_embedding/map"
_LOGITS = ("logits/weights", "logits/biases")
_LSTMS = (
    ("lstm/basic_lstm_cell/kernel", "lstm/basic_lstm_cell/bias"),
    ("lstm/basic_lstm_cell/weights", "lstm/basic_lstm_cell/biases"),
    ("lstm/BasicLSTMCell/Linear/Matrix", "lstm/BasicLSTMCell/Linear/Bias"),
)
"""Names of the LSTM's weights and biases: of TensorFlow since 1.2, of 1.0 and of 0.x."""

_UNUSED = ("InceptionV3/Logits/", "InceptionV3/AuxLogits/", "OptimizeLoss/")
"""What a checkpoint may hold besides: classifiers of the CNN, what the training remembers."""

_FORGET_BIAS = 1.0  # added when the cell runs, not stored
_LONGEST = 20  # tokens of a caption that the model writes, <S> and </S> among them
_LEAST = 1e-12  # probability of a word that beam search considers
_HEAD = 2**20  # bytes of a file of version 1 that are searched for names


@dataclass(frozen=True)
class Config:
    """A captioner but for its weights, whose shapes tell its sizes.

    Attributes:
        words: word i has token i; ``<S>`` and ``</S>`` are among them.
        preprocess: from a photo to the CNN's input.
        cnn: what it is.
    """

    words: tuple[str, ...]
    preprocess: Preprocess = field(
        default_factory=lambda: Preprocess(
            size=(SIZE, SIZE),
            resize_to=(346, 346),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            interpolation="tensorflow1",
        )
    )
    cnn: str = "inception-v3-slim"

    def __post_init__(self) -> None:
        if not isinstance(self.words, tuple) or not all(isinstance(w, str) for w in self.words):
            raise ValueError("words: expected a list of strings")
        for word in (START, END):
            if word not in self.words:
                raise ValueError(f"words: {word} is not among them")

    @cached_property
    def tokens(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @property
    def unknown(self) -> int:
        """The token of ``<UNK>``: the one behind the last word, where it is none itself."""
        return self.tokens.get(UNKNOWN, len(self.words))

    def text(self, token: int) -> str:
        return self.words[token] if token < len(self.words) else UNKNOWN

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)


class ShowAndTell(nn.Module):
    """Image and words to logits.

    Args:
        weights: by their names here; their shapes tell the sizes.

    Raises:
        ValueError: one is missing, or there are more words than tokens.
    """

    def __init__(self, config: Config, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.config = config
        prefix = "encoder."
        self.encoder = InceptionV3(
            {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        )
        sizes = []
        for name in ("image.weight", "embed_word.weight", "logits.weight"):
            if name not in weights or weights[name].ndim != 2:
                raise ValueError(f"no matrix {name}")
            sizes.append(tuple(weights[name].shape))
        (width, _), (words, _), (_, hidden) = sizes
        if len(config.words) > words:
            raise ValueError(f"{len(config.words)} words, but the model has {words} tokens only")
        self.image = nn.Linear(self.encoder.feature_size, width, bias=False)
        self.embed_word = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.logits = nn.Linear(hidden, words)


class Im2txt(CnnAdapter, ReadsImageFirst):
    """Adapter of :class:`ShowAndTell`: its CNN cut at one of slim's end points."""

    module: ShowAndTell

    def image_embedding(self, features: FeatureMaps) -> Tensor:
        return once_an_image(lambda seen: self.module.image(self._after(seen.maps)), features)

    def reader(self) -> Reader:
        return Reader(self.module.lstm, self.module.embed_word, self._start)

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self.module.logits(states))

    def words(self, text: str) -> list[CaptionWord]:
        """Words and punctuation marks, in lower case, as the training captions were taken apart."""
        return [self._word(word) for word in self._split(text)]

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[CaptionWord]:
        """The best caption of the original's beam search. Its beam of 1 is greedy search.

        The last token is left out whatever it is, as the original does when it prints: where the
        caption was not finished, a word is lost.
        """
        best = self.beam_search(features, beam)[0]
        text = self.module.config.text
        return [CaptionWord(text(token), (token,)) for token in best.tokens[1:-1]]

    def describe(self) -> dict[str, Any]:
        return {"family": "im2txt"} | super().describe()

    @torch.no_grad()
    def beam_search(
        self, features: FeatureMaps, beam: int = 3, length_power: float = 0.0
    ) -> list[Caption]:
        """The original's beam search over one image's captions; the best first.

        Finished captions compete among themselves, and unfinished ones among themselves; these are
        returned only if none was finished.

        Args:
            length_power: finished captions are compared by log-probability / length **
                ``length_power``, where the length counts ``<S>`` and ``</S>``.
        """
        _, state = self.module.lstm(self.image_embedding(features)[:, None])
        partial = [Caption((self._start,), 0.0, 0.0, (state[0][:, 0], state[1][:, 0]))]
        finished: list[Caption] = []
        for _ in range(_LONGEST - 1):
            begun, partial = partial, []
            probabilities, states = self._next(begun)
            for caption, row, after in zip(begun, probabilities, states, strict=True):
                # Of equally likely words the first, as a stable sort has it.
                likely = np.argsort(-row, kind="stable")[:beam].tolist()
                for word in likely:
                    if row[word] < _LEAST:
                        continue
                    longer = caption.longer(word, math.log(row[word]), after)
                    if word == self._end:
                        _push(finished, longer.normalised(length_power), beam)
                    else:
                        _push(partial, longer, beam)
            if not partial:
                break
        return sorted(finished or partial, reverse=True)

    def _next(self, captions: list[Caption]) -> tuple[np.ndarray, list[tuple[Tensor, Tensor]]]:
        """Probabilities (N, V) of the words behind N captions, and the LSTM's states then."""
        last = [caption.tokens[-1] for caption in captions]
        table = self.module.embed_word
        words = table(torch.tensor(last, device=table.weight.device))
        h, c = (torch.stack(part, 1) for part in zip(*(c.state for c in captions), strict=True))
        outputs, (h, c) = self.module.lstm(words[:, None], (h, c))
        logits = self.module.logits(outputs[:, 0])
        exact = logits if logits.dtype == torch.float64 else logits.float()
        after = list(zip(h.unbind(1), c.unbind(1), strict=True))
        return exact.softmax(-1).cpu().numpy(), after

    @property
    def _start(self) -> int:
        return self.module.config.tokens[START]

    @property
    def _end(self) -> int:
        return self.module.config.tokens[END]

    def _split(self, text: str) -> Iterator[str]:
        from nltk.tokenize import word_tokenize

        for i, piece in enumerate(re.split(f"({START}|{END}|{UNKNOWN})", text)):
            if i % 2:  # as captions of the model's own may have them
                yield piece
                continue
            # Without a model of sentences, which nltk would have to download: the full stop of each
            # but the last is still part of its last word.
            for word in word_tokenize(piece.lower(), preserve_line=True):
                if word.endswith(".") and len(word) > 1 and word not in self.module.config.tokens:
                    yield word[:-1]
                    yield "."
                else:
                    yield word

    def _word(self, word: str) -> CaptionWord:
        token = self.module.config.tokens.get(word)
        if token is not None:
            return CaptionWord(word, (token,))
        stand_in = self.module.config.unknown
        if stand_in >= self.module.embed_word.num_embeddings:
            return CaptionWord(word, (), unknown=True)
        return CaptionWord(word, (stand_in,), unknown=word != UNKNOWN)


@dataclass(frozen=True, eq=False)
class Caption:
    """A caption of beam search; of two the one with the higher score is the greater.

    Attributes:
        tokens: from ``<S>`` on, up to ``</S>`` if it is finished.
        log_probability: of the tokens behind ``<S>``.
        score: what captions are compared by.
        state: (h, c) of the LSTM before its last token.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    state: tuple[Tensor, Tensor] = field(repr=False)

    def __lt__(self, other: Caption) -> bool:
        return self.score < other.score

    def longer(self, token: int, log_probability: float, state: tuple[Tensor, Tensor]) -> Caption:
        total = self.log_probability + log_probability
        return Caption((*self.tokens, token), total, total, state)

    def normalised(self, power: float) -> Caption:
        score = self.log_probability / len(self.tokens) ** power
        return Caption(self.tokens, self.log_probability, score, self.state)


def _push(captions: list[Caption], caption: Caption, most: int) -> None:
    """Keep so many of the best captions, in a heap."""
    (heapq.heappush if len(captions) < most else heapq.heappushpop)(captions, caption)


def recognises(path: Path) -> bool:
    """Whether a file belongs to, or a folder holds, such a checkpoint; or it is one of ours."""
    if of_architecture(ARCHITECTURE)(path):
        return True
    if path.is_dir() or path.name == STATE:
        folder = path if path.is_dir() else path.parent
        return any(map(_is_im2txt, prefixes(folder))) or any(map(_is_version_1, folder.iterdir()))
    try:
        prefix = prefix_of(path)
    except ValueError:
        return _is_version_1(path)
    return prefix in prefixes(path.parent) and _is_im2txt(prefix)


def load(path: Path, layer: str | None = None) -> Im2txt:
    """A captioner from a checkpoint (its folder, prefix or any of its files), or from one of ours.

    Args:
        layer: an end point of slim's Inception v3; None: ``Mixed_7c``.

    Raises:
        ValueError: a file is missing, damaged, of another architecture, or does not fit the
            others; one line says which and why.
    """
    if of_architecture(ARCHITECTURE)(path):
        folder = path if path.is_dir() else path.parent
        model = checkpoint.load(path, _build, "im2txt captioner")
        return Im2txt(model.requires_grad_(False), folder.name, layer)
    stored = read_checkpoint(path)
    config = Config(_read_words(stored.prefix))
    state = _state(stored)
    what = f"{stored.prefix}: not an im2txt captioner"
    try:
        model = ShowAndTell(config, state)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    load_exactly(model, state, what)
    return Im2txt(model.eval().requires_grad_(False), stored.prefix.name, layer)


def _build(data: Any, weights: dict[str, Tensor]) -> ShowAndTell:
    return ShowAndTell(checkpoint.from_json(Config, data, ARCHITECTURE, "captioner"), weights)


def _is_im2txt(prefix: Path) -> bool:
    """Whether that checkpoint, or what is left of it, is of this family."""
    index = prefix.with_name(f"{prefix.name}.index")
    if not index.is_file():
        return bool(_word_files(prefix.parent))
    try:
        names = read_checkpoint(index).variables
    except ValueError:
        return _CNN.encode() in index.read_bytes()
    return _IMAGE in names and any(name.startswith(_CNN) for name in names)


def _is_version_1(path: Path) -> bool:
    """Whether it is one file that seems to hold this family's variables."""
    if not is_version_1(path):
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD)
    # Compressed: names are whole as far as nothing like them came before.
    return all(part in head for part in (b"InceptionV3/Conv2d_1a", b"image_embed"))


def _state(stored: TensorFlowCheckpoint) -> dict[str, Tensor]:
    """Our names and layout for a checkpoint's variables.

    Raises:
        ValueError: some are missing, or the LSTM's are no LSTM's.
    """
    what = f"{stored.prefix}: not an im2txt captioner"
    names = [name for name in stored.variables if _is_weight(name, stored)]
    lstm = next((pair for pair in _LSTMS if pair[0] in names), _LSTMS[0])
    single = (_IMAGE, _WORDS, *_LOGITS, *lstm)
    missing = [name for name in single if name not in names]
    if missing:
        raise ValueError(f"{what}: missing {', '.join(missing)}")
    values = {name: torch.from_numpy(stored.read(name).astype(np.float32)) for name in single}
    state = {
        "image.weight": values[_IMAGE].T,
        "embed_word.weight": values[_WORDS],
        "logits.weight": values[_LOGITS[0]].T,
        "logits.bias": values[_LOGITS[1]],
    }
    kernel, bias = (values[name] for name in lstm)
    if kernel.ndim != 2 or bias.ndim != 1 or kernel.shape[1] != len(bias) or len(bias) % 4:
        shapes = f"{tuple(kernel.shape)} and {tuple(bias.shape)}"
        raise ValueError(f"{what}: {lstm[0]} and {lstm[1]} have shapes {shapes}")
    state |= _lstm(kernel, bias)
    seen = [name for name in names if name.startswith(_CNN)]
    cnn = from_slim((name.removeprefix(_CNN), stored.read(name)) for name in seen)
    state |= {f"encoder.{name}": value for name, value in cnn.items()}
    others = [name for name in names if name not in single and name not in seen]
    return state | {name: torch.zeros(0) for name in others}  # to be refused by name


def _is_weight(name: str, stored: TensorFlowCheckpoint) -> bool:
    """Whether a variable is part of the model: no counter, no classifier of the CNN, and nothing
    that the training remembers of another variable (which begins with its name)."""
    counts = stored.variables[name].shape == ()
    remembered = name.rpartition("/")[0] in stored.variables
    return not counts and not remembered and not name.startswith(_UNUSED)


def _lstm(kernel: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """Gates i, j (the candidate), f, o of (input and h, 4 H) weights become i, f, j, o."""

    def ordered(values: Tensor) -> Tensor:
        i, j, f, o = values.chunk(4)
        return torch.cat([i, f, j, o])

    hidden = len(bias) // 4
    weights = ordered(kernel.T)
    forget = torch.zeros(4, hidden)
    forget[1] = _FORGET_BIAS
    return {
        "lstm.weight_ih_l0": weights[:, :-hidden],
        "lstm.weight_hh_l0": weights[:, -hidden:],
        "lstm.bias_ih_l0": ordered(bias),
        "lstm.bias_hh_l0": forget.flatten(),
    }


def _read_words(prefix: Path) -> tuple[str, ...]:
    """The vocabulary beside a checkpoint."""
    found = _word_files(prefix.parent)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(
            f"{prefix.parent}: expected one vocabulary beside {prefix.name}, {WORDS} with lines of"
            f" a word and its count, {START} and {END} among them; found {names}"
        )
    return _words_in(found[0])


def _word_files(folder: Path) -> list[Path]:
    """The file of the usual name; or else those with such content."""
    if (folder / WORDS).is_file():
        return [folder / WORDS]
    found = []
    for file in sorted(folder.glob("*.txt")):
        try:
            _words_in(file)
        except ValueError:
            continue
        found.append(file)
    return found


def _words_in(path: Path) -> tuple[str, ...]:
    """The first of the two columns of a file.

    Raises:
        ValueError: there are not two, or it is none of this kind.
    """
    try:
        lines = path.read_bytes().rstrip().split(b"\n")
        pairs = [line.split() for line in lines]
        words = [word.decode() for word, count in pairs if int(count) >= 0]
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: not lines of a word and its count ({error})") from error
    if all(word[:2] in ("b'", 'b"') for word in words):  # Python 3's way to write Python 2's
        words = [_unquoted(word, path) for word in words]
    if START not in words or END not in words:
        raise ValueError(f"{path}: {START} and {END} are not among its words")
    return tuple(words)


def _unquoted(word: str, path: Path) -> str:
    try:
        if not re.fullmatch(r"""b(['"]).*\1""", word):
            raise ValueError("not bytes")
        return str(literal_eval(word).decode())
    except (SyntaxError, ValueError, AttributeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path}: {word[:50]} is no word") from error
