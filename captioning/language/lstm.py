"""Captioners whose LSTM reads the image first and then a caption, fast for many targets of few
captions.

Attribution makes one row per target. For a caption of ten words that is ten times the same text,
with one output used of each row. So the forward pass runs once per text, and the backward pass from
a row's last output that counts, with respect to the image alone. PyTorch's own LSTM runs both for
every row, over all steps, and differentiates its weights too: several times the work. It is used
where what is here does not apply, and the tests compare with it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning.language.captioner import Captioner
from captioning.language.lstm_gradients import Asked, Steps, image_gradients, reached
from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.utils.exact_backward import exact_backward


@dataclass(frozen=True)
class Reader:
    """The parts with which a captioner reads.

    Attributes:
        lstm: an ``nn.LSTM``, or what is called like one; its state is zero before the image.
        words: embeddings of the tokens.
        start: the token before a caption's first word.
    """

    lstm: nn.Module
    words: nn.Embedding
    start: int


class ReadsImageFirst(Captioner):
    """A captioner whose LSTM reads the image, ``start``, and the words so far."""

    @abstractmethod
    def image_embedding(self, features: FeatureMaps) -> Tensor:
        """The LSTM's first input, (N, E) of N images."""

    @abstractmethod
    def reader(self) -> Reader:
        """The parts with which the captioner reads."""

    def states_at(
        self, features: FeatureMaps, prompts: Sequence[Prompt], tokens: Tensor, wanted: Tensor
    ) -> Tensor:
        image = self.image_embedding(features)
        return self.read_at(image, features, prompts, tokens, wanted)

    def read_at(
        self,
        image: Tensor,
        features: FeatureMaps,
        prompts: Sequence[Prompt],
        tokens: Tensor,
        wanted: Tensor,
    ) -> Tensor:
        """The LSTM's outputs (n, H) for :meth:`states_at`, its first input ``image`` (N, E) being
        given."""
        reader = self.reader()
        lengths = [len(self.tokens(prompt)) for prompt in prompts]
        before = _before(reader, tokens)
        return read_texts_at(reader, image, before, wanted, same=features.image, lengths=lengths)

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        reader, image = self.reader(), self.image_embedding(features)
        return read_texts(reader, image, _before(reader, tokens), same=features.image)


def _before(reader: Reader, tokens: Tensor) -> Tensor:
    """The tokens before each of a text's (N, L)."""
    return functional.pad(tokens[:, :-1], (1, 0), value=reader.start)


def read_texts(
    reader: Reader,
    image: Tensor,
    tokens: Tensor,
    *,
    same: Tensor | None = None,
    lengths: Sequence[int] | None = None,
) -> Tensor:
    """The LSTM's outputs (N, L, H) at the tokens of N texts behind their images.

    Args:
        image: embeddings (N, E), the first input; gradients go to it alone.
        tokens: (N, L).
        same: (N,), equal where rows are of one image, as
            :attr:`vlcam.adapters.adapter.FeatureMaps.image`; None where each has its own.
        lengths: how many tokens of each text to read (None: all); the outputs behind them are
            undefined.
    """
    steps = torch.arange(tokens.shape[1]).to(tokens)
    wanted = steps < _lengths(tokens, lengths)[:, None]
    found = read_texts_at(reader, image, tokens, wanted, same=same, lengths=lengths)
    return found.new_zeros(*tokens.shape, found.shape[1]).index_put((wanted,), found)


def read_texts_at(
    reader: Reader,
    image: Tensor,
    tokens: Tensor,
    wanted: Tensor,
    *,
    same: Tensor | None = None,
    lengths: Sequence[int] | None = None,
) -> Tensor:
    """Of :func:`read_texts` the outputs (n, H) at n of the tokens, text by text: of a thousand
    targets of one long text, one each, not a thousand each.

    Args:
        wanted: (N, L), which tokens.
        image, tokens, same, lengths: as there.
    """
    lstm, words = reader.lstm, reader.words
    if not _is_plain(lstm, image):
        inputs = torch.cat([image[:, None], words(tokens)], 1)
        first = getattr(lstm, "batch_first", False)
        read: Tensor = lstm(inputs if first else inputs.transpose(0, 1))[0]
        return (read if first else read.transpose(0, 1))[:, 1:][wanted]
    if same is None:
        same = torch.arange(len(tokens)).to(tokens)
    length = _lengths(tokens, lengths)
    # In this order the longest texts come first.
    columns = torch.cat([-length[:, None], same[:, None], tokens], 1)
    texts, text = columns.unique(dim=0, return_inverse=True)
    first = text.new_empty(len(texts)).scatter_(0, text, torch.arange(len(text)).to(text))
    places = wanted.nonzero()
    outputs: Tensor = _Read.apply(
        lstm, words, image, tokens[first], length[first], first, text, places
    )
    return outputs


