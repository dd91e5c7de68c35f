"""From feature maps and their gradients to one map a target.

Each reducer takes A and dy/dA, both (T, K, u, v) float32, and returns (T, u, v). A new variant is
such a function of a few lines and a line in :mod:`vlcam.attribution.methods`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Reducer = Callable[[Tensor, Tensor], Tensor]


def _combine(weights: Tensor, maps: Tensor) -> Tensor:
    """Sum over channels of weights (T, K) times maps (T, K, u, v)."""
    return (weights[:, None] @ maps.flatten(2)).unflatten(2, maps.shape[2:]).squeeze(1)


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """ReLU of the maps weighted by their globally averaged gradients (eq. 1 and 2)."""
    return _combine(gradients.mean((2, 3)), maps).relu()


def counterfactual(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM of the negated score: regions that speak against it (eq. 12)."""
    return grad_cam(maps, -gradients)


def no_relu(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM without the final ReLU, signed (Table 3)."""
    return _combine(gradients.mean((2, 3)), maps)


def absolute_gradients(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM with weights from absolute gradients (Table 3)."""
    return _combine(gradients.abs().mean((2, 3)), maps).relu()


def max_pooling(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM with globally max-pooled gradients as weights (Table 3)."""
    return _combine(gradients.amax((2, 3)), maps).relu()


def hires_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM (Draelos and Carin 2020): gradient times activation in each cell, summed."""
    return (gradients * maps).sum(1).relu()


def layer_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM (Jiang et al. 2021): positive gradient times activation in each cell, summed."""
    return (gradients.relu() * maps).sum(1).relu()


def xgrad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM (Fu et al. 2020): gradients averaged with the activations as weights."""
    total = maps.sum((2, 3))
    weights = (gradients * maps).sum((2, 3)) / total.where(total != 0, 1)
    return _combine(weights, maps).relu()


def grad_cam_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al. 2018), the score taken through an exponential."""
    # Powers of tiny gradients underflow: take them of gradients scaled to 1.
    unit = gradients / gradients.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-38)
    square, cube = unit.square(), unit**3
    # With g scaled by s, the second term of the denominator carries one power of s more.
    scale = gradients.abs().amax((1, 2, 3), keepdim=True)
    denominator = 2 * square + maps.sum((2, 3), keepdim=True) * cube * scale
    alpha = square / denominator.where(denominator != 0, 1)
    return _combine((alpha * gradients.relu()).sum((2, 3)), maps).relu()
