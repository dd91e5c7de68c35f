"""Occlusion maps: how much each target's score drops when a patch of the input is covered.

The patch slides over the input x (Zeiler and Fergus, ECCV 2014; section 8.2 of the paper compares
maps with it). At the patch's place (i, j)

    ``L_ij = y(x) - y(x with the patch at (i, j))``

All targets are read from the same forward passes: one encode per place, one decode per place and
prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt
from vlcam.adapters.scores import decoded, refuse_not_finite
from vlcam.attribution.targets import Target
from vlcam.geometry.grid import Grid
from vlcam.utils.terminal import progress
from vlcam.utils.untouched import untouched


@dataclass(frozen=True)
class Patch:
    """What slides over the input.

    Attributes:
        size: of its sides, in input pixels.
        stride: from one place to the next, in input pixels.
        fill: its value in normalised pixels; 0 is the mean colour of the training pixels.

    Raises:
        ValueError: a size or stride below 1.
    """

    size: int = 45
    stride: int = 8
    fill: float = 0.0

    def __post_init__(self) -> None:
        if self.size < 1 or self.stride < 1:
            raise ValueError(
                f"occlusion: a patch of {self.size} pixels at stride {self.stride}; both must be"
                " at least 1"
            )

    def grid(self, input_size: tuple[int, int]) -> Grid:
        """Where the patches are centred, all of them inside an input of (height, width).

        Raises:
            ValueError: the patch is larger than the input.
        """
        if self.size > min(input_size):
            raise ValueError(
                f"occlusion: a patch of {self.size} pixels does not fit into an input of"
                f" {input_size[0]} x {input_size[1]}"
            )
        rows, columns = ((side - self.size) // self.stride + 1 for side in input_size)
        middle = (self.size - 1) / 2
        return Grid((rows, columns), (middle, middle), (float(self.stride), float(self.stride)))

    def corners(self, input_size: tuple[int, int]) -> list[tuple[int, int]]:
        """First pixel (y, x) of each place, row by row."""
        rows, columns = self.grid(input_size).size
        return [(i * self.stride, j * self.stride) for i in range(rows) for j in range(columns)]


Encode = Callable[[Sequence[tuple[int, int]]], FeatureMaps]
"""Feature maps of the input with the patch at each of those corners."""


def occlusion_maps(
    adapter: Adapter,
    pixels: Tensor,
    targets: Sequence[Target],
    patch: Patch,
    *,
    batch: int = 32,
    encode: Encode | None = None,
) -> tuple[Tensor, Tensor, Grid]:
    """Scores (T,), drops (T, rows, columns), both float64, and where the patches were centred.

    Args:
        pixels: of one image, (1, 3, H, W).
        targets: T targets.
        batch: places of the patch in one forward pass.
        encode: a faster way to the feature maps of the covered input, where there is one (see
            :func:`vlcam.attribution.incremental.incremental`); None covers the pixels and encodes
            them.

    Raises:
        ValueError: the patch does not fit into the input; the model is not fed pixels.
    """
    adapter.check_sees_pixels()
    size = (pixels.shape[2], pixels.shape[3])
    grid = patch.grid(size)
    with untouched(adapter.module), torch.no_grad():
        prompts = list(dict.fromkeys(term.prompt for t in targets for term in t.terms))
        scores = _values(adapter, _encoded(adapter, pixels, prompts), prompts, targets)
        drops = []
        corners = patch.corners(size)
        with progress.of("patches", len(corners), unit="patch") as work:
            for start in range(0, len(corners), batch):
                some = corners[start : start + batch]
                if encode is None:
                    features = _encoded(adapter, _covered(pixels, some, patch), prompts)
                else:
                    features = _under(adapter, encode(some), prompts)
                drops.append(scores - _values(adapter, features, prompts, targets))
                work.advance(len(some))
    return scores[0], torch.cat(drops).T.unflatten(1, grid.size), grid


def _covered(pixels: Tensor, corners: Sequence[tuple[int, int]], patch: Patch) -> Tensor:
    """The input (N, 3, H, W) with the patch at each of N corners."""
    covered = pixels.repeat(len(corners), 1, 1, 1)
    for row, (y, x) in enumerate(corners):
        covered[row, :, y : y + patch.size, x : x + patch.size] = patch.fill
    return covered


def _encoded(adapter: Adapter, pixels: Tensor, prompts: Sequence[Prompt]) -> list[FeatureMaps]:
    """The feature maps to decode under each prompt."""
    if not adapter.encode_reads_prompt:
        return _under(adapter, adapter.encode(pixels.clone()), prompts)
    photo = adapter.encode_photo(pixels.clone())
    if photo is not None:
        return _under(adapter, photo, prompts)
    return [adapter.encode(pixels.clone(), [prompt] * len(pixels)) for prompt in prompts]


def _under(adapter: Adapter, photo: FeatureMaps, prompts: Sequence[Prompt]) -> list[FeatureMaps]:
    """What was encoded without a prompt, under each of them: the same feature maps, where they do
    not depend on it."""
    if not adapter.encode_reads_prompt:
        return [photo] * len(prompts)
    count = len(photo.maps)
    return [adapter.encode_prompt(photo, [prompt] * count) for prompt in prompts]


def _values(
    adapter: Adapter,
    features: Sequence[FeatureMaps],
    prompts: Sequence[Prompt],
    targets: Sequence[Target],
) -> Tensor:
    """The targets' values (N, T) for the N rows of each prompt's feature maps."""
    count = len(features[0].maps)
    values = torch.zeros(count, len(targets), dtype=torch.float64)
    for prompt, under in zip(prompts, features, strict=True):
        columns = sorted(_columns(targets, prompt))
        wanted = torch.zeros(count, columns[-1] + 1, dtype=torch.bool, device=under.maps.device)
        wanted[:, columns] = True
        # decode may write into the maps, and the next prompt is given the same ones.
        own = FeatureMaps(under.maps.clone(), {n: t.clone() for n, t in under.rest.items()})
        scores = decoded(adapter, own, [prompt] * count, wanted).to("cpu", torch.float64)
        for t, target in enumerate(targets):
            for term in target.terms:
                if term.prompt == prompt:
                    values[:, t] += term.weight * scores[:, list(term.scores)].sum(1)
    names = [target.name for target in targets for _ in range(count)]
    refuse_not_finite(values.T.flatten(), adapter.name, names)
    return values


def _columns(targets: Sequence[Target], prompt: Prompt) -> set[int]:
    """The columns of the scores that the targets read under a prompt."""
    terms = (term for target in targets for term in target.terms if term.prompt == prompt)
    return {column for term in terms for column in term.scores}
