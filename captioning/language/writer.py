"""The LSTM that writes: its first input is the embedded image feature, then come the words.

Its output at the image is dropped; ``END`` as a start token is its second input, the caption's
words come next (Karpathy's neuraltalk2; DenseCap describes its regions in the same way).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning.language.decoding import Caption, Search, search, search_all
from vlcam.formats.vocabulary import END, Vocabulary
from vlcam.utils.messages.expected import described

MOST_BEAMS, MOST_POWER = 100, 10
"""More of them only take memory, or let the longest caption win whatever is said of it."""


@dataclass(frozen=True, kw_only=True)
class WriterConfig:
    """Everything but the weights.

    Attributes:
        vocabulary: the words it can write.
        embedding, hidden: sizes of the embeddings and of the LSTM's state.
        dropout_input, dropout_output: in training, of the image feature and the word embeddings,
            and of the LSTM's output.
        length_power: of its beam search (see :class:`captioning.language.decoding.Search`).
            Compared by plain log-probability (0) a beam search prefers captions of three words.
        beams: width of that search where none is asked for: that of which the power was chosen.
        unfinished: what captions do not end with, of one word ("in") or of several ("a black").
    """

    vocabulary: Vocabulary
    embedding: int = 256
    hidden: int = 512
    dropout_input: float = 0.3
    dropout_output: float = 0.5
    length_power: float = 0.7
    beams: int = 1
    unfinished: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("embedding", "hidden", "beams"):
            size = getattr(self, name)
            if not isinstance(size, int) or size < 1:
                raise ValueError(
                    f"{name} is {described(size)}, expected a whole number of at least 1"
                )
        for name in ("dropout_input", "dropout_output"):
            share = getattr(self, name)
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ValueError(f"{name} is {described(share)}, expected a number in 0..1")
        if isinstance(self.beams, bool) or self.beams > MOST_BEAMS:
            raise ValueError(
                f"beams is {described(self.beams)}, expected a whole number in 1..{MOST_BEAMS}"
            )
        power = self.length_power
        if not isinstance(power, int | float) or not 0 <= power <= MOST_POWER:
            raise ValueError(
                f"length_power is {described(power)}, expected a number in 0..{MOST_POWER}"
            )
        endings: object = self.unfinished
        if not isinstance(endings, list | tuple):
            raise ValueError(f"unfinished is {described(endings)}, expected a list of texts")
        for ending in endings:
            if not isinstance(ending, str) or not ending.split():
                raise ValueError(
                    f"one of unfinished is {described(ending)}, expected words that captions do"
                    " not end with"
                )
        if missing := self.vocabulary.missing(" ".join(self.unfinished).split()):
            raise ValueError(f"unfinished: {described(missing[0])} is not in the vocabulary")


class Writer(nn.Module):
    """The LSTM. F is the size of image features, V the number of tokens, words and ``END``, H the
    LSTM's size."""

    def __init__(self, features: int, config: WriterConfig) -> None:
        super().__init__()
        self.add_layers(features, config)

    def add_layers(self, features: int, config: WriterConfig) -> None:
        """For a model with layers before these: modules are registered in the order they run."""
        self.config = config
        tokens = len(config.vocabulary)
        self.embed_image = nn.Linear(features, config.embedding)
        self.embed_word = nn.Embedding(tokens, config.embedding)
        self.rnn = nn.LSTM(config.embedding, config.hidden, batch_first=True)
        nn.init.uniform_(self.embed_word.weight, -0.1, 0.1)
        logits = nn.Linear(config.hidden, tokens)
        nn.init.uniform_(logits.weight, -0.1, 0.1)
        nn.init.zeros_(logits.bias)
        self.logits: nn.Module = logits
        # Remember by default (Jozefowicz et al. 2015): the image is the first of many inputs.
        nn.init.ones_(self.rnn.get_parameter("bias_ih_l0")[config.hidden : 2 * config.hidden])

    def image_embedding(self, feature: Tensor) -> Tensor:
        """The LSTM's first input (N, E) from image features (N, F)."""
        embedding: Tensor = self.embed_image(self._drop_input(feature))
        return embedding

    def hidden_states(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """The LSTM's outputs (N, L + 1, H) under teacher forcing.

        Args:
            feature: (N, F).
            tokens: (N, L) of captions, without start; padded with ``END`` on the right.

        Row l has seen the image and the tokens before l: ``logits`` of it predict token l.
        """
        read = functional.pad(tokens, (1, 0), value=END)
        image = self.image_embedding(feature).unsqueeze(1)
        inputs = torch.cat([image, self._drop_input(self.embed_word(read))], dim=1)
        outputs: Tensor = self.rnn(inputs)[0][:, 1:]
        return functional.dropout(outputs, self.config.dropout_output, self.training)

    def word_losses(
        self, feature: Tensor, texts: Sequence[Sequence[int]], smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropies (M,) of all words and ends of N captions, and which of (N, L + 1) they
        are.

        Args:
            feature: (N, F) of the images.
            texts: the captions' tokens.
            smoothing: share of each target that is spread over all words (Szegedy et al., 2016).
        """
        tokens, inside = _padded(texts, feature.device)
        logits = self.logits(self.hidden_states(feature, tokens)[inside])
        targets = functional.pad(tokens, (0, 1), value=END)[inside]
        losses = functional.cross_entropy(
            logits, targets, reduction="none", label_smoothing=smoothing
        )
        return losses, inside

    def start(self, feature: Tensor) -> tuple[Tensor, ...]:
        """The LSTM's state (1, N, H), (1, N, H) after it has seen the image, and what else of the
        image its words are predicted from, here nothing."""
        state: tuple[Tensor, Tensor] = self.rnn(self.image_embedding(feature).unsqueeze(1))[1]
        return state

    def step(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Log-probabilities (N, V) of what follows those tokens (N,), and the next state."""
        words = self._drop_input(self.embed_word(tokens)).unsqueeze(1)
        lstm, image = state[:2], state[2:]
        outputs, after = self.rnn(words, lstm)
        dropped = functional.dropout(outputs[:, 0], self.config.dropout_output, self.training)
        logits: Tensor = self.logits(self.with_image(dropped, image))
        return logits.log_softmax(dim=1), (*after, *image)

    def with_image(self, outputs: Tensor, image: tuple[Tensor, ...]) -> Tensor:
        """What ``logits`` predicts words from: here the LSTM's outputs (N, H) alone.

        Args:
            image: what :meth:`start` gave besides the LSTM's state, (1, N, ...) each.
        """
        return outputs

    def write(self, feature: Tensor, beams: int = 1) -> list[Caption]:
        """A caption for each image feature (N, F); never with ``UNK``."""
        with torch.no_grad():
            start = self.start(feature)
        return search(self.step, start, len(feature), self._search(beams), row_dim=1)

    def candidates(self, feature: Tensor, beams: int) -> list[list[Caption]]:
        """The captions that a beam search compares in the end, of each image the best first."""
        with torch.no_grad():
            start = self.start(feature)
        return search_all(self.step, start, len(feature), self._search(beams), row_dim=1)

    def _search(self, beams: int) -> Search:
        vocabulary = self.config.vocabulary
        return Search(
            beams,
            length_power=self.config.length_power,
            forbidden=(vocabulary.unknown,),
            unfinished=frozenset(
                tuple(vocabulary.tokens(ending.split())) for ending in self.config.unfinished
            ),
        )

    def _drop_input(self, values: Tensor) -> Tensor:
        return functional.dropout(values, self.config.dropout_input, self.training)


def _padded(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens (N, L) padded with END, and which of L + 1 targets (the end is one) count."""
    longest = max(map(len, texts))
    tokens = torch.full((len(texts), longest), END)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = torch.tensor(text, dtype=torch.long)
    lengths = torch.tensor([len(text) for text in texts])
    inside = torch.arange(longest + 1) <= lengths.unsqueeze(1)
    return tokens.to(device), inside.to(device)
