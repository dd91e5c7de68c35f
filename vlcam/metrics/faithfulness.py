"""Does a map tell the truth about the model? Three ways to ask.

* :func:`rank_correlation` of a map with the map of occlusion (section 8.2 of the paper);
* :func:`curves`: deletion and insertion, the score as the pixels are removed, or shown, in the
  order in which the map ranks them (Petsiuk et al., RISE, BMVC 2018);
* :func:`cascade`: the model with its weights randomised layer by layer, from the scores down
  (Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018). A method whose map stays the same
  does not explain the model; Guided Backpropagation's is known to stay.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from vlcam.adapters.adapter import Adapter
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import score
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.geometry.grid import Cells, Placement, place
from vlcam.utils.rounding import slack
from vlcam.utils.untouched import untouched

_TOGETHER = 17  # changed photos in a batch


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float | None:
    """Spearman's rank correlation of two maps of one shape, between -1 and 1 (section 8.2).

    It is Pearson's correlation of the ranks, ``cov(r, s) / (std(r) * std(s))``; equal values share
    their mean rank, and so do those that rounding alone has told apart
    (:func:`vlcam.utils.rounding.slack`). None where a map is constant or holds a value that is not
    finite: it ranks nothing, and must be counted, not dropped.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"maps of {a.shape} and {b.shape} cannot be ranked against each other")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    ranks = _ranks(a), _ranks(b)
    if any(np.ptp(some) == 0 for some in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from the smallest on, (N,); equal values have their mean rank."""
    from scipy.stats import rankdata

    flat = values.ravel()
    order = flat.argsort(kind="stable")
    ascending = flat[order]
    steps = np.diff(ascending) > slack(ascending)[1:]
    levels = np.zeros(len(flat), np.intp)
    levels[order[1:]] = np.cumsum(steps)
    ranks: NDArray[np.float64] = rankdata(levels)
    return ranks


def on_patches(maps: Tensor, grid: Cells, patch: Patch, input_size: tuple[int, int]) -> Tensor:
    """Maps averaged over each position of an occluding patch, to be compared with occlusion maps.

    Args:
        maps: (T, u, v).
        grid: where their cells lie in the input.
        patch: its size and stride, in input pixels.
        input_size: (height, width).

    Returns:
        (T, rows, columns) float64, the grid of an occlusion map: the means of the maps, placed at
        input size, over the pixels that the patch would cover.
    """
    drawn = place(maps.double(), grid, Placement.identity(input_size))
    means: Tensor = functional.avg_pool2d(drawn[:, None], patch.size, patch.stride)[:, 0]
    return means


@dataclass(frozen=True)
class Curves:
    """A target's score as more and more pixels are removed, or shown; each has steps + 1 entries.

    Attributes:
        shares: of the input's pixels that are removed, or shown, from 0 to 1.
        deletion: the score without the pixels that the map ranks first (low is good).
        insertion: the score with these pixels only (high is good).
    """

    shares: tuple[float, ...]
    deletion: tuple[float, ...]
    insertion: tuple[float, ...]

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve, by the trapezoidal rule: the mean score."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve, likewise."""
        return float(np.trapezoid(self.insertion, self.shares))


def curves(
    adapter: Adapter,
    pixels: Tensor,
    target: Target,
    *,
    drawn: Tensor,
    steps: int = 16,
    fill: float = 0.0,
    ends: tuple[float, float] | None = None,
) -> Curves:
    """Deletion and insertion of one target's map (Petsiuk et al., RISE, BMVC 2018).

    Both fill removed pixels with one colour; the paper's insertion begins with a blurred photo.

    Args:
        pixels: of one image, (1, 3, H, W).
        drawn: the map at input size, (H, W). Pixels of equal value are ranked row by row.
        steps: number of equal parts in which pixels are removed, or shown.
        fill: the value of a removed pixel, normalised; 0 is the mean colour.
        ends: the scores of the whole input and of one that is all removed, where they are known:
            they do not depend on the map.

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
    asked = shares if ends is None else shares[1:-1]
    if not asked:
        assert ends is not None
        return Curves(tuple(shares), ends, ends[::-1])
    first = torch.stack([rank < round(share * len(order)) for share in asked])[:, None]
    prompts = [target.terms[0].prompt] * _TOGETHER if adapter.encode_reads_prompt else None
    seen = torch.cat([torch.where(first, fill, pixels), torch.where(first, pixels, fill)])
    values: list[float] = []
    for some in seen.split(_TOGETHER):
        features = encode(adapter, some, prompts and prompts[: len(some)])
        rows = range(len(some))
        values += score(adapter, features, [target] * len(some), images=rows).tolist()
    deleted, inserted = values[: len(asked)], values[len(asked) :]
    if ends is not None:
        whole, blank = ends
        deleted, inserted = [whole, *deleted, blank], [blank, *inserted, whole]
    return Curves(tuple(shares), tuple(deleted), tuple(inserted))


def layers_from_the_top(module: nn.Module) -> list[str]:
    """Names of the submodules with weights of their own, the last defined first: from the scores
    down to the pixels, if a model defines its layers in the order in which they run."""
    names = [
        name
        for name, part in module.named_modules()
        if any(True for _ in part.parameters(recurse=False))
    ]
    return names[::-1]


def cascade(
    adapter: Adapter, seed: int = 0, layers: Sequence[str] | None = None
) -> Iterator[tuple[str, Adapter]]:
    """A copy of a model whose layers are randomised one after the other, and stay so: the cascading
    randomisation of Adebayo et al. (NeurIPS 2018).

    A layer's weights are drawn from a normal distribution with the mean and the standard deviation
    they had, so that activations keep their scale; the statistics of batch normalisation stay. The
    model itself is not changed.

    Args:
        seed: of the weights that are drawn.
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
