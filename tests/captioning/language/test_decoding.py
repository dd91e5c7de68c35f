"""Beam search against all captions there are."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from captioning.language.decoding import Caption, Search, State, search, search_all


def _table_step(table: Tensor) -> object:
    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        (depth,) = state
        return table[depth[:, 0], tokens].clone(), (depth + torch.tensor([1, 0]),)

    return step


@pytest.mark.parametrize("power", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_wide_beam_search_is_exhaustive_search(seed: int, power: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = (2 * torch.randn(4, 4, 4, generator=generator, dtype=torch.float64)).log_softmax(-1)
    scores = {}
    for length in range(4):
        for text in itertools.product((1, 2, 3), repeat=length):
            path = [0, *text, 0]
            total = sum(float(table[i, path[i], path[i + 1]]) for i in range(length + 1))
            scores[text] = (total / (length + 1) ** power, total)
    best = max(scores, key=lambda text: scores[text])
    state = (torch.zeros(2, 2, dtype=torch.long),)
    how = Search(beams=30, max_words=3, length_power=power)
    for caption in search(_table_step(table), state, 2, how):  # type: ignore[arg-type]
        assert caption.tokens == best
        assert caption.log_probability == pytest.approx(scores[best][1])
    ranked = sorted(scores, key=lambda text: scores[text], reverse=True)[:30]
    for captions in search_all(_table_step(table), state, 2, how):  # type: ignore[arg-type]
        assert [caption.tokens for caption in captions] == ranked


def ends_in(caption: Caption, *endings: tuple[int, ...]) -> bool:
    return any(caption.tokens[-len(ending) :] == ending for ending in endings)


@pytest.mark.parametrize("seed", range(3))
def test_no_caption_ends_unfinished_before_it_must(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = (2 * torch.randn(4, 4, 4, generator=generator, dtype=torch.float64)).log_softmax(-1)
    state = (torch.zeros(2, 2, dtype=torch.long),)
    how = Search(beams=30, max_words=3, length_power=1.0)
    (every, _) = search_all(_table_step(table), state, 2, replace(how, beams=100))  # type: ignore[arg-type]
    ends = [one for one in every if len(one.tokens) == 3 or not ends_in(one, (1,), (3, 2))]
    assert len(every) == 40 and len(ends) == 40 - 1 - 3 - 1
    how = replace(how, unfinished=frozenset({(1,), (3, 2)}))
    for found in search_all(_table_step(table), state, 2, how):  # type: ignore[arg-type]
        assert [one.tokens for one in found] == [one.tokens for one in ends[:30]]
    greedy = search(_table_step(table), state, 2, replace(how, beams=1))[0]  # type: ignore[arg-type]
    assert len(greedy.tokens) == 3 or not ends_in(greedy, (1,), (3, 2))


def test_greedy_search_takes_the_likeliest_allowed_token() -> None:
    table = torch.zeros(4, 4, 4)
    table[..., 3], table[..., 2], table[2, 2, 0] = 5, 3, 9
    how = Search(max_words=3, forbidden=(3,))
    caption = search(_table_step(table), (torch.zeros(1, 2, dtype=torch.long),), 1, how)[0]  # type: ignore[arg-type]
    assert caption.tokens == (2, 2) and caption.log_probability == 15
