"""Reducers against models small enough for pencil and paper, and at the edges of arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.samples.tiny import CAPTION, TinyCaptioner, pixels_of
from vlcam import ModuleAdapter
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import reducers, targets
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target, Term
from vlcam.geometry.grid import Grid

REDUCERS = {name: method.reduce for name, method in METHODS.items() if method.reduce}


class Pointwise(nn.Module):
    """Two 1 x 1 filters, their squares averaged over the picture, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1, bias=False, dtype=torch.float64)
        self.conv.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, -1]])[..., None, None].double()
        self.head = nn.Linear(2, 2, bias=False, dtype=torch.float64)
        self.head.weight.data = torch.tensor([[1.0, -2.0], [0.5, 0.0]]).double()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.conv(pixels).square().mean((2, 3)))


def test_a_one_by_one_convolution_by_hand() -> None:
    """A1 = [1 2], A2 = [1 -3]; y0 = mean(A1 A1) - 2 mean(A2 A2), so dy0/dA1 = A1 and
    dy0/dA2 = -2 A2: weights 3/2 and 2; y1 = mean(A1 A1) / 2: weights 3/4 and 0."""
    pixels = torch.tensor([[[1.0, 2.0]], [[2.0, 1.0]], [[1.0, 4.0]]], dtype=torch.float64)[None]
    adapter = ModuleAdapter(Pointwise(), "conv", lambda net, x, _: net(x))
    asked = [Target(f"y{c}", (Term(1.0, None, (c,)),)) for c in range(2)]
    features = encode(adapter, pixels)
    assert features.maps[0, :, 0].tolist() == [[1, 2], [1, -3]]
    expected = {
        "grad-cam": [[3.5, 0.0], [0.75, 1.5]],
        "grad-cam-no-relu": [[3.5, -3.0], [0.75, 1.5]],
        "counterfactual": [[0.0, 3.0], [0.0, 0.0]],
        "grad-cam-abs": [[5.5, 0.0], [0.75, 1.5]],  # weights 3/2 and 4; 3/4 and 0
        "grad-cam-max-pool": [[8.0, 0.0], [1.0, 2.0]],  # weights 2 and 6; 1 and 0
        "hirescam": [[0.0, 0.0], [0.5, 2.0]],  # [1 - 2, 4 - 18]
        "layercam": [[1.0, 0.0], [0.5, 2.0]],  # positive gradients [1 2], [0 6]
    }
    for name, cells in expected.items():
        values, maps = explain_at_layer(adapter, features, asked, METHODS[name])
        assert values.tolist() == [2.5 - 2 * 5, 1.25]
        assert maps[:, 0].tolist() == cells, name


def test_a_linear_heads_row_is_the_weight() -> None:
    """On globally averaged maps Grad-CAM's weights are the head's row over the number of cells."""
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 3, 4, 5, generator=random, dtype=torch.float64)
    row = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    gradients = (row / 20)[None, :, None, None].expand_as(maps)
    expected = (row[:, None, None] * maps[0]).sum(0) / 20
    torch.testing.assert_close(reducers.no_relu(maps, gradients)[0], expected)
    torch.testing.assert_close(reducers.grad_cam(maps, gradients)[0], expected.relu())


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_grad_cam_plus_plus_by_its_formula(scale: float) -> None:
    """Equation 19 of Chattopadhay et al. with the exponential's derivatives, its powers as they
    are; cell by cell."""
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 2, 3, 3, generator=random, dtype=torch.float64).relu()
    g = scale * torch.randn(1, 2, 3, 3, generator=random, dtype=torch.float64)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for k in range(2):
        total, weight = float(maps[0, k].sum()), 0.0
        for value in g[0, k].flatten().tolist():
            alpha = value**2 / (2 * value**2 + total * value**3)
            weight += alpha * max(value, 0)
        expected += weight * maps[0, k]
    torch.testing.assert_close(reducers.grad_cam_plus_plus(maps, g)[0], expected.relu())


@pytest.mark.parametrize("name", REDUCERS)
def test_no_gradient_no_map(name: str) -> None:
    """Zero, not a number: nothing is divided by nothing."""
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 4, generator=random).relu()
    maps[:, 0] = 0
    assert torch.equal(REDUCERS[name](maps, torch.zeros_like(maps)), torch.zeros(2, 4, 4))
    assert REDUCERS[name](maps, torch.randn(maps.shape, generator=random)).isfinite().all()


