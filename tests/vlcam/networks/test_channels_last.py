"""One of our CNNs on a CPU: the maps and gradients of the plain way, channels last in between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vlcam.networks.channels_last import run_channels_last
from vlcam.networks.encoder import Encoder

NETWORKS = ["small", "vgg11", "resnet18", "googlenet", "mobilenet_v2", "densenet121"]


def cut(name: str) -> tuple[nn.Module, Tensor]:
    """A CNN up to its last maps, with statistics like a trained one's, and pixels."""
    torch.manual_seed(0)
    encoder = Encoder(name, (64, 64)).double().eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    pixels = torch.randn(
        2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return encoder.split()[0], pixels


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_and_gradients_are_those_of_the_plain_way(name: str) -> None:
    before, pixels = cut(name)
    with torch.no_grad():
        expected, found = before(pixels), run_channels_last(before, pixels)
    assert found.is_contiguous()
    torch.testing.assert_close(found, expected)
    leaf = pixels.requires_grad_()
    generator = torch.Generator().manual_seed(2)
    back = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
    (plain,), (own,) = (
        torch.autograd.grad(f(leaf), leaf, back)
        for f in (before, lambda x: run_channels_last(before, x))
    )
    torch.testing.assert_close(own, plain)


def layouts(before: nn.Module) -> list[bool]:
    """Of each convolution that runs from now on: whether its input is channels last in memory."""
    seen: list[bool] = []
    for module in before.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda _, inputs, __: seen.append(
                    inputs[0].is_contiguous(memory_format=torch.channels_last)
                )
            )
    return seen


def test_every_convolution_sees_channels_last() -> None:
    before, pixels = cut("resnet18")
    seen = layouts(before)
    with torch.no_grad():
        run_channels_last(before, pixels)
    assert len(seen) == 20 and all(seen)


def test_a_way_back_knows_no_batch_normalisation_and_the_model_is_as_before() -> None:
    before, pixels = cut("resnet18")
    state = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    strides = [tensor.stride() for tensor in before.state_dict().values()]
    maps = run_channels_last(before, pixels.requires_grad_())
    names, todo = set(), [maps.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in names:
            names.add(node)
            todo += [after for after, _ in node.next_functions]
    kinds = {node.name() for node in names}
    assert "ConvolutionBackward0" in kinds
    assert not any("BatchNorm" in kind for kind in kinds)
    assert strides == [tensor.stride() for tensor in before.state_dict().values()]
    assert all(torch.equal(tensor, state[name]) for name, tensor in before.state_dict().items())


def test_statistics_of_the_batch_stay_what_they_are() -> None:
    before, pixels = cut("small")
    before.train()
    leaf = pixels.requires_grad_()
    torch.testing.assert_close(run_channels_last(before, leaf), before(leaf))
    norms = [m for m in before.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.num_batches_tracked == 2 for m in norms)


def test_normalisation_of_vectors_within_a_cnn() -> None:
    """A gate of the channels, as in squeeze and excitation, with a normalisation of its own."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 2, 3), nn.BatchNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            maps: Tensor = self.conv(x)
            gate: Tensor = self.norm(maps.mean((2, 3)))
            return maps * gate[:, :, None, None]

    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)).requires_grad_()
    before = Gated().eval()
    torch.testing.assert_close(run_channels_last(before, pixels), before(pixels))


def test_normalisation_without_weights_or_statistics() -> None:
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)).requires_grad_()
    for kind in ({"affine": False}, {"track_running_stats": False}):
        before = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, **kind)).eval()
        torch.testing.assert_close(run_channels_last(before, pixels), before(pixels))