def _lengths(tokens: Tensor, lengths: Sequence[int] | None) -> Tensor:
    return torch.tensor(lengths or [tokens.shape[1]] * len(tokens)).to(tokens)


def _is_plain(lstm: nn.Module, image: Tensor) -> bool:
    """Whether it is PyTorch's LSTM of one layer and one direction, in eval mode and full
    precision."""
    if type(lstm) is not nn.LSTM:
        return False
    simple = lstm.num_layers == 1 and not lstm.bidirectional and not lstm.proj_size
    exact = image.dtype in (torch.float32, torch.float64)
    mixed = torch.is_autocast_enabled(image.device.type)
    return simple and exact and not mixed and not lstm.training


class _Read(torch.autograd.Function):
    """:func:`read_texts_at` of U different texts, the longest first.

    Text u is that of row ``first[u]``; row n has text ``text[n]``; ``places`` (n, 2) are the rows
    and tokens wanted. There are fewer texts left at each step. The results of all steps are
    concatenated: those of text u at a step are in row ``starts[step] + u``.
    """

    exact = True

    @staticmethod
    @exact_backward()
    def forward(
        ctx: Any,
        lstm: nn.LSTM,
        words: nn.Embedding,
        image: Tensor,
        tokens: Tensor,
        lengths: Tensor,
        first: Tensor,
        text: Tensor,
        places: Tensor,
    ) -> Tensor:
        of_inputs, of_hidden, *biases = lstm.all_weights[0]
        bias = biases[0] + biases[1] if biases else None
        known, which = tokens.unique(return_inverse=True)
        of_words = functional.linear(words(known), of_inputs, bias)  # once per word
        cell = image.new_zeros(len(tokens), lstm.hidden_size)
        hidden = None  # before the image zero: nothing to multiply
        made, starts, start = [], [], 0
        for step, left in enumerate(reached(lengths, tokens.shape[1])):
            if hidden is None:
                inputs = functional.linear(image[first], of_inputs, bias)
            else:
                inputs = torch.addmm(of_words[which[:left, step - 1]], hidden[:left], of_hidden.T)
            gates = inputs.sigmoid().unflatten(1, (4, -1))
            write, forget, _, show = gates.unbind(1)
            new = inputs.unflatten(1, (4, -1))[:, 2].tanh()
            before = cell[:left]
            cell = torch.addcmul(forget * before, write, new)
            seen = cell.tanh()
            hidden = show * seen
            made.append((gates, new, before, seen, hidden))
            starts.append(start)
            start += left
        gates, new, before, seen, outputs = (torch.cat(each) for each in zip(*made, strict=True))
        row, token = places[:, 0], places[:, 1]
        at = (token + 1).where(token < lengths[text[row]], 0)
        if ctx.needs_input_grad[2]:
            ctx.lstm, ctx.starts, ctx.images = lstm, starts, image.shape
            factors = _factors(gates, new, before, seen)
            ctx.save_for_backward(text, row, at, factors, gates[:, 1].contiguous())
        return outputs[torch.tensor(starts).to(text)[at] + text[row]]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError("read_texts has no second derivative")
        (gradient,) = gradients
        text, row, step, factors, forgets = ctx.saved_tensors
        of_inputs, of_hidden, *_ = ctx.lstm.all_weights[0]
        counts = (gradient != 0).any(1) & (step > 0)
        asked = Asked(gradient[counts], row[counts], step[counts])
        read = Steps(of_inputs, of_hidden, factors, forgets, ctx.starts)
        image = image_gradients(read, asked, text, ctx.images)
        return None, None, image, None, None, None, None, None


def _factors(gates: Tensor, new: Tensor, before: Tensor, seen: Tensor) -> Tensor:
    """Derivatives (R, 5, H) at each step of each text: of the cell with respect to the inputs of
    the gates write, forget and new, of the output with respect to the input of the gate show, and
    of the output with respect to the cell.

    Args:
        gates: (R, 4, H), after their sigmoids.
        new, before, seen: (R, H): what is written, the cell before, the cell's tanh after.
    """
    write, _, _, show = gates.unbind(1)
    factors = new.new_empty(len(new), 5, new.shape[1])
    slopes = torch.mul(gates, 1 - gates, out=factors[:, :4])
    slopes[:, 0].mul_(new)
    slopes[:, 1].mul_(before)
    torch.mul(write, 1 - new.square(), out=slopes[:, 2])
    slopes[:, 3].mul_(seen)
    torch.mul(show, 1 - seen.square(), out=factors[:, 4])
    return factors