@pytest.mark.parametrize("name", REDUCERS)
def test_tiny_gradients_do_not_vanish(name: str) -> None:
    """Confident words have tiny gradients, whose powers float32 does not hold."""
    random = torch.Generator().manual_seed(0)
    maps = torch.rand(1, 3, 4, 4, generator=random)
    gradients = torch.randn(maps.shape, generator=random) * 1e-25
    gradients[:, 0] = gradients[:, 0].abs()
    exact = REDUCERS[name](maps.double(), gradients.double())
    assert exact.abs().amax() > 0 or name == "counterfactual"
    found = REDUCERS[name](maps, gradients).double()
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-31)


@pytest.mark.parametrize("name", REDUCERS)
def test_what_is_not_a_number_stays_so(name: str) -> None:
    """So that the map is marked degenerate, instead of passing for an empty one."""
    gradients = torch.ones(1, 2, 3, 3)
    gradients[0, 1, 1, 1] = torch.nan
    assert REDUCERS[name](torch.ones(1, 2, 3, 3), gradients).isnan().any()


def test_counterfactual_is_grad_cam_of_the_negation() -> None:
    model = TinyCaptioner()
    features = encode(model, pixels_of(model))
    words = targets.units(model.read(CAPTION))
    _, against = explain_at_layer(model, features, words, METHODS["counterfactual"])
    _, negated = explain_at_layer(model, features, [-w for w in words], METHODS["grad-cam"])
    assert torch.equal(against, negated)


def test_cam_equals_grad_cam_on_a_pooled_linear_model() -> None:
    """Section 3.1: with global average pooling and a linear layer, up to the constant 1 / Z."""

    class Pooled(TinyCaptioner):
        def __init__(self) -> None:
            super().__init__()
            self.module.logits = nn.Linear(8, 9, dtype=torch.float64)

        def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
            return self.module.logits(features.maps.mean((2, 3)))

    model = Pooled()
    features = encode(model, pixels_of(model))
    logits = [targets.Target(f"class {c}", (targets.Term(1.0, (), (c,)),)) for c in range(9)]
    _, maps = explain_at_layer(model, features, logits, METHODS["grad-cam"])
    cam = torch.einsum("ck,kuv->cuv", model.module.logits.weight, features.maps[0]).relu()
    cells = features.maps.shape[2] * features.maps.shape[3]
    torch.testing.assert_close(maps, cam / cells)


def test_by_hand() -> None:
    """One channel of 2 x 2 cells; the score is its weighted sum: weights are known."""

    class Hand(TinyCaptioner):
        def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
            weights = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]], dtype=torch.float64)
            return (features.maps * weights).sum((1, 2, 3))[:, None]

        def grid(self, input_size: tuple[int, int]) -> Grid:
            return Grid.pixels((2, 2))

    features = FeatureMaps(torch.tensor([[[[1.0, -1.0], [2.0, 0.5]]]], dtype=torch.float64))
    target = [targets.Target("y", (targets.Term(1.0, (), (0,)),))]
    expected = {
        "grad-cam": [[3.0, 0.0], [6.0, 1.5]],
        "grad-cam-no-relu": [[3.0, -3.0], [6.0, 1.5]],
        "grad-cam-max-pool": [[6.0, 0.0], [12.0, 3.0]],
        "grad-cam-abs": [[3.0, 0.0], [6.0, 1.5]],
        "counterfactual": [[0.0, 3.0], [0.0, 0.0]],
        "hirescam": [[1.0, 0.0], [6.0, 3.0]],
        "layercam": [[1.0, 0.0], [6.0, 3.0]],
        "xgrad-cam": [[3.2, 0.0], [6.4, 1.6]],  # weights: (1 - 2 + 6 + 3) / 2.5 = 3.2
    }
    for name, cells in expected.items():
        values, maps = explain_at_layer(Hand(), features, target, METHODS[name])
        assert values.tolist() == [1 - 2 + 6 + 3]
        torch.testing.assert_close(maps[0], torch.tensor(cells, dtype=maps.dtype), msg=name)
