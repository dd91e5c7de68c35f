"""Texts read once by an LSTM: the same outputs and gradients as PyTorch's own, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import captioning
import vlcam
from captioning.language.lstm import Reader, read_texts, read_texts_at
from captioning.language.lstm_gradients import Asked, shorter_forwards
from tests.tools.leftovers import no_tensor_left

WIDTH, HIDDEN, WORDS, LENGTH = 5, 6, 9, 4
TEXTS = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5], [8, 0, 0, 0]])
IMAGES = torch.tensor([0, 0, 1])  # of each text
ROWS = torch.tensor([2, 0, 1, 0, 0, 2, 1])  # texts, mixed and repeated


def networks(**how: Any) -> tuple[nn.LSTM, nn.Embedding]:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        lstm = nn.LSTM(WIDTH, HIDDEN, **how).double().eval()
        return lstm, nn.Embedding(WORDS, WIDTH).double()


def images() -> Tensor:
    """An embedding for each row; those of one image are equal."""
    random = torch.Generator().manual_seed(1)
    two = torch.randn(2, WIDTH, generator=random, dtype=torch.float64)
    return two[IMAGES[ROWS]].requires_grad_()


def plainly(lstm: nn.LSTM, words: nn.Embedding, image: Tensor, tokens: Tensor) -> Tensor:
    """Row by row and step by step."""
    rows = []
    for one, text in zip(image, tokens, strict=True):
        state, outputs = None, []
        for given in [one, *words(text)]:
            at = (0, slice(None)) if lstm.batch_first else (slice(None), 0)
            output, state = lstm(given[None, None], state)
            outputs.append(output[at][0])
        rows.append(torch.stack(outputs[1:]))
    return torch.stack(rows)


LENGTHS = [1, 4, 3, 4, 4, 1, 4]
"""Of the rows: as long as the tokens that are read last; text 1 is read to its third token or to
its end."""


def heads() -> Tensor:
    """What each row's score has to do with its outputs: one of them, several, none."""
    random = torch.Generator().manual_seed(2)
    weights = torch.randn(len(ROWS), LENGTH, HIDDEN, generator=random, dtype=torch.float64)
    wanted = torch.zeros(len(ROWS), LENGTH, 1, dtype=torch.float64)
    for row, steps in enumerate([[0], [3], [1, 2], [0, 3], [], [2], [3]]):
        wanted[row, steps] = 1
    return weights * wanted


@contextmanager
def rows_stepped() -> Iterator[list[int]]:
    """The rows of each step of an LSTM on its way there."""

    class Count(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            if func is torch.addmm:
                counts.append(len(args[0]))
            return func(*args, **(kwargs or {}))

    counts: list[int] = []
    with Count():
        yield counts


@pytest.mark.parametrize(
    "how",
    [
        {"batch_first": True},
        {"batch_first": False},
        {"bias": False},
        {"num_layers": 2, "batch_first": True},
        {"num_layers": 2},
    ],
    ids=str,
)
def test_equals_pytorchs_lstm(how: dict[str, Any]) -> None:
    lstm, words = networks(**how)
    image, tokens = images(), TEXTS[ROWS]
    with rows_stepped() as steps:
        found = read_texts(Reader(lstm, words, 0), image, tokens, same=IMAGES[ROWS])
    # Three texts and four words: once each. What is not handled is PyTorch's.
    assert steps == ([] if "num_layers" in how else [3] * LENGTH)
    expected = plainly(lstm, words, image, tokens)
    torch.testing.assert_close(found, expected)
    for kept in (True, False):
        (gradient,) = torch.autograd.grad(found, image, heads(), retain_graph=kept)
    (slow,) = torch.autograd.grad(expected, image, heads())
    torch.testing.assert_close(gradient, slow)
    assert not gradient[4].any() and gradient.any(1).sum() == len(ROWS) - 1


@pytest.mark.parametrize("how", [{"batch_first": True}, {"num_layers": 2}], ids=str)
def test_texts_are_read_as_far_as_they_go(how: dict[str, Any]) -> None:
    lstm, words = networks(**how)
    image, tokens = images(), TEXTS[ROWS]
    with rows_stepped() as steps:
        found = read_texts(
            Reader(lstm, words, 0), image, tokens, same=IMAGES[ROWS], lengths=LENGTHS
        )
    # Text 0 to its end, text 1 to its end and to its third token, text 2 to its first.
    assert steps == ([] if "num_layers" in how else [4, 3, 3, 2])
    expected = plainly(lstm, words, image, tokens)
    inside = torch.arange(LENGTH) < torch.tensor(LENGTHS)[:, None]
    torch.testing.assert_close(found[inside], expected[inside])
    # What is said of outputs behind the ends, infinities included, is not heard.
    of_ends = heads() * inside[..., None]
    wild = of_ends if "num_layers" in how else of_ends.where(inside[..., None], torch.inf)
    (gradient,) = torch.autograd.grad(found, image, wild)
    (slow,) = torch.autograd.grad(expected, image, of_ends)
    torch.testing.assert_close(gradient, slow)


def test_rows_are_their_own_unless_told() -> None:
    lstm, words = networks()
    with torch.no_grad():
        other = torch.randn(len(ROWS), WIDTH, dtype=torch.float64)
    with rows_stepped() as steps:
        found = read_texts(Reader(lstm, words, 0), other, TEXTS[ROWS])
    assert steps == [len(ROWS)] * LENGTH
    torch.testing.assert_close(found, plainly(lstm, words, other, TEXTS[ROWS]))


def test_in_training_it_is_pytorchs_own() -> None:
    lstm, words = networks(batch_first=True)
    lstm.train()
    found = read_texts(Reader(lstm, words, 0), images(), TEXTS[ROWS], same=IMAGES[ROWS])
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and weight.grad.any() for weight in lstm.parameters())


