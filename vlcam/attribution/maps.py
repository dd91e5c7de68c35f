"""Maps of any targets of one photo, by any method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, Prompt
from vlcam.attribution import methods
from vlcam.attribution.attention import explain_by_attention
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.gradients import DEFAULT_MEMORY, explain_all_at_layer, explain_all_at_pixels
from vlcam.attribution.incremental import incremental
from vlcam.attribution.occlusion import Patch, occlusion_maps
from vlcam.attribution.targets import Target, only_prompt
from vlcam.geometry.grid import Cells, Grid
from vlcam.utils.messages.brief import Brief


@dataclass(frozen=True, repr=False)
class TargetMaps(Brief):
    """Scores and maps of T targets.

    Attributes:
        scores: (T,).
        maps: (T, u, v), raw, float32.
        grid: where the maps' cells lie in the input.
        details: what a result should record of how they were made.
    """

    scores: Tensor
    maps: Tensor
    grid: Cells
    details: dict[str, Any] = field(default_factory=dict)


def explain_targets(
    model: Adapter,
    encoded: Encoded,
    asked: list[Target],
    method: methods.Method,
    *,
    memory: int = DEFAULT_MEMORY,
    patch: Patch | None = None,
) -> TargetMaps:
    """Maps of any targets of one photo; prompt by prompt where the feature maps depend on it.

    Args:
        memory: bytes that the autograd graph of one chunk of targets may keep.
        patch: what covers the input, for occlusion; None: the default one.

    Raises:
        ValueError: the model has no maps of the method's kind; a score does not depend on the
            layer.
    """
    return explain_targets_by(model, encoded, asked, [method], memory=memory, patch=patch)[0]


def explain_targets_by(
    model: Adapter,
    encoded: Encoded,
    asked: list[Target],
    by: Sequence[methods.Method],
    *,
    memory: int = DEFAULT_MEMORY,
    patch: Patch | None = None,
) -> list[TargetMaps]:
    """As :func:`explain_targets`, by several methods; those that need the same gradients share
    them."""
    found: dict[str, TargetMaps] = {}
    for group in alike(by):
        if group[0].at == "patches":
            maps = [_occlude(model, encoded.pixels, asked, patch or Patch()) for _ in group]
        elif group[0].at == "attention":
            maps = _explain_by_attention(model, encoded, asked, group)
        else:
            maps = _explain_by_gradients(model, encoded, asked, group, memory=memory)
        found |= {method.name: own for method, own in zip(group, maps, strict=True)}
    return [found[method.name] for method in by]


def alike(by: Sequence[methods.Method]) -> list[list[methods.Method]]:
    """The methods in groups; those of a group need the same gradients."""
    groups: dict[tuple[str, str | None], list[methods.Method]] = {}
    for method in by:
        groups.setdefault((method.at, method.rule), []).append(method)
    return list(groups.values())


def _explain_by_gradients(
    model: Adapter,
    encoded: Encoded,
    asked: list[Target],
    by: Sequence[methods.Method],
    *,
    memory: int = DEFAULT_MEMORY,
) -> list[TargetMaps]:
    """By methods that are :func:`alike`, prompt by prompt where the feature maps depend on it."""
    size = (encoded.pixels.shape[2], encoded.pixels.shape[3])
    at_layer = by[0].at == "layer"
    if not asked:
        grid = _cells(model, encoded) if at_layer else Grid.pixels(size)
        return [TargetMaps(torch.zeros(0), torch.zeros(0, *grid.size), grid)] * len(by)
    groups = _by_prompt(asked) if model.encode_reads_prompt else []
    if len(groups) > 1:
        parts = [
            _explain_by_gradients(model, encoded, [asked[row] for row in rows], by, memory=memory)
            for rows in groups
        ]
        order = torch.tensor([row for rows in groups for row in rows]).argsort()
        return [_in_order(some, order) for some in zip(*parts, strict=True)]
    if at_layer:
        prompt = only_prompt(asked) if model.encode_reads_prompt else None
        features, grid = encoded.seen(model, prompt), _cells(model, encoded)
        scores, maps = explain_all_at_layer(model, features, asked, by, memory=memory)
    else:
        scores, maps = explain_all_at_pixels(model, encoded.pixels, asked, by, memory=memory)
        grid = Grid.pixels(size)
    return [TargetMaps(scores, own.float(), grid) for own in maps]


def _cells(model: Adapter, encoded: Encoded) -> Cells:
    return model.cells(encoded.pixels, encoded.placement)


def _explain_by_attention(
    model: Adapter, encoded: Encoded, asked: list[Target], by: Sequence[methods.Method]
) -> list[TargetMaps]:
    cells = _cells(model, encoded)
    if not asked:
        return [TargetMaps(torch.zeros(0), torch.zeros(0, *cells.size), cells)] * len(by)
    scores, maps = explain_by_attention(model, encoded.pixels, asked, by, cells=cells.size)
    return [TargetMaps(scores, own.float(), cells) for own in maps]


def _in_order(some: Sequence[TargetMaps], order: Tensor) -> TargetMaps:
    """Maps of several prompts' targets as one, in the order in which the targets were given."""
    scores = torch.cat([found.scores for found in some])[order]
    return replace(some[0], scores=scores, maps=torch.cat([found.maps for found in some])[order])


def _by_prompt(asked: Sequence[Target]) -> list[list[int]]:
    """The places of the targets under each prompt."""
    rows: dict[Prompt, list[int]] = {}
    for row, target in enumerate(asked):
        rows.setdefault(only_prompt([target]), []).append(row)
    return list(rows.values())


def _occlude(model: Adapter, pixels: Tensor, asked: list[Target], patch: Patch) -> TargetMaps:
    encode_covered, why_not = incremental(model, pixels, patch)
    scores, maps, grid = occlusion_maps(model, pixels, asked, patch, encode=encode_covered)
    record = asdict(patch) | {"whole_passes_because": why_not}
    return TargetMaps(scores.float(), maps.float(), grid, {"occlusion": record})
