"""Does a map tell the truth about the model? Three ways to ask.

* :func:`rank_correlation` of a map with what occlusion finds (section 8.2 of the paper);
* :func:`curves`: the score as the pixels a map points at are taken away, or shown, one part after
  the other (Petsiuk et al., BMVC 2018);
* :func:`cascade`: the map of the model with its weights randomised from the top down (Adebayo et
  al., NeurIPS 2018). A method that still draws the same map does not explain the model; Guided
  Backpropagation is known to.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from vlcam.adapters.adapter import Adapter
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import score
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.geometry.grid import Cells, Placement, place
from vlcam.utils.untouched import untouched

_TOGETHER = 17  # covered photos that are encoded together


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float | None:
    """Spearman's rank correlation of two maps of one shape; equal values share their mean rank.

    None where a map is constant or holds a value that is not finite: it ranks nothing, and must be
    counted, not dropped.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"maps of {a.shape} and {b.shape} cannot be ranked against each other")
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def on_patches(maps: Tensor, grid: Cells, patch: Patch, input_size: tuple[int, int]) -> Tensor:
    """Maps (T, u, v) on the places of an occluding patch, (T, rows, columns): the mean of each map,
    drawn at input size, over what the patch would cover. So a map and an occlusion map are
    compared on the occlusion map's own grid."""
    drawn = place(maps, grid, Placement.identity(input_size))
    means: Tensor = functional.avg_pool2d(drawn[:, None], patch.size, patch.stride)[:, 0]
    return means


@dataclass(frozen=True)
class Curves:
    """A target's score along the way.

    Attributes:
        shares: of the input's pixels that are taken away, or shown, from 0 to 1: (steps + 1,).
        deletion: score with the pixels gone that the map ranks first (low is good).
        insertion: score with only those shown (high is good).
    """

    shares: tuple[float, ...]
    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve: the mean score on the way."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve."""
        return float(np.trapezoid(self.insertion, self.shares))


def curves(
    adapter: Adapter,
    pixels: Tensor,
    target: Target,
    drawn: Tensor,
    steps: int = 16,
    fill: float = 0.0,
) -> Curves:
    """Deletion and insertion of one target's map.

    Args:
        pixels: of one image, (1, 3, H, W).
        drawn: the map at input size, (H, W). Pixels of the same value go in reading order.
        steps: parts of equal size.
        fill: of a pixel that is gone, normalised; 0 is the mean colour.

    Raises:
        ValueError: the map is not of the input's size, or there is less than one step.
    """
    size = pixels.shape[2:]
    if drawn.shape != size:
        raise ValueError(f"a map of {tuple(drawn.shape)} for an input of {tuple(size)}")
    if steps < 1:
        raise ValueError(f"{steps} steps: at least 1")
    order = drawn.flatten().argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    rank = rank.view(size)
    shares = [step / steps for step in range(steps + 1)]
    first = torch.stack([rank < round(share * len(order)) for share in shares])[:, None]
    prompts = [target.terms[0].prompt] * _TOGETHER if adapter.encode_reads_prompt else None
    seen = torch.cat([torch.where(first, fill, pixels), torch.where(first, pixels, fill)])
    values: list[float] = []
    for some in seen.split(_TOGETHER):
        features = encode(adapter, some, prompts and prompts[: len(some)])
        rows = range(len(some))
        values += score(adapter, features, [target] * len(some), images=rows).tolist()
    deleted, inserted = values[: len(shares)], values[len(shares) :]
    return Curves(tuple(shares), tuple(deleted), tuple(inserted))


def layers_from_the_top(module: nn.Module) -> list[str]:
    """Names of the submodules that hold weights of their own, the last defined first: for models
    that define their layers in the order they run, from the scores down to the pixels."""
    names = [
        name
        for name, part in module.named_modules()
        if any(True for _ in part.parameters(recurse=False))
    ]
    return names[::-1]


def cascade(
    adapter: Adapter, seed: int = 0, layers: Sequence[str] | None = None
) -> Iterator[tuple[str, Adapter]]:
    """A copy of a model whose layers lose what they learned, one after the other and for good.

    A layer's weights are drawn anew from a normal distribution with the mean and the standard
    deviation they had, so activations keep their scale; what batch normalisation measured stays.
    The model itself is left alone.

    Args:
        layers: names of submodules in the order to randomise; None: :func:`layers_from_the_top`.

    Yields:
        The layer's name and the copy, which the next step changes further.
    """
    with untouched(adapter.module):
        changed = copy.deepcopy(adapter)
    random = torch.Generator().manual_seed(seed)
    for name in layers_from_the_top(changed.module) if layers is None else layers:
        for weights in changed.module.get_submodule(name).parameters(recurse=False):
            drawn = torch.randn(weights.shape, generator=random, dtype=torch.float64)
            spread = weights.std(correction=0) if weights.numel() > 1 else weights.abs()
            with torch.no_grad():
                weights.copy_(weights.mean() + spread * drawn.to(weights))
        yield name, changed
