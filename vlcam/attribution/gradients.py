"""Gradients of many targets at the seam or at the pixels, with one encode an image.

A is repeated along the batch, one row for each term of each target; row n's score depends on row
n alone, so the gradient of the sum of all scores holds each target's own gradient. Exact, without
a loop, hooks or ``retain_graph``. Nothing below the layer has an autograd graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps
from vlcam.adapters.once_per_image import Repeated
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.encoding import only_prompt
from vlcam.attribution.guards import (
    KeptBytes,
    RefuseRowMixing,
    check_features,
    disconnected,
    refuse_unseen_rule,
)
from vlcam.attribution.methods import Method
from vlcam.attribution.targets import Target, Term
from vlcam.geometry.grid import Placement, place
from vlcam.utils.untouched import untouched

DEFAULT_MEMORY = 512 * 2**20
"""Bytes that the autograd graph of one chunk of rows may keep."""

_FIRST_GUESS = 16  # bytes kept behind the layer for each byte of A, until measured
HALF_PRECISION_SCALE = 1024.0  # log-probability gradients underflow float16


def score(
    adapter: Adapter,
    features: FeatureMaps,
    targets: Sequence[Target],
    memory: int = DEFAULT_MEMORY,
    images: Sequence[int] | None = None,
) -> Tensor:
    """The targets' values (T,), float32. No gradients.

    Args:
        images: for each target the row of ``features`` it is asked of; row 0 where None.
    """
    rows = _rows(targets, [0] * len(targets) if images is None else images)
    values = None
    size = _first_chunk(adapter, features, memory)
    with untouched(adapter.module), torch.no_grad():
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            image = torch.tensor([row.image for row in chunk], device=features.device)
            found = _read(adapter, Repeated(features, image), chunk)
            if values is None:
                values = found.new_zeros(len(targets))
            values.index_add_(0, _owners(chunk, found), found)
    if values is None:
        raise ValueError("no target to score")
    return values


@dataclass(frozen=True)
class SeamGradients:
    """Some targets: which (n,), of which images' rows, their scores (n,) and dy/dA (n, K, u, v),
    float32 or better; ``features``: of all images."""

    targets: range
    images: Sequence[int]
    scores: Tensor
    gradients: Tensor
    features: FeatureMaps

    def by_image(self) -> Iterator[tuple[Tensor, Tensor]]:
        """A and dy/dA, both (m, K, u, v), of every m targets of one image in a row; A is repeated
        without a copy."""
        start = 0
        for image, run in groupby(self.images):
            gradients = self.gradients[start : start + len(list(run))]
            maps = _at_least_float32(self.features.maps[image : image + 1])
            yield maps.expand_as(gradients), gradients
            start += len(gradients)


def seam_gradients(
    adapter: Adapter,
    features: FeatureMaps,
    targets: Sequence[Target],
    images: Sequence[int] | None = None,
    rule: BackwardRule | None = None,
    memory: int = DEFAULT_MEMORY,
) -> Iterator[SeamGradients]:
    """Scores and gradients at the layer of every target, in chunks of bounded memory.

    Args:
        features: of B images.
        targets: T targets, of any of the images.
        images: for each target the row of ``features`` it is asked of; row 0 where None.
        rule: acts on the ReLUs between the layer and the score.
        memory: bytes the autograd graph of one chunk may keep; a chunk is at least one target.

    Raises:
        ValueError: a score does not depend on the layer; the model mixes rows; counts differ.
    """
    images = [0] * len(targets) if images is None else images
    if len(images) != len(targets):
        raise ValueError(f"{len(targets)} targets but {len(images)} image rows")
    start, size = 0, _first_chunk(adapter, features, memory)
    while start < len(targets):
        chunk = _chunk(targets, start, size)
        rows = _rows([targets[i] for i in chunk], [images[i] for i in chunk])
        kept = KeptBytes(adapter)
        with untouched(adapter.module):
            with kept:
                found = _differentiate(adapter, features, rows, rule)
            scores, gradients = found.scores, found.maps
            # One term a target is the rule: then rows are targets and nothing needs summing.
            if len(rows) != len(chunk):
                owners = _owners(rows, scores)
                scores, gradients = (
                    _sum_rows(scores, owners, chunk),
                    _sum_rows(gradients, owners, chunk),
                )
        yield SeamGradients(chunk, [images[i] for i in chunk], scores, gradients, features)
        start = chunk.stop
        size = max(1, memory // max(1, kept.bytes // len(rows)))


def explain_at_layer(
    adapter: Adapter,
    features: FeatureMaps,
    targets: Sequence[Target],
    method: Method,
    images: Sequence[int] | None = None,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Tensor, Tensor]:
    """Scores (T,) and raw maps (T, u, v), of a method whose maps live at the layer."""
    scores, (maps,) = explain_all_at_layer(adapter, features, targets, [method], images, memory)
    return scores, maps


def explain_all_at_layer(
    adapter: Adapter,
    features: FeatureMaps,
    targets: Sequence[Target],
    methods: Sequence[Method],
    images: Sequence[int] | None = None,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Tensor, list[Tensor]]:
    """As :func:`explain_at_layer`, by several methods of one backward rule, from the same
    gradients."""
    (name,) = {method.rule for method in methods}
    rule = BackwardRule(name) if name else None
    scores, maps = [], [list[Tensor]() for _ in methods]
    for chunk in seam_gradients(adapter, features, targets, images, rule, memory):
        scores.append(chunk.scores)
        for seen, gradients in chunk.by_image():
            for own, method in zip(maps, methods, strict=True):
                assert method.reduce is not None
                own.append(_float32(method.reduce, seen, gradients))
    refuse_unseen_rule(adapter, rule, f"between layer {adapter.layer} and the score")
    return torch.cat(scores), [torch.cat(own) for own in maps]


def explain_at_pixels(
    adapter: Adapter,
    pixels: Tensor,
    targets: Sequence[Target],
    method: Method,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Tensor, Tensor]:
    """Scores (T,) and raw maps (T, H, W), of a method whose maps live at the pixels.

    One forward pass of the CNN under the method's rule serves all targets; the way back through it
    is walked once a target. The rule acts on every ReLU of the CNN, before the layer and behind
    it, so the maps do not depend on where the seam lies (but for a Grad-CAM factor).

    Args:
        pixels: of one image, (1, 3, H, W).
    """
    scores, (maps,) = explain_all_at_pixels(adapter, pixels, targets, [method], memory)
    return scores, maps


def explain_all_at_pixels(
    adapter: Adapter,
    pixels: Tensor,
    targets: Sequence[Target],
    methods: Sequence[Method],
    memory: int = DEFAULT_MEMORY,
) -> tuple[Tensor, list[Tensor]]:
    """As :func:`explain_at_pixels`, by several methods of one backward rule, from the same
    gradients."""
    adapter.check_sees_pixels()
    (name,) = {method.rule for method in methods}
    rule = BackwardRule(name) if name else None
    reducers = [method.reduce for method in methods]
    factors = [reduce for reduce in reducers if reduce is not None]
    prompts = [only_prompt(targets)] if adapter.encode_reads_prompt else None
    with untouched(adapter.module), torch.enable_grad():
        leaf = pixels.clone().detach().requires_grad_()
        with rule or nullcontext():
            features = adapter.encode(leaf.clone(), prompts)  # it may write into them
        check_features(adapter, features, 1)
        names = list(features.rest)
        outputs = [features.maps, *(features.rest[name] for name in names)]
        if not features.maps.requires_grad:
            raise ValueError(
                f"{adapter.name}: layer {adapter.layer} has no gradient with respect to the pixels;"
                " choose a method at the layer, or an encode without no_grad or detach"
            )
        live = [output for output in outputs if output.requires_grad]
        constant = FeatureMaps(
            features.maps.detach(), {name: features.rest[name].detach() for name in names}
        )
        scores, maps, coarse = [], list[Tensor](), [list[Tensor]() for _ in factors]
        size = _first_chunk(adapter, constant, memory)
        while len(maps) < len(targets):
            chunk = _chunk(targets, len(maps), size)
            rows = _rows([targets[i] for i in chunk], [0] * len(chunk))
            found = _differentiate(
                adapter,
                constant,
                rows,
                rule,
                follow_rest=True,
                plain_too=bool(factors),
            )
            owners = _owners(rows, found.scores)
            scores.append(_sum_rows(found.scores, owners, chunk))
            if found.plain is not None:
                # Section 3.2: Grad-CAM as it is, its weights are plain gradients.
                plain = _sum_rows(found.plain, owners, chunk)
                seen = _at_least_float32(constant.maps).expand_as(plain)
                for own, reduce in zip(coarse, factors, strict=True):
                    own.append(_float32(reduce, seen, plain))
            behind = (found.maps, *(found.rest[name] for name in names))
            back = [_sum_rows(g, owners, chunk) for g in behind]
            followed = [g for g, o in zip(back, outputs, strict=True) if o.requires_grad]
            for t in range(len(chunk)):
                unit = _power_of_two([g[t] for g in followed])
                heads = [
                    (g[t : t + 1] / unit).to(o.dtype) for g, o in zip(followed, live, strict=True)
                ]
                (gradient,) = torch.autograd.grad(live, leaf, heads, retain_graph=True)
                maps.append(_at_least_float32(gradient[0]).abs().amax(0) * unit)
        del features, outputs, live
    refuse_unseen_rule(adapter, rule, "in the CNN")
    result, whole = torch.stack(maps), Placement.identity((pixels.shape[2], pixels.shape[3]))
    # The factor at each pixel is the map placed by its cells' true centres.
    placed = (place(torch.cat(own), adapter.grid(whole.input_size), whole) for own in coarse)
    every = [result if reduce is None else result * next(placed) for reduce in reducers]
    return torch.cat(scores), every


@dataclass(frozen=True)
class _Row:
    """One row of decode: a term of target ``owner`` (counted within the chunk), of an image."""

    owner: int
    image: int
    term: Term


def _rows(targets: Sequence[Target], images: Sequence[int]) -> list[_Row]:
    return [
        _Row(owner, image, term)
        for owner, (target, image) in enumerate(zip(targets, images, strict=True))
        for term in target.terms
    ]


def _owners(rows: Sequence[_Row], like: Tensor) -> Tensor:
    return torch.tensor([row.owner for row in rows], device=like.device)


def _sum_rows(values: Tensor, owners: Tensor, chunk: range) -> Tensor:
    return values.new_zeros(len(chunk), *values.shape[1:]).index_add_(0, owners, values)


@dataclass(frozen=True)
class _Gradients:
    """Scores (N,) of N rows, their gradients (N, K, u, v) and those of ``rest``, float32;
    ``plain``: those of the maps without the rule, where wanted."""

    scores: Tensor
    maps: Tensor
    rest: dict[str, Tensor]
    plain: Tensor | None


def _differentiate(
    adapter: Adapter,
    features: FeatureMaps,
    rows: Sequence[_Row],
    rule: BackwardRule | None,
    follow_rest: bool = False,
    plain_too: bool = False,
) -> _Gradients:
    """Score N rows in one forward pass, and differentiate."""
    image = torch.tensor([row.image for row in rows], device=features.device)
    with torch.enable_grad():
        followed = [
            name for name, t in features.rest.items() if follow_rest and t.is_floating_point()
        ]
        repeated = Repeated(features, image, followed)
        with ExitStack() as stack:
            stack.enter_context(RefuseRowMixing(adapter))
            if rule is not None:
                stack.enter_context(rule)
            before = rule.seen if rule else 0
            scores = _read(adapter, repeated, rows)
        ruled = rule is not None and rule.seen > before
        factor = HALF_PRECISION_SCALE if is_half(repeated.leaf) else 1.0
        wanted = [repeated.leaf, *(repeated.leaves[name] for name in followed)]
        if not scores.requires_grad:
            raise ValueError(disconnected(adapter))
        total = scores.sum() * factor
        again = plain_too and ruled
        found = torch.autograd.grad(total, wanted, allow_unused=True, retain_graph=again)
        plain = found[0]
        if again:
            assert rule is not None
            with rule.lifted():
                (plain,) = torch.autograd.grad(total, wanted[:1], allow_unused=True)
    if found[0] is None and not any(g is not None for g in found[1:]):
        raise ValueError(disconnected(adapter))
    gradients = [
        torch.zeros_like(w, dtype=torch.float32) if g is None else _at_least_float32(g)
        for g, w in zip((*found, plain), (*wanted, wanted[0]), strict=True)
    ]
    if factor != 1:
        gradients = [gradient / factor for gradient in gradients]
    without_rule = gradients.pop()
    at_rest = dict(zip(followed, gradients[1:], strict=True))
    for name, leaf in repeated.leaves.items():
        at_rest.setdefault(name, torch.zeros_like(leaf))
    return _Gradients(scores.detach(), gradients[0], at_rest, without_rule if plain_too else None)


def _read(adapter: Adapter, features: FeatureMaps, rows: Sequence[_Row]) -> Tensor:
    """The rows' weighted scores (N,), float32 or better, differentiable in the features."""
    weights = _weights([row.term for row in rows])
    width = weights.shape[1]
    prompts = [row.term.prompt for row in rows]
    device = features.device
    scores = adapter.decode(features, prompts, (weights != 0).to(device))
    if scores.ndim != 2 or scores.shape[0] != len(rows) or scores.shape[1] < width:
        raise ValueError(
            f"{adapter.name}: decode gave scores of shape {tuple(scores.shape)} for {len(rows)}"
            f" rows; expected ({len(rows)}, at least {width})"
        )
    scores = _at_least_float32(scores)
    weights = weights.to(device, scores.dtype)
    # Unread scores may be anything, infinities included: mask, do not multiply by zero.
    return (scores[:, :width].where(weights != 0, 0) * weights).sum(1)