def test_half_precision_and_autocast_are_pytorchs_own() -> None:
    lstm, words = networks(batch_first=True)
    lstm, words = lstm.bfloat16(), words.bfloat16()
    with rows_stepped() as steps:
        found = read_texts(
            Reader(lstm, words, 0), images().bfloat16(), TEXTS[ROWS], same=IMAGES[ROWS]
        )
        lstm, words = lstm.float(), words.float()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = read_texts(
                Reader(lstm, words, 0), images().float(), TEXTS[ROWS], same=IMAGES[ROWS]
            )
    assert found.dtype == mixed.dtype == torch.bfloat16 and steps == []


def test_long_texts_are_differentiated_forwards_at_the_cost_of_their_length() -> None:
    """Backwards T words of one text take T^2 / 2 steps, forwards E T."""
    lstm, words = networks(batch_first=True)
    length = 4 * WIDTH
    random = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, WORDS, (2, length), generator=random)
    text = torch.tensor([0] * length + [1, 1, 0, 1])
    wanted = torch.zeros(len(text), length, dtype=torch.bool)
    wanted[range(length), range(length)] = True  # text 0 word by word, of text 1 little
    wanted[length, 2] = wanted[length + 1, 5] = True
    image = torch.randn(2, WIDTH, generator=random, dtype=torch.float64)[text].requires_grad_()
    found = read_texts_at(Reader(lstm, words, 0), image, tokens[text], wanted, same=text)
    expected = plainly(lstm, words, image, tokens[text])[wanted]
    torch.testing.assert_close(found, expected)
    score = torch.randn(found.shape, generator=random, dtype=torch.float64)
    row, step = wanted.nonzero().unbind(1)
    assert shorter_forwards(Asked(score, row, step + 1), text, WIDTH).tolist() == [True, False]
    (gradient,) = torch.autograd.grad(found, image, score)
    (slow,) = torch.autograd.grad(expected, image, score)
    torch.testing.assert_close(gradient, slow)
    assert not gradient[-1].any()


def test_of_many_words_of_a_long_text_no_tensor_is_of_every_word_at_every_word() -> None:
    """2,000 words took 4.8 GB that way."""
    model = captioning.load("scenes")
    width = model.module.rnn.hidden_size
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            if isinstance(made, Tensor):
                largest = max(largest, made.untyped_storage().nbytes())
            return made

    photo = Image.new("RGB", (40, 30), "red")
    with Watch():
        found = vlcam.explain(model, photo, " ".join(["a dog"] * 150))
    assert len(found.words) == 300
    assert largest < 300 * 300 * 4 * width / 10


def test_has_no_second_derivative_and_leaves_nothing() -> None:
    lstm, words = networks()
    image, tokens, score = images(), TEXTS[ROWS], heads()
    found = read_texts(Reader(lstm, words, 0), image, tokens, same=IMAGES[ROWS])
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.grad(found, image, score, create_graph=True)
    del found
    with no_tensor_left():
        for _ in range(5):
            found = read_texts(Reader(lstm, words, 0), image, tokens, same=IMAGES[ROWS])
            torch.autograd.grad(found, image, score)
            read_texts(Reader(lstm, words, 0), image, tokens, same=IMAGES[ROWS])
        del found
