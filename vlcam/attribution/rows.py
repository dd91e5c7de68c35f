"""Targets as rows of ``decode``, one per term of each target: scored, and differentiated.

A target is a weighted sum of scores, each read under a prompt (:mod:`vlcam.attribution.targets`).
A row is one of its terms: an image's feature maps, decoded under the term's prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt
from vlcam.adapters.once_per_image import Repeated
from vlcam.adapters.scores import decoded, refuse_not_finite
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.derivative.check import (
    Passage,
    check_gradient,
    first_sentence,
    gradients_of,
    told,
)
from vlcam.attribution.guards import WatchRows, disconnected
from vlcam.attribution.precision import at_least_float32, computed_in_half, gradients
from vlcam.attribution.targets import Target, Term

_FIRST_GUESS = 16  # bytes that autograd keeps behind the layer for each byte of A, until measured
_USUAL_TEXT = 16  # scores of a prompt, up to which it is good: A is read once for each token
_SCORE_BYTES = 64  # that a row takes itself for each score of its prompt


@dataclass(frozen=True)
class Row:
    """One row of ``decode``.

    Attributes:
        name: of the target it is a term of.
        owner: that target, counted within the targets given together.
        image: the row of the encoded images' feature maps that it reads.
        term: prompt, columns and weight.
    """

    name: str
    owner: int
    image: int
    term: Term


def rows_of(targets: Sequence[Target], images: Sequence[int]) -> list[Row]:
    """The rows of T targets, each asked of one of the images."""
    return [
        Row(target.name, owner, image, term)
        for owner, (target, image) in enumerate(zip(targets, images, strict=True))
        for term in target.terms
    ]


def images_of(rows: Sequence[Row], device: torch.device) -> Tensor:
    """The image of each row, (N,)."""
    return torch.tensor([row.image for row in rows], device=device)


def owners_of(rows: Sequence[Row], device: torch.device) -> Tensor:
    """The target of each row, (N,)."""
    return torch.tensor([row.owner for row in rows], device=device)


def read_scores(adapter: Adapter, features: FeatureMaps, rows: Sequence[Row]) -> Tensor:
    """The rows' weighted scores (N,), float32 or better, differentiable in the features.

    Args:
        features: N rows.

    Raises:
        ValueError: ``decode`` gave scores of another shape than (N, at least the columns read), or
            one that is read is not a number, or infinite.
    """
    prompts = [row.term.prompt for row in rows]
    scores = _weighted(adapter, features, prompts, _weights([row.term for row in rows]))
    refuse_not_finite(scores, adapter.name, [row.name for row in rows])
    return scores


def mixed_score(
    adapter: Adapter, features: FeatureMaps, rows: Sequence[Row]
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """One score for all the rows of the first one's image and prompt, each with a weight of its
    own, as a function of that image's feature maps; and the maps (1, K, u, v)."""
    alike = [r for r in rows if (r.image, r.term.prompt) == (rows[0].image, rows[0].term.prompt)]
    signs = torch.rand(len(alike), 1, generator=torch.Generator().manual_seed(0)) - 0.5
    own = _weights([row.term for row in alike])
    weights = ((signs.sign() + signs) * own).sum(0, keepdim=True)
    image = features.one(rows[0].image)

    def score(maps: Tensor) -> Tensor:
        rest = {name: tensor.clone() for name, tensor in image.rest.items()}
        given = FeatureMaps(maps, rest)
        return _weighted(adapter, given, [rows[0].term.prompt], weights).sum()

    return score, image.maps


def mixed_features(adapter: Adapter, prompts: Sequence[Prompt] | None, pixels: Tensor) -> Tensor:
    """One number made of all that ``encode`` gives of one image, each part with a weight of its
    own."""
    features = adapter.encode(pixels, prompts)
    generator = torch.Generator().manual_seed(0)
    parts = [features.maps, *features.rest.values()]
    weights = [torch.rand(part.shape, generator=generator) - 0.5 for part in parts]
    return torch.stack(
        [
            (at_least_float32(part) * weight.to(part.device)).sum()
            for part, weight in zip(parts, weights, strict=True)
            if part.is_floating_point()
        ]
    ).sum()


def _weighted(
    adapter: Adapter, features: FeatureMaps, prompts: Sequence[Prompt], weights: Tensor
) -> Tensor:
    """The sum (N,) of each row's scores, times their weights (N, W)."""
    device, width = features.device, weights.shape[1]
    scores = decoded(adapter, features, prompts, (weights != 0).to(device))
    scores = at_least_float32(scores)
    weights = weights.to(device, scores.dtype)
    # Unread scores may be anything, infinities included: mask, do not multiply by zero.
    return (scores[:, :width].where(weights != 0, 0) * weights).sum(1)


