"""Gradients of an LSTM's outputs with respect to the image it read first, many outputs a text.

Backwards, every row is carried from its last output to the image: T words of one text take some
T^2 / 2 steps. Forwards, the derivatives with respect to the image's E numbers are carried along the
text, whatever is asked of it: E steps a token. Each text goes the way that is shorter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Asked:
    """Gradients (n, H) with respect to outputs, each of a row (n,) at a step (n,); the image is
    read at step 0."""

    gradient: Tensor
    row: Tensor
    step: Tensor

    def of(self, which: Tensor) -> Asked:
        return Asked(self.gradient[which], self.row[which], self.step[which])

    def by_step(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and gradients at each step, from 0 to the last that is asked of."""
        order = self.step.argsort()
        counts = self.step.bincount().tolist()
        return zip(self.row[order].split(counts), self.gradient[order].split(counts), strict=True)


@dataclass(frozen=True)
class Steps:
    """An LSTM that has read U texts.

    Attributes:
        of_inputs, of_hidden: its weights (4 H, E) and (4 H, H), gates in PyTorch's order.
        factors: derivatives (R, 5, H) at each step of each text: of the cell with respect to the
            inputs of the gates write, forget and new, of the output with respect to the input of
            the gate show, and of the output with respect to the cell.
        forgets: (R, H), of the cell with respect to the cell before.
        starts: text u at a step is row ``starts[step] + u`` of both.
    """

    of_inputs: Tensor
    of_hidden: Tensor
    factors: Tensor
    forgets: Tensor
    starts: Sequence[int]


def image_gradients(read: Steps, asked: Asked, text: Tensor, size: torch.Size) -> Tensor:
    """Gradients with respect to the images (N, E), ``size``, of N rows of the texts ``text``."""
    image = asked.gradient.new_zeros(size)
    forwards = shorter_forwards(asked, text, size[1])[text[asked.row]]
    _backwards(read, asked.of(~forwards), text, image)
    for one in text[asked.row[forwards]].unique().tolist():
        _forwards(read, asked.of(text[asked.row] == one), one, image)
    return image


def reached(lengths: Tensor, longest: int) -> list[int]:
    """How many of the lengths (n,) reach each step from 0 to ``longest``."""
    counts = lengths.bincount(minlength=longest + 1)
    return counts.flip(0).cumsum(0).flip(0).tolist()


def _last(asked: Asked, rows: int) -> Tensor:
    """The last step asked of each of the rows; 0 where none is."""
    return asked.step.new_zeros(rows).scatter_reduce_(0, asked.row, asked.step, "amax")


def shorter_forwards(asked: Asked, text: Tensor, width: int) -> Tensor:
    """(U,), whether a text has fewer products forwards, ``width`` a step, than backwards, one a
    step for each row whose last step lies behind it."""
    last, texts = _last(asked, len(text)), int(text.max()) + 1
    products = last.new_zeros(texts).index_add_(0, text, last)
    longest = last.new_zeros(texts).scatter_reduce_(0, text, last, "amax")
    return products > width * longest


def _backwards(read: Steps, asked: Asked, text: Tensor, image: Tensor) -> None:
    """Adds to ``image``, carrying rows from their last steps to the image."""
    if not len(asked.step):
        return
    # Rows whose last output that counts comes latest go first: those under way at a step are the
    # first ones.
    last, order = _last(asked, len(text)).sort(descending=True)
    place = order.argsort()
    text = text[order]
    told = list(asked.by_step())
    hidden = cell = asked.gradient.new_zeros(0, asked.gradient.shape[1])
    under_way = reached(last, len(told) - 1)
    for step in range(len(told) - 1, -1, -1):
        started = under_way[step] - len(hidden)
        hidden, cell = (functional.pad(one, (0, 0, 0, started)) for one in (hidden, cell))
        rows, gradient = told[step]
        hidden = hidden.index_add(0, place[rows], gradient)
        at = text[: len(hidden)] + read.starts[step]
        of_gates = read.factors[at]
        cell = cell + hidden * of_gates[:, 4]
        through = torch.cat([cell, cell, cell, hidden], 1) * of_gates[:, :4].flatten(1)
        cell = cell * read.forgets[at]
        hidden = through @ (read.of_hidden if step else read.of_inputs)
    image[order] += hidden


def _forwards(read: Steps, asked: Asked, text: int, image: Tensor) -> None:
    """Adds to ``image`` what is asked of one text, carrying derivatives with respect to the image:
    of the gates' inputs (4 H, E), the cell and the output (H, E)."""
    gates, cell = read.of_inputs, None
    for step, (rows, gradient) in enumerate(asked.by_step()):
        at = read.starts[step] + text
        write, forget, new, show = read.factors[at, :4, :, None] * gates.unflatten(0, (4, -1))
        kept = 0 if cell is None else cell * read.forgets[at, :, None]
        cell = kept + write + forget + new
        output = cell * read.factors[at, 4, :, None] + show
        image.index_add_(0, rows, gradient @ output)
        gates = read.of_hidden @ output
