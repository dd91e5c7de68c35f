"""Derived places of cells against a measurement, with all of torchvision's CNNs."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tests.samples.linear_networks import AveragePooling, before, fill, image, linear
from vlcam.geometry.cells import derive, measure
from vlcam.geometry.grid import Grid


def test_the_model_is_not_touched() -> None:
    torch.manual_seed(0)
    model = torchvision.models.efficientnet_b0(weights=None).train()
    state = {name: each.clone() for name, each in model.state_dict().items()}
    random = torch.get_rng_state()

    def run(x: Tensor) -> Tensor:
        torch.rand(3)
        return model.features(x)

    derive(run, image(64))
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert all(each.training for each in model.modules())
    assert all(each.grad is None and each.requires_grad for each in model.parameters())


NETWORKS = {
    "vgg11": ["features.9", "features"],
    "vgg16_bn": ["features.32"],
    "vgg19": ["features.35"],
    "alexnet": ["features.4", "features"],
    "resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "resnet50": ["layer2", "layer4"],
    "resnext50_32x4d": ["layer3"],
    "wide_resnet50_2": ["layer2"],
    "googlenet": ["inception3b", "inception4e", "inception5b"],
    "inception_v3": ["Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7c"],
    "mobilenet_v2": ["features.6", "features"],
    "mobilenet_v3_small": ["features.4", "features"],
    "mobilenet_v3_large": ["features.9", "features"],
    "densenet121": ["features.denseblock2", "features"],
    "efficientnet_b0": ["features.4", "features"],
    "efficientnet_v2_s": ["features.3", "features.5"],
    "mnasnet1_0": ["layers.9", "layers"],
    "squeezenet1_0": ["features.5", "features"],
    "squeezenet1_1": ["features"],
    "shufflenet_v2_x1_0": ["stage2", "conv5"],
    "regnet_y_400mf": ["trunk_output.block2", "trunk_output"],
    "regnet_x_400mf": ["trunk_output"],
    "convnext_tiny": ["features.3", "features"],
}


def build(name: str) -> nn.Module:
    arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    make = getattr(torchvision.models, name)
    if name.startswith("regnet"):  # computes its widths with tensors
        return make(weights=None)
    with torch.device("meta"):
        return make(weights=None, **arguments)


@pytest.mark.parametrize("name", NETWORKS)
def test_derived_places_are_measured(name: str) -> None:
    model = fill(build(name))
    for layer in NETWORKS[name]:
        larger = 64 if layer == "Mixed_7c" else 0  # of 128 pixels it leaves two cells
        for height, width, shift in ((128, 160, 0), (171, 193, 1)):
            run = before(model, layer)
            pixels = image(height + larger, width + larger)
            grid = derive(run, pixels)
            rows, columns = grid.size
            cell = ((rows - shift) // 2, (columns - 1 + shift) // 2)
            (measured,) = measure(linear(run), pixels, [cell], rounds=1)
            error = (measured - torch.tensor(grid.center(*cell))).abs().max() / min(grid.stride)
            assert error < 0.1, f"{layer} at {height} x {width}: {error:.3f} of a cell off"


def test_the_measurement_would_find_an_error_of_half_a_cell() -> None:
    """As ResNets have it where their maps are taken to be centred."""
    run, pixels = before(fill(build("resnet18")), "layer3"), image(160)
    grid = derive(run, pixels)
    stretched = Grid.stretched(grid.size, (160, 160))
    y = measure(linear(run), pixels, [(5, 5)], rounds=1)[0, 0]
    assert abs(y - grid.center(5, 5)[0]) < 0.1 * 16
    assert abs(y - stretched.center(5, 5)[0]) > 0.4 * 16


def test_a_dot_moved_over_the_input_is_answered_by_the_nearest_cell() -> None:
    model = fill(build("resnet18"))
    run = before(model, "layer2")
    grid = derive(run, image(64))
    background = torch.ones(1, 3, 64, 64)
    positions = list(range(10, 54))
    dotted = background.repeat(len(positions), 1, 1, 1)
    for row, position in zip(dotted, positions, strict=True):
        row[:, position, 63 - position] += 0.01
    with torch.no_grad(), AveragePooling():
        answers = (run(dotted) - run(background)).abs().sum(1)
    cells = answers.flatten(1).argmax(1)
    for cell, position in zip(cells.tolist(), positions, strict=True):
        y, x = grid.center(cell // grid.size[1], cell % grid.size[1])
        assert abs(y - position) <= grid.stride[0] / 2
        assert abs(x - (63 - position)) <= grid.stride[1] / 2


def test_as_initialised() -> None:
    """With torchvision's own random weights and maxima: less exact, but not half a cell off."""
    torch.manual_seed(0)
    features = torchvision.models.squeezenet1_1(weights=None).eval().features[:6]
    pixels, cell = image(160), (9, 9)
    grid = derive(features, pixels)
    measured = measure(features, pixels, [cell], rounds=12)[0]
    for found, expected, stride in zip(
        measured.tolist(), grid.center(*cell), grid.stride, strict=True
    ):
        assert abs(found - expected) < 0.25 * stride


def test_measuring_a_dead_cell_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cell \(1, 1\) has no place to measure"):
        measure(lambda x: x * 0, image(8), [(1, 1)])
