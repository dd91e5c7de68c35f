"""Relevance from a transformer's attention: rollout, and attention weighted by its gradients.

Both multiply, layer by layer, the attention matrices A (heads, n, m), of n tokens that attend
(rows, each of sum 1) to m tokens (columns), into the relevance R of each token for each other one.
Which stream of tokens attends to which, in which order, is said by a
:class:`vlcam.adapters.attention_flow.Flow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from vlcam.adapters.attention_flow import PHOTO, AttentionStep, Flow

if TYPE_CHECKING:  # the table of methods is read before torch is imported
    from torch import Tensor

Follow: TypeAlias = "Callable[[Flow, Sequence[Tensor], Sequence[Tensor], Sequence[int]], Tensor]"
"""``follow(flow, attention, gradients, columns)``: the relevance (m,) of each token of the photo's
stream for the scores in those columns together. ``attention``: A (heads, n, m) of each step, in
order; ``gradients``: dy/dA of each, of the target y."""


def rollout(
    flow: Flow, attention: Sequence[Tensor], gradients: object, columns: Sequence[int]
) -> Tensor:
    """Attention rollout (Abnar and Zuidema, ACL 2020, eq. 1): over the layers of the photo's stream

        ``R = (0.5 A_L + 0.5 I) ... (0.5 A_1 + 0.5 I)``

    with A averaged over the heads, and I for the residual connections. Gives the row of the token
    that scores are read from, or of the one that stands for the whole photo. It knows of no target.

    Raises:
        ValueError: the photo's tokens do not attend to each other.
    """
    joint: Tensor | None = None
    for step, weights in zip(flow.attention_steps(), attention, strict=True):
        if step == (PHOTO, PHOTO):
            mean = weights.mean(0)
            own = 0.5 * mean + 0.5 * _identity(len(mean), mean)
            joint = own if joint is None else own @ joint
    if joint is None:
        raise ValueError("the photo's tokens do not look at each other: there is nothing to roll")
    if flow.reads == PHOTO:
        return joint[_rows(flow, columns)].mean(0)
    return joint.mean(0) if flow.summary is None else joint[flow.summary]


def weighted(
    flow: Flow,
    attention: Sequence[Tensor],
    gradients: Sequence[Tensor],
    columns: Sequence[int],
) -> Tensor:
    """Relevance of Chefer, Gur and Wolf (ICCV 2021, "Generic attention-model explainability").

    With ``Ā = mean over heads of relu(dy/dA * A)`` (eq. 5), streams s and q, R^ss = I and R^sq = 0
    at first, and ``R̄ = rows of (R - I) scaled to sum 1, + I`` (eq. 8, 9):

    * s attends to itself: ``R^ss += Ā R^ss``, ``R^sq += Ā R^sq`` (eq. 6, 7);
    * s attends to q: ``R^sq += (R̄^ss)^T Ā R̄^qq`` (eq. 10) and ``R^ss += Ā R^qs`` (eq. 11), the
      latter in the same way for every third stream (a decoder that attends to a question that
      attended to a photo).

    Gives the sum of the rows of the tokens that the target is read from.
    """
    relevance = _start(flow, attention)
    found = iter(zip(attention, gradients, strict=True))
    for step in flow.steps:
        added = []
        for s, q in step:
            weights, gradient = next(found)
            mean = (gradient * weights).relu().mean(0)
            if s == q:
                added += [((s, c), mean @ relevance[s, c]) for c in _streams(flow)]
                continue
            own, other = _residual_free(relevance[s, s]), _residual_free(relevance[q, q])
            added.append(((s, q), own.T @ mean @ other))
            added += [((s, c), mean @ relevance[q, c]) for c in _streams(flow) if c != q]
        for key, more in added:
            relevance[key] = relevance[key] + more
    return relevance[flow.reads, PHOTO][_rows(flow, columns)].sum(0)


def _start(flow: Flow, attention: Sequence[Tensor]) -> dict[AttentionStep, Tensor]:
    """R at first: each token is relevant for itself alone."""
    like, sizes = attention[0], dict[str, int]()
    for (s, q), weights in zip(flow.attention_steps(), attention, strict=True):
        sizes |= {s: weights.shape[1], q: weights.shape[2]}
    return {
        (s, q): _identity(n, like) if s == q else like.new_zeros(n, m)
        for s, n in sizes.items()
        for q, m in sizes.items()
    }


def _streams(flow: Flow) -> list[str]:
    return list(dict.fromkeys(stream for step in flow.attention_steps() for stream in step))


def _residual_free(relevance: Tensor) -> Tensor:
    """R̄: what tokens got from others, as shares that sum to 1, and themselves (eq. 8, 9)."""
    identity = _identity(len(relevance), relevance)
    gained = relevance - identity
    total = gained.sum(1, keepdim=True)
    return gained / total.where(total != 0, 1) + identity


def _identity(size: int, like: Tensor) -> Tensor:
    return like.new_ones(size).diag()


def _rows(flow: Flow, columns: Sequence[int]) -> list[int]:
    """The tokens from which the scores in those columns are read."""
    return list(dict.fromkeys(flow.row(column) for column in columns))
