"""Karpathy's NeuralTalk2, exactly: Caffe's VGG, a rectified image embedding, an LSTM that writes.

The LSTM reads the image first (its output there is dropped), a start token, then the words. One
token starts and ends captions: 0 here, the last row of the original's tables.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captioning.language.captioner import TokenizedWord, reading
from captioning.language.lstm import Reader, ReadsImageFirst
from captioning.language.vocabularies import WordList
from vlcam.adapters.adapter import FeatureMaps, Reading
from vlcam.adapters.cnn import CnnAdapter
from vlcam.adapters.once_per_image import once_per_image
from vlcam.formats import checkpoint
from vlcam.formats.state_dict import matrix
from vlcam.formats.vocabulary import END, words_of
from vlcam.networks.vgg import CAFFE, SIZE, CaffeVgg
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.expected import described

ARCHITECTURE = "neuraltalk2"

PAPER_PREPROCESS = Preprocess(
    (SIZE, SIZE),
    mean=(123.68, 116.779, 103.939),
    std=(1.0, 1.0, 1.0),
    interpolation="torch7",
    levels=1.0,
)
"""That of the Grad-CAM paper's authors' script (ramprs/grad-cam): the whole photo stretched."""

OWN_PREPROCESS = replace(
    PAPER_PREPROCESS, resize_to=(256, 256), corner=(15, 15), interpolation="torch7-bytes"
)
"""NeuralTalk2's own: the photo stretched, as bytes, and its centre cut out, with one pixel more to
the right and below than to the left and above."""

State = tuple[Tensor, Tensor]
"""Of the LSTM: (layers, N, H) each."""


@dataclass(frozen=True)
class Config:
    """Everything but the weights, whose shapes say the sizes.

    Attributes:
        words: word i (from 0) has token i + 1.
        longest: most words of a caption.
        preprocess: from a photo to 224 x 224 pixels.
        paper_script: whether photos and captions are read as in the script of the Grad-CAM paper's
            authors: the CNN is fed with BGR, though it was trained with RGB, and captions keep
            their capitals.
    """

    words: tuple[str, ...]
    longest: int
    preprocess: Preprocess = OWN_PREPROCESS
    paper_script: bool = False

    cnn = CAFFE
    assumed = ("preprocess",)  # no checkpoint says how photos are prepared

    def __post_init__(self) -> None:
        if not self.words or not all(isinstance(word, str) for word in self.words):
            raise ValueError("words must be a list of texts")
        if isinstance(self.longest, bool) or not isinstance(self.longest, int) or self.longest < 1:
            raise ValueError(
                f"longest is {described(self.longest)}, expected a whole number of at least 1"
            )
        if self.preprocess.size != (SIZE, SIZE):
            raise ValueError(f"photos are prepared to {self.preprocess.size} pixels, not {SIZE}")
        if not isinstance(self.paper_script, bool):
            raise ValueError(
                f"paper_script is {described(self.paper_script)}, expected true or false"
            )

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)

    @classmethod
    def from_json(cls, data: Any) -> Config:
        """Inverse of :meth:`to_json`; ValueError for anything else."""
        return checkpoint.from_json(cls, data, ARCHITECTURE, "captioner")


class NeuralTalk2(nn.Module):
    """The model. V words, E the size of embeddings, H the LSTM's; rows of token 0 come first.

    The encoder's input is always RGB: where the original's is BGR, the input channels of its first
    convolution are reversed.
    """

    def __init__(self, config: Config, state: dict[str, Tensor]) -> None:
        """See :func:`build`."""
        super().__init__()
        self.config = config
        cnn = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
        self.encoder = CaffeVgg(cnn)
        taken, made = cnn["fc6.weight"].shape[1], prod(self.encoder.layers[-1].shape)
        if taken != made:
            raise ValueError(f"fc6 takes {taken} numbers, the layers before it make {made}")
        words, width = matrix(state, "embed_word.weight")
        if words != len(config.words) + 1:
            raise ValueError(
                f"the vocabulary has {len(config.words)} words, embed_word {words - 1}"
            )
        _, hidden = matrix(state, "logits.weight")
        layers = sum(key.startswith("rnn.weight_ih_l") for key in state)
        self.embed_image = nn.Linear(self.encoder.feature_size, width)
        self.relu = nn.ReLU()
        self.embed_word = nn.Embedding(words, width)
        self.rnn = nn.LSTM(width, hidden, max(1, layers))
        self.logits = nn.Linear(hidden, words)

    def image_embedding(self, feature: Tensor) -> Tensor:
        """The LSTM's first input (N, E) from the encoder's features (N, F). Part of the CNN."""
        embedding: Tensor = self.relu(self.embed_image(feature))
        return embedding

    def begin(self, image: Tensor) -> tuple[Tensor, State]:
        """Log-probabilities (N, V + 1) of the first word behind images (N, E), and the state."""
        _, state = self.rnn(image[None])
        return self.step(torch.full((len(image),), END, device=image.device), state)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Log-probabilities (N, V + 1) of what follows those tokens (N,), and the new state."""
        outputs, state = self.rnn(self.embed_word(tokens)[None], state)
        return self.logits(outputs[0]).log_softmax(1), state


