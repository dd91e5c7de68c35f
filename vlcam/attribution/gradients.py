"""Gradients of many targets at the layer or at the pixels, with one encode per image.

A is repeated along the batch, one row per term of each target (:mod:`vlcam.attribution.rows`). Row
n's score depends on row n alone, so the gradient of the sum of all scores holds each target's own
gradient: exact, without a loop, hooks or ``retain_graph``. Nothing below the layer has an autograd
graph, except where gradients at the pixels are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt
from vlcam.adapters.once_per_image import Repeated
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.derivative.check import Passage, check_gradient, gradients_of, told
from vlcam.attribution.derivative.suspects import Watch
from vlcam.attribution.guards import (
    KeptBytes,
    check_features,
    refuse_not_finite_maps,
    refuse_unseen_rule,
)
from vlcam.attribution.methods import Method
from vlcam.attribution.precision import at_least_float32, power_of_two_above
from vlcam.attribution.reducers import Reducer
from vlcam.attribution.rows import (
    RowGradients,
    chunk_of,
    differentiate,
    images_of,
    mixed_features,
    owners_of,
    read_scores,
    rows_of,
    rows_that_fit,
)
from vlcam.attribution.targets import Target, only_prompt
from vlcam.geometry.grid import Placement, place
from vlcam.geometry.tiles import in_tiles, of_tiles
from vlcam.utils.untouched import untouched

DEFAULT_MEMORY = 512 * 2**20
"""Bytes that the autograd graph of one chunk of rows may keep."""


def score(
    adapter: Adapter,
    features: FeatureMaps,
    targets: Sequence[Target],
    *,
    memory: int = DEFAULT_MEMORY,
    images: Sequence[int] | None = None,
) -> Tensor:
    """The targets' values (T,), float32 or better. No gradients.

    Args:
        images: for each target the row of ``features`` it is asked of; row 0 where None.

    Raises:
        ValueError: there is no target.
    """
    rows = rows_of(targets, [0] * len(targets) if images is None else images)
    values = None
    size = rows_that_fit(adapter, features, targets, memory)
    with untouched(adapter.module), torch.no_grad():
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            repeated = Repeated(features, images_of(chunk, features.device))
            found = read_scores(adapter, repeated, chunk)
            if values is None:
                values = found.new_zeros(len(targets))
            values.index_add_(0, owners_of(chunk, found.device), found)
    if values is None:
        raise ValueError("no target to score")
    return values


# --- at the layer


@dataclass(frozen=True)
class SeamGradients:
    """Scores and gradients of n targets at the layer.

    Attributes:
        targets: which of those asked for.
        images: of each the row of ``features``.
        scores: (n,), float32 or better.
        gradients: dy/dA, (n, K, u, v), float32 or better.
        features: of all images.
    """

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
            maps = at_least_float32(self.features.maps[image : image + 1])
            yield maps.expand_as(gradients), gradients
            start += len(gradients)


def seam_gradients(
    adapter: Adapter,
    features: FeatureMaps,
    targets: Sequence[Target],
    *,
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
    start, size = 0, rows_that_fit(adapter, features, targets, memory)
    while start < len(targets):
        chunk = chunk_of(targets, start, size)
        rows = rows_of([targets[i] for i in chunk], [images[i] for i in chunk])
        kept = KeptBytes(adapter)
        with untouched(adapter.module):
            with kept:
                found = differentiate(adapter, features, rows, rule=rule)
            # Most often each target has one term: then rows are targets, and nothing is summed.
            if len(rows) != len(chunk):
                found = found.by_target(rows, len(chunk))
        yield SeamGradients(chunk, [images[i] for i in chunk], found.scores, found.maps, features)
        start = chunk.stop
        size = rows_that_fit(adapter, features, targets, memory, kept.bytes // len(rows))


def explain_at_layer(
    adapter: Adapter,
    features: FeatureMaps,
    targets: Sequence[Target],
    method: Method,
    *,
    images: Sequence[int] | None = None,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Tensor, Tensor]:
    """Scores (T,) and raw maps (T, u, v), of a method whose maps live at the layer.

    Arguments and errors as of :func:`seam_gradients`.
    """
    scores, (maps,) = explain_all_at_layer(
        adapter, features, targets, [method], images=images, memory=memory
    )
    return scores, maps


def explain_all_at_layer(
    adapter: Adapter,
    features: FeatureMaps,
    targets: Sequence[Target],
    methods: Sequence[Method],
    *,
    images: Sequence[int] | None = None,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Tensor, list[Tensor]]:
    """As :func:`explain_at_layer`, by several methods of one backward rule, from the same
    gradients."""
    rule = _rule_of(methods)
    scores, maps = [], [list[Tensor]() for _ in methods]
    for chunk in seam_gradients(
        adapter, features, targets, images=images, rule=rule, memory=memory
    ):
        scores.append(chunk.scores)
        tiles = adapter.tiles(features)
        for activations, gradients in chunk.by_image():
            for own, method in zip(maps, methods, strict=True):
                assert method.reduce is not None
                own.append(_reduced(method.reduce, activations, gradients, tiles))
    refuse_unseen_rule(adapter, rule, f"between layer {adapter.layer} and the score")
    found = [torch.cat(own) for own in maps]
    refuse_not_finite_maps(adapter, targets, found)
    return torch.cat(scores), found


# --- at the pixels


def explain_at_pixels(
    adapter: Adapter,
    pixels: Tensor,
    targets: Sequence[Target],
    method: Method,
    *,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Tensor, Tensor]:
    """Scores (T,) and raw maps (T, H, W), of a method whose maps live at the pixels.

    One forward pass of the CNN under the method's rule serves all targets, then one backward pass
    through it per target. The rule acts on every ReLU of the CNN, before the layer and behind it,
    so the maps do not depend on where the seam lies (but for a Grad-CAM factor).

    Args:
        pixels: of one image, (1, 3, H, W).
        memory: bytes the autograd graph behind the layer may keep, of one chunk of targets.

    Raises:
        ValueError: as by :func:`seam_gradients`; the layer has no gradient with respect to the
            pixels; the model is not fed pixels.
    """
    scores, (maps,) = explain_all_at_pixels(adapter, pixels, targets, [method], memory=memory)
    return scores, maps


def explain_all_at_pixels(
    adapter: Adapter,
    pixels: Tensor,
    targets: Sequence[Target],
    methods: Sequence[Method],
    *,
    memory: int = DEFAULT_MEMORY,
) -> tuple[Tensor, list[Tensor]]:
    """As :func:`explain_at_pixels`, by several methods of one backward rule, from the same
    gradients."""
    adapter.check_sees_pixels()
    rule = _rule_of(methods)
    factors = {method.name: method.reduce for method in methods if method.reduce is not None}
    with untouched(adapter.module), torch.enable_grad():
        chunks = list(
            _pixel_gradients(adapter, pixels, targets, factors=factors, rule=rule, memory=memory)
        )
    refuse_unseen_rule(adapter, rule, "in the CNN")
    at_pixels = torch.cat([chunk.maps for chunk in chunks])
    refuse_not_finite_maps(adapter, targets, [at_pixels])
    whole = Placement.identity((pixels.shape[2], pixels.shape[3]))

    def times_factor(name: str) -> Tensor:
        """The factor at each pixel is the layer's map, placed by its cells' true centres."""
        at_layer = torch.cat([chunk.factors[name] for chunk in chunks])
        return at_pixels * place(at_layer, adapter.grid(whole.input_size), whole)

    scores = torch.cat([chunk.scores for chunk in chunks])
    return scores, [times_factor(m.name) if m.name in factors else at_pixels for m in methods]


@dataclass(frozen=True)
class _PixelGradients:
    """Scores and gradients of n targets at the pixels.

    Attributes:
        scores: (n,).
        maps: (n, H, W), the greatest absolute gradient over the three colours.
        factors: (n, u, v), the layer's map of each reducer, by name.
    """

    scores: Tensor
    maps: Tensor
    factors: dict[str, Tensor]


def _pixel_gradients(
    adapter: Adapter,
    pixels: Tensor,
    targets: Sequence[Target],
    *,
    factors: dict[str, Reducer],
    rule: BackwardRule | None,
    memory: int,
) -> Iterator[_PixelGradients]:
    """Chunk by chunk, all from one forward pass of the CNN."""
    prompts = [only_prompt(targets)] if adapter.encode_reads_prompt else None
    forward = _ForwardPass(adapter, pixels, prompts, rule)
    features = forward.features
    start, size = 0, rows_that_fit(adapter, features, targets, memory)
    while start < len(targets):
        chunk = chunk_of(targets, start, size)
        rows = rows_of([targets[i] for i in chunk], [0] * len(chunk))
        at_seam = differentiate(
            adapter, features, rows, rule=rule, follow_rest=True, plain_too=bool(factors)
        ).by_target(rows, len(chunk))
        own = {}
        if at_seam.plain is not None:
            # Section 3.2: Grad-CAM as it is, its weights are plain gradients.
            activations = at_least_float32(features.maps).expand_as(at_seam.plain)
            own = {
                name: _reduced(reduce, activations, at_seam.plain, adapter.tiles(features))
                for name, reduce in factors.items()
            }
        yield _PixelGradients(at_seam.scores, forward.back_to_pixels(at_seam), own)
        start = chunk.stop


class _ForwardPass:
    """The CNN's forward pass of one image, with its autograd graph from the pixels to the seam.

    Attributes:
        features: what came out of it, detached, for ``decode`` to make a graph of its own from.

    Raises:
        ValueError: the feature maps have no gradient with respect to the pixels.
    """

    def __init__(
        self,
        adapter: Adapter,
        pixels: Tensor,
        prompts: Sequence[Prompt] | None,
        rule: BackwardRule | None,
    ) -> None:
        self._adapter, self._pixels = adapter, pixels.clone().detach().requires_grad_()
        with Watch(adapter.module) as watch, rule or nullcontext():
            features = adapter.encode(self._pixels.clone(), prompts)  # it may write into them
        check_features(adapter, features, 1)
        if not features.maps.requires_grad:
            blamed = (
                f" (no gradient passes {told(adapter, watch.suspects)})" if watch.suspects else ""
            )
            raise ValueError(
                f"{adapter.name}: layer {adapter.layer} has no gradient with respect to the"
                f" pixels{blamed}; choose a method at the layer, or an encode without no_grad or"
                " detach"
            )
        if watch.suspects:
            mixture = partial(mixed_features, adapter, prompts)
            passage = Passage.before(adapter)
            check_gradient(adapter, mixture, self._pixels, watch.suspects, passage)
        self._maps = features.maps
        self._rest = {name: t for name, t in features.rest.items() if t.requires_grad}
        self.features = FeatureMaps(
            features.maps.detach(), {name: t.detach() for name, t in features.rest.items()}
        )

    def back_to_pixels(self, at_seam: RowGradients) -> Tensor:
        """From the gradients of n targets at the seam to maps (n, H, W): a backward pass through
        the CNN per target."""
        outputs = [self._maps, *self._rest.values()]
        gradients = [at_seam.maps, *(at_seam.rest[name] for name in self._rest)]
        maps = []
        for target in range(len(at_seam.scores)):
            own = [gradient[target : target + 1] for gradient in gradients]
            unit = power_of_two_above(own)
            heads = [(g / unit).to(o.dtype) for g, o in zip(own, outputs, strict=True)]
            (found,) = gradients_of(
                self._adapter, outputs, [self._pixels], grad_outputs=heads, retain_graph=True
            )
            assert found is not None
            maps.append(at_least_float32(found[0]).abs().amax(0) * unit)
        return torch.stack(maps)


def _rule_of(methods: Sequence[Method]) -> BackwardRule | None:
    """The one backward rule of the methods."""
    (name,) = {method.rule for method in methods}
    return BackwardRule(name) if name else None


def _reduced(reduce: Reducer, maps: Tensor, gradients: Tensor, tiles: tuple[int, int]) -> Tensor:
    """The reducer, of each tile by itself, outside of any autocast: half precision costs 0.4 % of
    a map."""
    with torch.no_grad(), torch.autocast(maps.device.type, enabled=False):
        if tiles == (1, 1):
            return reduce(maps, gradients)
        made = reduce(in_tiles(maps, tiles).flatten(0, 1), in_tiles(gradients, tiles).flatten(0, 1))
        return of_tiles(made.unflatten(0, (len(maps), -1))[:, :, None], tiles)[:, 0]
