"""Greedy and beam search over any captioner that can be stepped.

A captioner is given as ``step(tokens, state) -> (log_probs, state)``: ``tokens`` (N,) are the last
tokens of N captions in progress, ``log_probs`` (N, V) those of the next token, and ``state`` is
what the captioner carries along, tensors with one row per caption in dimension ``row_dim``. The
captions of all images advance together, one word per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], tuple[Tensor, State]]


@dataclass(frozen=True)
class Caption:
    """Tokens, without the end, and the sum of their log-probabilities and the end's."""

    tokens: tuple[int, ...]
    log_probability: float


@dataclass(frozen=True)
class Search:
    """What to search for.

    Attributes:
        beams: how many unfinished captions an image keeps (1: greedy search).
        max_words: a caption that reaches this length is ended there.
        length_power: candidates are compared by log-probability / length ** ``length_power``,
            where the length counts the end token; 0 compares plain log-probabilities.
        start, end: the token a caption begins with (not part of it) and the one that ends it.
        forbidden: tokens never written, such as ``UNK``'s.
        unfinished: sequences of tokens that a caption does not end with, unless it reaches its
            length.
    """

    beams: int = 1
    max_words: int = 20
    length_power: float = 0.0
    start: int = 0
    end: int = 0
    forbidden: tuple[int, ...] = ()
    unfinished: frozenset[tuple[int, ...]] = frozenset()

    def __post_init__(self) -> None:
        if self.beams < 1 or self.max_words < 1:
            raise ValueError(
                f"search: beams ({self.beams}) and max_words ({self.max_words}) must be at least 1"
            )


def search(step: Step, state: State, count: int, how: Search, *, row_dim: int = 0) -> list[Caption]:
    """The caption of each of ``count`` images, whose states before ``start`` are in ``state``."""
    if how.beams == 1:
        with torch.no_grad():
            return _greedy(step, state, count, how)
    with torch.no_grad():
        return [best for (best,) in _beam(step, state, count, how, row_dim=row_dim, kept=1)]


def search_all(
    step: Step, state: State, count: int, how: Search, *, row_dim: int = 0
) -> list[list[Caption]]:
    """The ``beams`` best captions of each image, the best first, of a beam search."""
    with torch.no_grad():
        return _beam(step, state, count, how, row_dim=row_dim, kept=how.beams)


def _greedy(step: Step, state: State, count: int, how: Search) -> list[Caption]:
    tokens = torch.full((count,), how.start, device=state[0].device)
    texts: list[list[int]] = [[] for _ in range(count)]
    totals = [0.0] * count
    writing = set(range(count))
    for length in range(how.max_words + 1):
        log_probs, state = _allowed_step(step, tokens, state, how=how, texts=texts)
        if length == how.max_words:
            tokens = torch.full_like(tokens, how.end)
        else:
            tokens = log_probs.argmax(1)
        values = log_probs.gather(1, tokens.unsqueeze(1))[:, 0].tolist()
        for i, token in enumerate(tokens.tolist()):
            if i in writing:
                totals[i] += values[i]
                if token == how.end:
                    writing.remove(i)
                else:
                    texts[i].append(token)
        if not writing:
            break
    return [Caption(tuple(text), total) for text, total in zip(texts, totals, strict=True)]


def _beam(
    step: Step, state: State, count: int, how: Search, *, row_dim: int, kept: int
) -> list[list[Caption]]:
    """The best ``kept`` captions of each image.

    All finished captions compete, whenever they ended; unfinished ones never crowd them out.
    """
    device = state[0].device
    tokens = torch.full((count,), how.start, device=device)
    totals = torch.zeros(count, 1, dtype=torch.float64, device=device)
    texts = torch.empty(count, 1, 0, dtype=torch.long, device=device)
    best: list[list[tuple[float, Caption]]] = [[] for _ in range(count)]
    worst = torch.full((count,), -torch.inf, dtype=torch.float64, device=device)  # of those kept
    for length in range(how.max_words + 1):
        written = texts.flatten(0, 1).tolist() if how.unfinished else ()
        log_probs, state = _allowed_step(step, tokens, state, how=how, texts=written)
        candidates = totals.unsqueeze(2) + log_probs.view(count, totals.shape[1], -1)

        ended = candidates[..., how.end]
        scores = ended / (length + 1) ** how.length_power
        for i, beam in (scores > worst[:, None]).nonzero().tolist():
            found = Caption(tuple(texts[i, beam].tolist()), float(ended[i, beam]))
            best[i].append((float(scores[i, beam]), found))
            best[i].sort(key=lambda pair: -pair[0])  # stable: of equals the shorter stays ahead
            del best[i][kept:]
            if len(best[i]) == kept:
                worst[i] = best[i][-1][0]
        # Plain log-probabilities only fall from here on.
        if how.length_power == 0 and bool((totals.amax(1) <= worst).all()):
            break

        candidates[..., how.end] = -torch.inf
        width = min(how.beams, candidates[0].numel())
        totals, chosen = candidates.flatten(1).topk(width, dim=1)
        parents, words = chosen // candidates.shape[2], chosen % candidates.shape[2]
        texts = texts.gather(1, parents.unsqueeze(2).expand(-1, -1, length))
        texts = torch.cat([texts, words.unsqueeze(2)], dim=2)
        first_rows = torch.arange(count, device=device).unsqueeze(1) * candidates.shape[1]
        rows = (first_rows + parents).flatten()
        state = tuple(part.index_select(row_dim, rows) for part in state)
        tokens = words.flatten()
    return [[caption for _, caption in pairs] for pairs in best]


def _allowed_step(
    step: Step, tokens: Tensor, state: State, *, how: Search, texts: Sequence[Sequence[int]]
) -> tuple[Tensor, State]:
    """The step, behind each row's ``texts``, with what may not follow at minus infinity."""
    log_probs, state = step(tokens, state)
    log_probs = log_probs.double()
    log_probs[:, list(how.forbidden)] = -torch.inf
    lengths = {len(ending) for ending in how.unfinished}
    for row, text in enumerate(texts):
        if len(text) < how.max_words and any(
            tuple(text[-length:]) in how.unfinished for length in lengths
        ):
            log_probs[row, how.end] = -torch.inf
    return log_probs, state