def _weights(terms: Sequence[Term]) -> Tensor:
    """What each score counts in each of N terms, (N, columns), float64."""
    places = [(n, column) for n, term in enumerate(terms) for column in term.scores]
    counts = [term.weight for term in terms for _ in term.scores]
    row, column = torch.tensor(places).unbind(1)
    weights = torch.zeros(len(terms), int(column.max()) + 1, dtype=torch.float64)
    return weights.index_put_(
        (row, column), torch.tensor(counts, dtype=torch.float64), accumulate=True
    )


def _first_chunk(adapter: Adapter, features: FeatureMaps, memory: int) -> int:
    kept = adapter.kept_bytes(features)
    if kept is None:
        every = (features.maps, *features.rest.values())
        kept = _FIRST_GUESS * sum(t[0].numel() * t.element_size() for t in every if len(t))
    return max(1, memory // max(1, kept))


def _chunk(targets: Sequence[Target], start: int, size: int) -> range:
    """As many targets from ``start`` on as have ``size`` rows of decode; at least one."""
    rows = 0
    for i in range(start, len(targets)):
        rows += len(targets[i].terms)
        if rows > size and i > start:
            return range(start, i)
    return range(start, len(targets))


def is_half(tensor: Tensor) -> bool:
    """Whether it is, or what is computed of it may be, in float16."""
    kind = tensor.device.type
    return tensor.dtype == torch.float16 or (
        torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    )


def _power_of_two(gradients: Sequence[Tensor]) -> Tensor:
    """Just above their greatest value: divided by it (exactly) they do not underflow float16."""
    greatest = torch.stack([g.abs().amax() for g in gradients]).amax()
    return torch.ldexp(torch.ones_like(greatest), torch.frexp(greatest)[1])


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _float32(reduce: Callable[[Tensor, Tensor], Tensor], maps: Tensor, gradients: Tensor) -> Tensor:
    """The reducer outside of any autocast: half precision costs 0.4 % of a map."""
    with torch.no_grad(), torch.autocast(maps.device.type, enabled=False):
        return reduce(maps, gradients)
