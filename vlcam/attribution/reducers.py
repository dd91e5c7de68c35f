"""Reducers: from feature maps and their gradients to one map per target, each with its formula.

A reducer takes A and dy/dA of T targets, both (T, K, u, v) float32, and returns raw maps (T, u, v).
In the formulas A^k_ij is channel k of the feature maps at cell (i, j), y^c the score of target c,
and

    ``g^k_ij = dy^c/dA^k_ij``

its gradient. Means and sums run over the cells (i, j) unless they say "over k"; the paper's c is
left out where it is clear. A new reducer is such a function of a few lines here, and a line in the
table of :mod:`vlcam.attribution.methods`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # the table of methods is read before torch is imported
    from torch import Tensor

Reducer: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
"""``reduce(maps, gradients)``: A and dy/dA, (T, K, u, v), to maps (T, u, v)."""


def grad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM (eq. 1 and 2).

    ``alpha_k^c = mean of dy^c/dA^k_ij``

    ``L^c_ij = ReLU(sum over k of alpha_k^c A^k_ij)``
    """
    return _combine(gradients.mean((2, 3)), maps).relu()


def counterfactual(maps: Tensor, gradients: Tensor) -> Tensor:
    """Counterfactual explanation: the regions that speak against the target (eq. 12).

    ``alpha_k = mean of -g^k_ij``, then as :func:`grad_cam`: the map of the score ``-y^c``.
    """
    return grad_cam(maps, -gradients)


def no_relu(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM without the final ReLU, signed (Table 3).

    ``L_ij = sum over k of alpha_k A^k_ij``, with ``alpha_k = mean of g^k_ij``
    """
    return _combine(gradients.mean((2, 3)), maps)


def absolute_gradients(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM with weights from absolute gradients (Table 3).

    ``alpha_k = mean of |g^k_ij|``, then as :func:`grad_cam`.
    """
    return _combine(gradients.abs().mean((2, 3)), maps).relu()


def max_pooling(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM with global max pooling of the gradients (Table 3).

    ``alpha_k = max over (i, j) of g^k_ij``, then as :func:`grad_cam`.
    """
    return _combine(gradients.amax((2, 3)), maps).relu()


def hires_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM (Draelos and Carin 2020): gradient times activation, cell by cell.

    ``L_ij = ReLU(sum over k of g^k_ij A^k_ij)``
    """
    return (gradients * maps).sum(1).relu()


def layer_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM (Jiang et al. 2021): positive gradient times activation, cell by cell.

    ``L_ij = ReLU(sum over k of ReLU(g^k_ij) A^k_ij)``
    """
    return (gradients.relu() * maps).sum(1).relu()


def xgrad_cam(maps: Tensor, gradients: Tensor) -> Tensor:
    """XGrad-CAM (Fu et al. 2020): gradients averaged with the activations as weights.

    ``alpha_k = (sum of g^k_ij A^k_ij) / (sum of A^k_ij)``, then as :func:`grad_cam`. A
    denominator of 0 counts as 1.
    """
    total = maps.sum((2, 3))
    weights = (gradients * maps).sum((2, 3)) / total.where(total != 0, 1)
    return _combine(weights, maps).relu()


def grad_cam_plus_plus(maps: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al. 2018), of the score ``exp(y)``.

    ``w^k_ij = (g^k_ij)^2 / (2 (g^k_ij)^2 + (sum of A^k) (g^k_ij)^3)``

    ``alpha_k = sum of w^k_ij ReLU(g^k_ij)``

    ``L_ij = ReLU(sum over k of alpha_k A^k_ij)``

    The factor exp(y) of the gradient, d exp(y)/dA = exp(y) g, scales the whole map, and is left
    out. A denominator of 0 counts as 1.
    """
    # Powers of tiny gradients underflow: take them of gradients scaled to 1.
    unit = gradients / gradients.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-38)
    square, cube = unit.square(), unit**3
    # With g scaled by s, the second term of the denominator carries one power of s more.
    scale = gradients.abs().amax((1, 2, 3), keepdim=True)
    denominator = 2 * square + maps.sum((2, 3), keepdim=True) * cube * scale
    share = square / denominator.where(denominator != 0, 1)
    return _combine((share * gradients.relu()).sum((2, 3)), maps).relu()


def _combine(weights: Tensor, maps: Tensor) -> Tensor:
    """Sum over channels of weights (T, K) times maps (T, K, u, v)."""
    return (weights[:, None] @ maps.flatten(2)).unflatten(2, maps.shape[2:]).squeeze(1)