@dataclass(frozen=True)
class RowGradients:
    """Scores of N rows, and their gradients where the rows pass the seam; float32 or better.

    Attributes:
        scores: (N,).
        maps: with respect to the feature maps, (N, K, u, v).
        rest: with respect to what else passes the seam, where it is followed.
        plain: with respect to the feature maps without the backward rule, where wanted.
    """

    scores: Tensor
    maps: Tensor
    rest: dict[str, Tensor]
    plain: Tensor | None

    def by_target(self, rows: Sequence[Row], count: int) -> RowGradients:
        """Of ``count`` targets: the sums over their rows."""
        owners = owners_of(rows, self.scores.device)

        def summed(values: Tensor) -> Tensor:
            return values.new_zeros(count, *values.shape[1:]).index_add_(0, owners, values)

        return RowGradients(
            summed(self.scores),
            summed(self.maps),
            {name: summed(gradient) for name, gradient in self.rest.items()},
            None if self.plain is None else summed(self.plain),
        )


def differentiate(
    adapter: Adapter,
    features: FeatureMaps,
    rows: Sequence[Row],
    *,
    rule: BackwardRule | None,
    follow_rest: bool = False,
    plain_too: bool = False,
) -> RowGradients:
    """Score N rows in one forward pass of ``decode``, and differentiate.

    Args:
        follow_rest: also with respect to what passes the seam beside the maps.
        plain_too: also without the rule, from the same forward pass.

    Raises:
        ValueError: no score depends on what is differentiated with respect to.
    """
    followed = [n for n, t in features.rest.items() if follow_rest and t.is_floating_point()]
    with torch.enable_grad():
        repeated = Repeated(features, images_of(rows, features.device), followed)
        watch = WatchRows(adapter)
        scores, ruled = _scores_under_rule(adapter, repeated, rows, rule, watch)
        if watch.suspects:
            mixed, maps = mixed_score(adapter, features, rows)
            check_gradient(adapter, mixed, maps, watch.suspects, Passage.behind(adapter))
        if not scores.requires_grad:
            raise ValueError(disconnected(adapter))
        leaves = [repeated.leaf, *(repeated.leaves[name] for name in followed)]
        half, total = computed_in_half(repeated.leaf), scores.sum()
        again = plain_too and ruled
        by = partial(gradients_of, adapter)
        found = gradients(total, leaves, half=half, retain_graph=again, by=by)
        plain = found[0]
        if again:
            assert rule is not None
            with rule.lifted():
                (plain,) = gradients(total, leaves[:1], half=half, by=by)
    if all(gradient is None for gradient in found):
        raise ValueError(disconnected(adapter))
    maps, *rest = (_or_zero(g, leaf) for g, leaf in zip(found, leaves, strict=True))
    return RowGradients(
        scores.detach(),
        maps,
        dict(zip(followed, rest, strict=True)),
        _or_zero(plain, leaves[0]) if plain_too else None,
    )


def rows_that_fit(
    adapter: Adapter,
    features: FeatureMaps,
    targets: Sequence[Target],
    memory: int,
    measured: int | None = None,
) -> int:
    """About how many rows of decode fit into ``memory`` bytes.

    Args:
        measured: bytes that autograd kept for a row; None: not known yet.
    """
    scores = 1 + max((max(term.scores) for target in targets for term in target.terms), default=0)
    kept = adapter.kept_bytes(features) if measured is None else measured
    if kept is None:
        every = (features.maps, *features.rest.values())
        of_maps = sum(t[0].numel() * t.element_size() for t in every if len(t))
        kept = _FIRST_GUESS * of_maps * max(_USUAL_TEXT, scores) // _USUAL_TEXT
    return max(1, memory // max(1, kept + _SCORE_BYTES * scores))


def chunk_of(targets: Sequence[Target], start: int, size: int) -> range:
    """As many targets from ``start`` on as have ``size`` rows of decode; at least one."""
    rows = 0
    for i in range(start, len(targets)):
        rows += len(targets[i].terms)
        if rows > size and i > start:
            return range(start, i)
    return range(start, len(targets))


def _scores_under_rule(
    adapter: Adapter,
    features: FeatureMaps,
    rows: Sequence[Row],
    rule: BackwardRule | None,
    watch: WatchRows,
) -> tuple[Tensor, bool]:
    """The rows' scores (N,), and whether the rule acted on a ReLU on the way to them."""
    before = rule.seen if rule else 0
    try:
        with watch, rule or nullcontext():
            scores = read_scores(adapter, features, rows)
    except RuntimeError as error:
        if "Inference tensors" not in str(error):
            raise
        names = told(adapter, watch.suspects)
        raise ValueError(
            f"{adapter.name}: no gradient passes {names}: {first_sentence(error)}"
        ) from error
    return scores, rule is not None and rule.seen > before


def _or_zero(gradient: Tensor | None, leaf: Tensor) -> Tensor:
    """The gradient with respect to a leaf; zero where none depends on it."""
    return torch.zeros_like(leaf, dtype=torch.float32) if gradient is None else gradient


def _weights(terms: Sequence[Term]) -> Tensor:
    """What each score counts in each of N terms, (N, columns), float64."""
    places = [(n, column) for n, term in enumerate(terms) for column in term.scores]
    counts = [term.weight for term in terms for _ in term.scores]
    row, column = torch.tensor(places).unbind(1)
    weights = torch.zeros(len(terms), int(column.max()) + 1, dtype=torch.float64)
    return weights.index_put_(
        (row, column), torch.tensor(counts, dtype=torch.float64), accumulate=True
    )
