"""Question encoders of Cadene's vqa.pytorch: skip-thought vectors (Kiros et al., 2015).

A GRU reads a question's words; its last state is the question's vector. The variants compute the
same and differ in how their weights are laid out (and in the dropout of training, which is left out
here); the names of its weights, which they keep here, tell which one a file holds.

Questions come as padded rows and are read one by one: as many tokens from the left as the row has
that are not padding (0). So padding on the right is never read; padding on the left is, in place of
as many words at the question's end: that is what such models were trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]


class SkipThoughts(nn.Module):
    """Word embedding and a recurrent network: ``UniSkip``, ``DropUniSkip``, ``BayesianUniSkip``,
    and ``BiSkip`` (which reads in both directions).

    Args:
        rows: of the embedding, padding included.
        width: of the embedding.
        rnn: words (L, E) to (outputs, last states (directions, H)).
        size: Q of the question's vector.
        kind: the name of the variant.
    """

    def __init__(self, rows: int, width: int, rnn: nn.Module, *, size: int, kind: str) -> None:
        super().__init__()
        self.size, self.kind = size, kind
        self.embedding = nn.Embedding(rows, width, padding_idx=0)
        self.rnn = rnn

    def forward(self, question: Sequence[int]) -> Tensor:
        """The vector (Q,) of one question, padded or not."""
        _, last = self.rnn(self.embedding(_read(question, self.embedding)))
        return last.flatten()


class TwoLstm(nn.Module):
    """``2-lstm``: two LSTMs, one on the other's outputs; both outputs at the last word.

    The original gives rows of questions to LSTMs that expect columns. So a word's state depends not
    on the words before it in its question, but on the words at the same place in the batch's
    questions before it. Here each question is a batch of its own, as when the original is given
    one: its vector depends on its last word alone.
    """

    kind = "2-lstm"

    def __init__(self, rows: int, width: int, hidden: int) -> None:
        super().__init__()
        self.size = 2 * hidden
        self.embedding = nn.Embedding(rows, width, padding_idx=0)
        self.rnn_0 = nn.LSTM(width, hidden)
        self.rnn_1 = nn.LSTM(hidden, hidden)

    def forward(self, question: Sequence[int]) -> Tensor:
        """The vector (Q,) of one question, padded or not."""
        last = _read(question, self.embedding)[-1:]
        lower, _ = self.rnn_0(self.embedding(last).tanh())
        upper, _ = self.rnn_1(lower)
        return torch.cat([lower, upper], 1)[0]


class GatedCell(nn.Module):
    """A GRU's step as six linear maps; those of the state have no bias."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        for gate in "rin":
            self.add_module(f"weight_i{gate}", nn.Linear(width, hidden))
            self.add_module(f"weight_h{gate}", nn.Linear(hidden, hidden, bias=False))

    def forward(self, word: Tensor, state: Tensor) -> Tensor:
        """A word (1, E) and the state (1, H) before it to the state behind it."""
        part = self.get_submodule
        reset = (part("weight_ir")(word) + part("weight_hr")(state)).sigmoid()
        keep = (part("weight_ii")(word) + part("weight_hi")(state)).sigmoid()
        new = (part("weight_in")(word) + reset * part("weight_hn")(state)).tanh()
        return (1 - keep) * new + keep * state


class CellByCell(nn.Module):
    """A recurrent network of ``gru_cell``, called as an unbatched ``nn.GRU`` is."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gru_cell = GatedCell(width, hidden)

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        return _through(self.gru_cell, words, self.hidden)


class BareCell(nn.GRUCell):
    """``nn.GRUCell``, called as an unbatched ``nn.GRU`` is."""

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return _through(super().forward, words, self.hidden_size)


def encoder_of(shapes: Shapes) -> SkipThoughts | TwoLstm:
    """The encoder whose weights have these names and shapes, with weights of its own.

    Raises:
        ValueError: there is none.
    """
    rows, width = _matrix(shapes, "embedding.weight")
    if "rnn_0.weight_ih_l0" in shapes:
        return TwoLstm(rows, width, _matrix(shapes, "rnn_0.weight_hh_l0")[1])
    if any(name.startswith("rnn.gru_cell.") for name in shapes):
        hidden = _matrix(shapes, "rnn.gru_cell.weight_hr.weight")[0]
        cells = CellByCell(width, hidden)
        return SkipThoughts(rows, width, cells, size=hidden, kind="BayesianUniSkip")
    if "rnn.weight_hh" in shapes:
        hidden = _matrix(shapes, "rnn.weight_hh")[1]
        cell = BareCell(width, hidden)
        return SkipThoughts(rows, width, cell, size=hidden, kind="DropUniSkip")
    gates, hidden = _matrix(shapes, "rnn.weight_hh_l0")
    if gates != 3 * hidden:
        raise ValueError(f"seq2vec.rnn is no GRU: {gates} gates of {hidden} units")
    both = "rnn.weight_hh_l0_reverse" in shapes
    rnn = nn.GRU(width, hidden, bidirectional=both)
    kind = "BiSkip" if both else "UniSkip"
    return SkipThoughts(rows, width, rnn, size=(1 + both) * hidden, kind=kind)


def _matrix(shapes: Shapes, name: str) -> tuple[int, int]:
    shape = shapes.get(name, ())
    if len(shape) != 2:
        raise ValueError(f"no matrix seq2vec.{name}")
    return shape[0], shape[1]


def _read(question: Sequence[int], embedding: nn.Embedding) -> Tensor:
    """The tokens (L,) that are read of a question."""
    length = sum(token != 0 for token in question)
    return torch.tensor(question[:length], dtype=torch.long, device=embedding.weight.device)


def _through(
    cell: Callable[[Tensor, Tensor], Tensor], words: Tensor, hidden: int
) -> tuple[Tensor, Tensor]:
    """All states (L, H) and the last (1, H) of a cell that reads words (L, E) one by one."""
    state = words.new_zeros(1, hidden)
    states = []
    for word in words:
        state = cell(word[None], state)
        states.append(state)
    return torch.cat(states), state
