"""Maps that need no explanation: what a method's map has to beat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from vlcam.adapters.adapter import Adapter, Prompt
from vlcam.attribution.encoding import Encoded
from vlcam.geometry.grid import Cells, Placement, place
from vlcam.metrics.pointing import centred_gaussian

GAUSSIAN, NOISE, ACTIVATION, UNIFORM = (
    "centred Gaussian",
    "noise",
    "summed activation",
    "uniform map",
)


def summed_activation(
    model: Adapter, photo: Encoded, prompt: Prompt = None
) -> tuple[torch.Tensor, Cells]:
    """The explained layer's channels, added up: what is conspicuous to the CNN, whatever it is
    asked.

    Args:
        prompt: for models whose feature maps depend on it.

    Returns:
        The raw map (1, u, v), and where its cells lie in the input.
    """
    with torch.no_grad():
        summed = photo.seen(model, prompt).maps.float().sum(1)
    return summed, model.cells(photo.pixels, photo.placement)


def maps_at_input(
    model: Adapter, photo: Encoded, seed: int, name: str, prompt: Prompt = None
) -> Mapping[str, NDArray[np.floating]]:
    """All baselines at the input's resolution (H, W), none below 0.

    Args:
        seed, name: of the noise: the evaluation's and the item's.
    """
    size = photo.placement.input_size
    active = place(*summed_activation(model, photo, prompt), Placement.identity(size))[0]
    return {
        GAUSSIAN: centred_gaussian(size),
        NOISE: np.random.default_rng([seed, *name.encode()]).random(size),
        # Where a layer is not rectified a sum may be below 0, of which a ratio says nothing.
        ACTIVATION: active.clamp(min=0).cpu().double().numpy(),
        UNIFORM: np.ones(size),
    }
