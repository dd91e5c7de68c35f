"""CNNs cut in two: the halves are the whole."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from vlcam.networks.cutting import mean_over_cells
from vlcam.networks.encoder import Encoder


@pytest.mark.parametrize(
    ("name", "layer"),
    [("small", "stage4"), ("mobilenet_v2", "features.18"), ("alexnet", "features.11")],
)
def test_the_two_halves_are_the_whole_encoder(name: str, layer: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(name, (96, 96)).eval()
    assert encoder.default_layer == layer
    before, after = encoder.split()
    pixels = torch.randn(2, 3, 96, 96)
    maps = before(pixels).detach()
    kept = maps.clone()
    torch.testing.assert_close(after(maps), encoder(pixels))
    assert torch.equal(maps, kept)
    assert maps.shape[1:] == encoder.layer().shape


def test_a_copy_of_an_encoder_is_cut_by_itself() -> None:
    encoder = Encoder("small", (64, 64)).eval()
    copied = copy.deepcopy(encoder)
    pixels = torch.randn(1, 3, 64, 64)
    before, after = copied.split()
    assert torch.equal(after(before(pixels)), encoder(pixels))
    with torch.no_grad():
        copied.net.get_parameter("stem.0.weight").zero_()
    assert not torch.equal(after(before(pixels)), encoder(pixels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mean_over_cells_is_poolings_bit_by_bit(dtype: torch.dtype) -> None:
    maps = 500 * torch.randn(3, 7, 14, 9, generator=torch.Generator().manual_seed(0)).abs()
    maps = maps.to(dtype)
    for some in (maps, maps.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(mean_over_cells(some), functional.adaptive_avg_pool2d(some, 1))


def test_behind_a_mean_over_cells_a_gradient_is_one_number_a_channel() -> None:
    _, after = Encoder("small", (64, 64)).eval().split()
    maps = torch.randn(1, 256, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(after(maps), maps, torch.randn(1, 256), retain_graph=True)
    assert gradient.stride()[2:] == (0, 0) and gradient[0, 0, 0, 0] == gradient[0, 0, 3, 2] != 0