class NeuralTalk2Captioner(CnnAdapter, ReadsImageFirst):
    """Adapter of :class:`NeuralTalk2`: its CNN cut at any layer, and its own search."""

    module: NeuralTalk2

    def __init__(self, model: NeuralTalk2, name: str, layer: str | None = None) -> None:
        super().__init__(model, name, layer)
        self._words = WordList(model.config.words)

    def resize(self, size: tuple[int, int]) -> None:
        raise ValueError(f"{self.name} takes photos at its own size only")

    def image_embedding(self, features: FeatureMaps) -> Tensor:
        return once_per_image(
            lambda seen: self.module.image_embedding(self._after(seen.maps)), features
        )

    def reader(self) -> Reader:
        return Reader(self.module.rnn, self.module.embed_word, END)

    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(self.module.logits(states))

    def words(self, text: str) -> list[TokenizedWord]:
        """As NeuralTalk2 prepares captions: lower case, without punctuation."""
        script = self.module.config.paper_script
        found = re.findall("[A-Za-z0-9]+", text) if script else words_of(text)
        return [self._words.find(word) for word in found]

    def read(self, caption: str) -> Reading:
        """The caption as the model reads it, cut to the length of those it was trained with."""
        whole = super().read(caption)
        longest = self.module.config.longest
        words = self.words(caption)
        if len(words) <= longest:
            return whole
        warnings.warn(
            f"the caption has {len(words)} words, {self.name} knows captions of {longest}:"
            " the others are not explained",
            stacklevel=2,
        )
        return reading(caption, words[:longest])

    @torch.no_grad()
    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        """NeuralTalk2's own search.

        Raises:
            ValueError: more beams than the model has words.
        """
        image = self.image_embedding(features)
        tokens = self._greedy(image) if beam == 1 else self._beam_search(image, beam)
        return self._words.written(tokens[: tokens.index(END)] if END in tokens else tokens)

    def describe(self) -> dict[str, Any]:
        script = {"paper_script": True} if self.module.config.paper_script else {}
        return {"family": ARCHITECTURE, **script, **super().describe()}

    def _greedy(self, image: Tensor) -> list[int]:
        tokens: list[int] = []
        log_probabilities, state = self.module.begin(image)
        while len(tokens) < self.module.config.longest and END not in tokens:
            chosen = log_probabilities.argmax(1)
            tokens.append(int(chosen))
            log_probabilities, state = self.module.step(chosen, state)
        return tokens

    def _beam_search(self, image: Tensor, beam: int) -> list[int]:
        """The likeliest (by the sum of log-probabilities) of all captions that were in a beam when
        they ended or reached the greatest length. A caption that has ended stays in its beam and is
        continued: only likelier ones crowd it out, but it takes the place of others."""
        if beam > len(self._words.words) + 1:
            raise ValueError(f"{self.name} has too few words to search with {beam} beams")
        log_probabilities, state = self.module.begin(image)
        sums = log_probabilities.new_zeros(1)
        captions: list[list[int]] = [[]]
        best, best_sum = list[int](), -torch.inf
        for length in range(1, self.module.config.longest + 1):
            values, words = log_probabilities.sort(dim=1, descending=True, stable=True)
            # Each beam's best word first, then each one's second: the order of equal sums.
            candidates = (sums.double()[:, None] + values[:, :beam].double()).T.flatten()
            order = candidates.argsort(descending=True, stable=True)[:beam]
            parents, ranks = order % len(sums), order // len(sums)
            chosen = words[parents, ranks]
            sums = candidates[order].to(values.dtype)
            captions = [
                [*captions[p], word]
                for p, word in zip(parents.tolist(), chosen.tolist(), strict=True)
            ]
            for caption, total in zip(captions, sums.tolist(), strict=True):
                ended = caption[-1] == END or length == self.module.config.longest
                if ended and total > best_sum:
                    best, best_sum = caption, total
            log_probabilities, state = self.module.step(
                chosen, (state[0][:, parents], state[1][:, parents])
            )
        return best


def build(config: Config, state: dict[str, Tensor]) -> NeuralTalk2:
    """A model of the sizes of those weights, which are not loaded yet.

    Raises:
        ValueError: they are not of such a model, or of another number of words.
    """
    with torch.device("meta"):  # random weights of that many would take longer than all the rest
        model = NeuralTalk2(config, state)
    return model.to_empty(device="cpu")


def load_module(path: Path) -> NeuralTalk2:
    """Read a model that :meth:`NeuralTalk2Captioner.save` wrote, from its folder.

    Raises:
        ValueError: naming the file that is missing, truncated, or of another architecture.
    """
    return checkpoint.load_folder(
        path,
        lambda data, state: build(Config.from_json(data), state),
        f"{ARCHITECTURE} captioner",
    )


def as_in_paper(model: NeuralTalk2) -> NeuralTalk2:
    """The model, changed to read photos and captions as the script of the Grad-CAM paper's authors
    does; one that does already is left as it is."""
    if not model.config.paper_script:
        first = model.get_parameter("encoder.conv1_1.weight")
        first.data = first.data.flip(1).contiguous()
        model.config = replace(model.config, preprocess=PAPER_PREPROCESS, paper_script=True)
    return model
