"""Maps from a transformer's attention: rollout, and attention weighted by its gradients.

Both multiply, layer by layer, the attention matrices A (heads, n, m) of the tokens that look (n
rows, each of sum 1) to those they look at (m columns), into the relevance R of each token for each.
What looks at what, in which order, is told by a :class:`Flow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vlcam.adapters.attention_flow import PHOTO, AttentionStep, Flow

Follow = Callable[[Flow, Sequence[Tensor], Sequence[Tensor], Sequence[int]], Tensor]
"""``follow(flow, attention, gradients, columns)``: the relevance of each token of the photo's
stream for the scores in those columns together. ``attention``: (heads, n, m) of each look, in
order; ``gradients``: of the target with respect to it."""


def rollout(
    flow: Flow, attention: Sequence[Tensor], gradients: object, columns: Sequence[int]
) -> Tensor:
    """Attention rollout (Abnar and Zuidema, ACL 2020, eq. 1): the product, over the layers of the
    photo's stream, of

        ``0.5 A + 0.5 I``

    with A averaged over the heads, I for the residual connections. The row of the token that is
    read, or of the one that stands for the photo. It knows of no target.
    """
    joint: Tensor | None = None
    for look, weights in zip(flow.attention_steps(), attention, strict=True):
        if look == (PHOTO, PHOTO):
            mean = weights.mean(0)
            own = 0.5 * mean + 0.5 * torch.eye(len(mean)).to(mean)
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

    * s looks at itself: ``R^ss += Ā R^ss``, ``R^sq += Ā R^sq`` (eq. 6, 7);
    * s looks at q: ``R^sq += (R̄^ss)^T Ā R̄^qq`` (eq. 10) and ``R^ss += Ā R^qs`` (eq. 11), the
      latter in the same way for every third stream (a decoder that looks at a question that looked
      at a photo).

    The rows of the tokens the target is read from, added up.
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
    """Each token relevant for itself alone."""
    like, sizes = attention[0], dict[str, int]()
    for (s, q), weights in zip(flow.attention_steps(), attention, strict=True):
        sizes |= {s: weights.shape[1], q: weights.shape[2]}
    return {
        (s, q): torch.eye(n).to(like) if s == q else like.new_zeros(n, m)
        for s, n in sizes.items()
        for q, m in sizes.items()
    }


def _streams(flow: Flow) -> list[str]:
    return list(dict.fromkeys(stream for look in flow.attention_steps() for stream in look))


def _residual_free(relevance: Tensor) -> Tensor:
    """What tokens got from others as shares that sum to 1, and themselves (eq. 8, 9)."""
    identity = torch.eye(len(relevance)).to(relevance)
    gained = relevance - identity
    total = gained.sum(1, keepdim=True)
    return gained / total.where(total != 0, 1) + identity


def _rows(flow: Flow, columns: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(flow.row(column) for column in columns))
