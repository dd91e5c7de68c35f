"""Maps from a model's attention and its gradients, by methods that follow it.

One forward pass per prompt, from the pixels to the scores, under a mode that records every
attention matrix of the model in whatever form it is computed (a softmax spelled out, or torch's
fused attention, which is then spelled out), and one backward pass per target. No hooks, and nothing
of the model is changed (nor its ``attn_implementation``): the mode acts in this thread alone, and
ends by itself. The formulas are in :mod:`vlcam.attribution.relevance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vlcam.adapters.adapter import Adapter, Prompt
from vlcam.adapters.attention_flow import PHOTO
from vlcam.adapters.scores import decoded, refuse_not_finite
from vlcam.attribution.derivative.check import Passage, check_gradient
from vlcam.attribution.derivative.suspects import Watch
from vlcam.attribution.methods import Method
from vlcam.attribution.precision import at_least_float32, computed_in_half, gradients
from vlcam.attribution.rows import mixed_features, mixed_score, rows_of
from vlcam.attribution.targets import Target, Term
from vlcam.utils.torch_calls import TorchCalls
from vlcam.utils.untouched import untouched


class NoFlowError(ValueError):
    """The model has no attention that methods can follow."""


def explain_by_attention(
    adapter: Adapter,
    pixels: Tensor,
    targets: Sequence[Target],
    methods: Sequence[Method],
    *,
    cells: tuple[int, int],
) -> tuple[Tensor, list[Tensor]]:
    """Scores (T,) and per method raw maps (T, u, v), float32 or better.

    A target read under several prompts (a contrast of two texts) has the sum of its maps under each
    of them.

    Args:
        pixels: of one image, (1, 3, H, W).
        cells: (u, v) of the photo's patches.

    Raises:
        NoFlowError: the model has no attention that such methods can follow.
        ValueError: its attention matrices are not those that its flow lists.
    """
    refuse_without_flow(adapter, targets[0].terms[0].prompt, methods[0].name)
    scores: list[Tensor | None] = [None] * len(targets)
    maps: list[list[Tensor | None]] = [[None] * len(targets) for _ in methods]
    for prompt in dict.fromkeys(term.prompt for target in targets for term in target.terms):
        with untouched(adapter.module):
            seen = _ForwardPass(adapter, pixels, prompt, targets=targets, cells=cells)
            for row, target in enumerate(targets):
                columns = [c for t in target.terms if t.prompt == prompt for c in t.scores]
                if not columns:
                    continue
                value, gradients = seen.gradients(target)
                refuse_not_finite(value[None], adapter.name, [target.name])
                scores[row] = _sum(scores[row], value)
                for own, method in zip(maps, methods, strict=True):
                    own[row] = _sum(own[row], seen.follow(method, gradients, columns))
    return torch.stack(_all(scores)), [torch.stack(_all(own)) for own in maps]


def refuse_without_flow(adapter: Adapter, prompt: Prompt, method: str) -> None:
    """Raises NoFlowError where a model has no attention to follow."""
    if adapter.attention_flow(prompt) is None:
        raise NoFlowError(
            f"{adapter.name} has no attention between tokens of the photo that {method} follows"
        )


class _ForwardPass:
    """One forward pass under a prompt, with the graph from its attention to the scores.

    Raises:
        ValueError: as of :func:`explain_by_attention`.
    """

    def __init__(
        self,
        adapter: Adapter,
        pixels: Tensor,
        prompt: Prompt,
        *,
        targets: Sequence[Target],
        cells: tuple[int, int],
    ) -> None:
        flow = adapter.attention_flow(prompt)
        assert flow is not None
        self._adapter, self._prompt, self._flow, self._cells = adapter, prompt, flow, cells
        terms = [term for t in targets for term in t.terms if term.prompt == prompt]
        width = max(column for term in terms for column in term.scores) + 1
        wanted = torch.zeros(1, width, dtype=torch.bool, device=pixels.device)
        for term in terms:
            wanted[0, list(term.scores)] = True
        given = [prompt] if adapter.encode_reads_prompt else None
        with torch.enable_grad(), RecordAttention() as attention:
            with Watch(adapter.module) as before:
                features = adapter.encode(pixels.clone(), given)
            with Watch(adapter.module) as behind:
                scores = decoded(adapter, features, [prompt], wanted)[0]
        if before.suspects:
            mixed = partial(mixed_features, adapter, given)
            check_gradient(adapter, mixed, pixels, before.suspects, Passage.before(adapter))
        if behind.suspects:
            rows = [r for r in rows_of(targets, [0] * len(targets)) if r.term.prompt == prompt]
            score, maps = mixed_score(adapter, features, rows)
            check_gradient(adapter, score, maps, behind.suspects, Passage.behind(adapter))
        self._scores = at_least_float32(scores)
        self._attention = attention.seen
        self._half = computed_in_half(*attention.seen, scores)
        self._check()

    def _check(self) -> None:
        """Refuse a model whose attention matrices are not those that its flow lists."""
        steps, sizes = list(self._flow.attention_steps()), dict[str, int]()
        found = [tuple(weights.shape) for weights in self._attention]
        fits = len(steps) == len(found)
        for step, shape in zip(steps, found, strict=False):
            fits = fits and shape[0] == 1
            for stream, size in zip(step, shape[2:], strict=True):
                fits = fits and sizes.setdefault(stream, size) == size
        u, v = self._cells
        if not fits or sizes[PHOTO] - self._flow.first != u * v:
            raise ValueError(
                f"{self._adapter.name}: its {len(found)} layers of attention are not the"
                f" {len(steps)} among its tokens that are known here (attention in windows, or"
                " computed by kernels of its own?)"
            )

    def gradients(self, target: Target) -> tuple[Tensor, list[Tensor]]:
        """The part of a target's value y that is read under this prompt, and dy/dA (heads, n, m)
        of each attention matrix A."""
        with torch.enable_grad():
            value = sum(
                (t.weight * self._scores[list(t.scores)].sum() for t in self._terms(target)),
                start=self._scores.new_zeros(()),
            )
            found = gradients(value, self._attention, half=self._half, retain_graph=True)
        return value.detach(), [
            at_least_float32(torch.zeros_like(weights) if own is None else own)[0]
            for own, weights in zip(found, self._attention, strict=True)
        ]

    def _terms(self, target: Target) -> list[Term]:
        return [term for term in target.terms if term.prompt == self._prompt]

    def follow(self, method: Method, gradients: list[Tensor], columns: Sequence[int]) -> Tensor:
        """A method's map (u, v)."""
        assert method.follow is not None
        weights = [at_least_float32(each.detach()[0]) for each in self._attention]
        with torch.no_grad(), torch.autocast(weights[0].device.type, enabled=False):
            relevance = method.follow(self._flow, weights, gradients, columns)
        return relevance[self._flow.first :].unflatten(0, self._cells)


class RecordAttention(TorchCalls):
    """Keeps every attention matrix (B, heads, n, m) computed while active, as part of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._spelled_out(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in _SOFTMAX and result.ndim == 4:
            return self._kept(result)
        return result

    def _kept(self, weights: Tensor) -> Tensor:
        # Where the model's weights are frozen, the graph begins at its first attention: here.
        kept = weights if weights.requires_grad else weights.detach().requires_grad_()
        self.seen.append(kept)
        return kept

    def _spelled_out(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """torch's fused attention (B, heads, n, d); models run in evaluation, without dropout."""
        if enable_gqa:
            groups = query.shape[1] // key.shape[1]
            key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
        scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            scores = scores.masked_fill(
                ~torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril(),
                -torch.inf,
            )
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        return self._kept(scores.softmax(-1)).to(value.dtype) @ value


_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}


def _sum(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total + more


def _all(found: Sequence[Tensor | None]) -> list[Tensor]:
    return [one for one in found if one is not None]
