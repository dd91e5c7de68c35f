"""Copies of a model that have forgotten what they learned behind a layer.

A map that explains the model changes with it (Adebayo et al., Sanity Checks for Saliency Maps,
NeurIPS 2018): what stays the same shows something else, edges for instance.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt
from vlcam.adapters.scores import decoded
from vlcam.attribution.encoding import encode
from vlcam.utils.messages.errors import one_line
from vlcam.utils.untouched import untouched

_SAME = 1e-3
"""What rounding may change of feature maps, of their greatest value."""


def forgetting(
    adapter: Adapter, pixels: Tensor, prompt: Prompt, draws: int, seed: int = 0
) -> Iterator[Adapter]:
    """A copy of a model, given again after each of several draws of the weights behind its layer.

    They are drawn from a normal distribution about 0, as large as they were on average (root mean
    square); every second draw is the negative of the one before, as a map whose sign is a matter of
    luck should not be taken for one that stays. What lies before the layer, and the model itself,
    stay as they are.

    Args:
        pixels: an input (1, 3, H, W), under ``prompt``: to see which weights lie where.
        draws: how many.
        seed: of the first.

    Raises:
        ValueError: the model cannot be copied, or it cannot be told which weights lie behind the
            layer, or none do; in one line.
    """
    changed = _copied(adapter)
    prompts = [prompt]
    behind = _Behind(changed, pixels, prompts)
    for draw in range(draws):
        behind.draw(seed + draw // 2, sign=1 - 2 * (draw % 2))
        yield changed


def _copied(adapter: Adapter) -> Adapter:
    try:
        with untouched(adapter.module):
            changed = copy.deepcopy(adapter)
    except Exception as error:  # whatever a module of somebody else's raises when it is copied
        raise ValueError(f"{adapter.name} cannot be copied ({one_line(error)})") from error
    own = {part.data_ptr() for part in adapter.module.parameters() if part.numel()}
    if any(part.data_ptr() in own for part in changed.module.parameters()):
        raise ValueError(f"{adapter.name} cannot be copied (its copy shares its weights)")
    return changed


class _Behind:
    """The weights of a copy that lie behind its layer: those that its feature maps do not depend
    on. Where parts before the layer run without gradients, so that this does not show, those of
    them that the scores depend on behind it."""

    def __init__(self, model: Adapter, pixels: Tensor, prompts: Sequence[Prompt]) -> None:
        self._model, self._pixels = model, pixels
        self._prompts = prompts if model.encode_reads_prompt else None
        named = {
            name: part
            for name, part in model.module.named_parameters()
            if part.is_floating_point() and part.numel()
        }
        for part in named.values():
            part.requires_grad_()
        try:
            features = encode(model, pixels, self._prompts)
        except ValueError as error:
            raise ValueError(f"a copy of {model.name} does not run by itself: {error}") from error
        before = self._before(named)
        after = {name: part for name, part in named.items() if name not in before}
        self._was = {name: part.detach().clone() for name, part in after.items()}
        self._weights = after
        if after and not self._leaves(features):
            self.restore()
            reached = _behind(model, features, prompts, after)
            self._weights = {name: part for name, part in after.items() if name in reached}
            if self._weights and not self._leaves(features):
                raise ValueError(f"which weights lie behind {model.layer} cannot be told")
        if not self._weights:
            raise ValueError(f"no weights lie behind {model.layer}")

    def draw(self, seed: int, sign: int = 1) -> None:
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, part in self._weights.items():
                drawn = torch.randn(part.shape, generator=random, dtype=torch.float64)
                size = self._was[name].square().mean().sqrt()
                part.copy_(sign * size * drawn.to(part))

    def restore(self) -> None:
        with torch.no_grad():
            for name, part in self._weights.items():
                part.copy_(self._was[name])

    def _leaves(self, features: FeatureMaps) -> bool:
        """Whether the feature maps stay as they are where the weights are drawn anew."""
        self.draw(0)
        now = encode(self._model, self._pixels, self._prompts).maps
        largest = (now - features.maps).abs().max()
        return bool(largest <= _SAME * features.maps.abs().max())

    def _before(self, named: Mapping[str, Tensor]) -> set[str]:
        """Those that the feature maps are differentiable in."""
        with untouched(self._model.module), torch.enable_grad():
            found = self._model.encode(self._pixels.clone(), self._prompts)
            return _depended_on([found.maps, *found.rest.values()], named)


def _behind(
    model: Adapter, features: FeatureMaps, prompts: Sequence[Prompt], named: Mapping[str, Tensor]
) -> set[str]:
    """Those that the scores are differentiable in, of given feature maps."""
    with untouched(model.module), torch.enable_grad():
        return _depended_on([decoded(model, features, prompts)], named)


def _depended_on(values: Sequence[Tensor], named: Mapping[str, Tensor]) -> set[str]:
    """The names of the tensors that some values have a gradient in."""
    sums = [value.double().sum() for value in values if value.requires_grad]
    if not sums or not named:
        return set()
    found = torch.autograd.grad(sums, list(named.values()), allow_unused=True)
    return {name for name, one in zip(named, found, strict=True) if one is not None}
