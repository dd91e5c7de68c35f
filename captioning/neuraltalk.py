"""NeuralTalk2's captioner: CNN -> image embedding -> LSTM -> words.

The image embedding is the LSTM's first input (what it says then is dropped), ``END`` as a start
token the second, the caption's words follow (Karpathy's neuraltalk2; the captioner of section 8.1
of Selvaraju et al., IJCV 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning.decoding import Caption, Search, search, search_all
from vlcam import checkpoint
from vlcam.cnn import Encoder
from vlcam.preprocess import Preprocess
from vlcam.vocabulary import END, Vocabulary

ARCHITECTURE = "neuraltalk"


@dataclass(frozen=True)
class Config:
    """Everything but the weights.

    Attributes:
        cnn: name of the encoder (see :class:`vlcam.cnn.Encoder`).
        vocabulary: the words it can write.
        preprocess: from a photo to the CNN's input.
        embedding, hidden: sizes of the embeddings and of the LSTM's state.
        dropout_input, dropout_output: in training, of the image feature and the word embeddings,
            and of the LSTM's output.
        length_power: of its beam search (see :class:`captioning.decoding.Search`). Compared by
            plain log-probability (0) a beam search prefers captions of three words.
    """

    cnn: str
    vocabulary: Vocabulary
    preprocess: Preprocess = field(default_factory=Preprocess)
    embedding: int = 256
    hidden: int = 512
    dropout_input: float = 0.3
    dropout_output: float = 0.5
    length_power: float = 0.7

    def __post_init__(self) -> None:
        for name in ("embedding", "hidden"):
            size = getattr(self, name)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} is {size!r}, expected a whole number of at least 1")
        for name in ("dropout_input", "dropout_output"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ValueError(f"{name} is {share!r}, expected a number in 0..1")
        power = self.length_power
        if not isinstance(power, int | float) or not 0 <= power < math.inf:
            raise ValueError(f"length_power is {power!r}, expected a number of at least 0")

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)

    @classmethod
    def from_json(cls, data: Any) -> Config:
        """Inverse of :meth:`to_json`; ValueError for anything else."""
        return checkpoint.from_json(cls, data, ARCHITECTURE, "captioner")


class NeuralTalk(nn.Module):
    """The captioner. V is the number of tokens, words and ``END``; H the LSTM's size.

    ``standardise`` brings the image feature to the scale of its embedding. Without it the features
    of all photos are nearly the same (the mean of a rectified map has much the same value on every
    photo), and an LSTM that starts from them learns to write without looking.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.cnn, config.preprocess.size)
        features, tokens = self.encoder.feature_size, len(config.vocabulary)
        self.standardise = nn.BatchNorm1d(features, affine=False)
        self.embed_image = nn.Linear(features, config.embedding)
        self.embed_word = nn.Embedding(tokens, config.embedding)
        self.rnn = nn.LSTM(config.embedding, config.hidden, batch_first=True)
        self.logits = nn.Linear(config.hidden, tokens)
        nn.init.uniform_(self.embed_word.weight, -0.1, 0.1)
        nn.init.uniform_(self.logits.weight, -0.1, 0.1)
        nn.init.zeros_(self.logits.bias)
        # Remember by default (Jozefowicz et al. 2015): the image is the first of many inputs.
        nn.init.ones_(self.rnn.get_parameter("bias_ih_l0")[config.hidden : 2 * config.hidden])

    def image_embedding(self, feature: Tensor) -> Tensor:
        """The LSTM's first input (N, E) from the encoder's image feature (N, F)."""
        embedding: Tensor = self.embed_image(self._drop_input(self.standardise(feature)))
        return embedding

    def hidden_states(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """The LSTM's outputs (N, L + 1, H) under teacher forcing.

        Args:
            feature: (N, F) from the encoder.
            tokens: (N, L) of captions, without start; padded with ``END`` on the right.

        Row l has seen the image and the tokens before l: ``logits`` of it predict token l.
        """
        read = functional.pad(tokens, (1, 0), value=END)
        image = self.image_embedding(feature).unsqueeze(1)
        inputs = torch.cat([image, self._drop_input(self.embed_word(read))], dim=1)
        outputs: Tensor = self.rnn(inputs)[0][:, 1:]
        return functional.dropout(outputs, self.config.dropout_output, self.training)

    def forward(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, L + 1, V) of each token and of the end; see :meth:`hidden_states`."""
        logits: Tensor = self.logits(self.hidden_states(feature, tokens))
        return logits

    def start(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """The LSTM's state (1, N, H), (1, N, H) after it has seen the image."""
        state: tuple[Tensor, Tensor] = self.rnn(self.image_embedding(feature).unsqueeze(1))[1]
        return state

    def step(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Log-probabilities (N, V) of what follows those tokens (N,), and the next state."""
        words = self._drop_input(self.embed_word(tokens)).unsqueeze(1)
        outputs, state = self.rnn(words, state)
        dropped = functional.dropout(outputs[:, 0], self.config.dropout_output, self.training)
        return self.logits(dropped).log_softmax(dim=1), state

    def start_blind(self) -> None:
        """Begin with an image embedding of next to nothing, beside a fixed CNN: what random weights
        make of the background, which is much the same on every photo, would never be unlearned,
        and be seen in the maps."""
        nn.init.normal_(self.embed_image.weight, std=1e-3)
        nn.init.zeros_(self.embed_image.bias)

    def write(self, feature: Tensor, beams: int = 1) -> list[Caption]:
        """A caption for each image feature (N, F); never with ``UNK``."""
        with torch.no_grad():
            start = self.start(feature)
        return search(self.step, start, len(feature), self._search(beams), row_dim=1)

    def candidates(self, feature: Tensor, beams: int) -> list[list[Caption]]:
        """The captions a beam search compares in the end, the best first."""
        with torch.no_grad():
            start = self.start(feature)
        return search_all(self.step, start, len(feature), self._search(beams), row_dim=1)

    def _search(self, beams: int) -> Search:
        power, forbidden = self.config.length_power, (self.config.vocabulary.unknown,)
        return Search(beams, length_power=power, forbidden=forbidden)

    def _drop_input(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.config.dropout_input, self.training)


def save(model: NeuralTalk, folder: Path, half: bool = False) -> None:
    """Write ``config.json`` and ``model.safetensors`` (float16 where ``half``) to a folder."""
    checkpoint.save(model, model.config.to_json(), folder, half)


def load(path: Path) -> NeuralTalk:
    """Read a captioner from its folder (or either file in it), in float32 and eval mode.

    Raises ValueError naming the file that is missing, truncated, or of another architecture.
    """
    return checkpoint.load(
        path, lambda data: NeuralTalk(Config.from_json(data)), f"{ARCHITECTURE} captioner"
    )
