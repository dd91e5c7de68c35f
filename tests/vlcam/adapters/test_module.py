"""The adapter for any module: the same results as a seam, whatever surrounds the layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, vgg11

from tests.samples.families.case import caption_scores
from tests.samples.tiny import CAPTION, TinyCaptioner, TinyNet, pixels_of
from tests.tools.untouched import unchanged
from vlcam import ModuleAdapter
from vlcam.adapters.adapter import Prompt
from vlcam.adapters.module import Score
from vlcam.attribution import targets
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target, Term


def logits(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    return net(pixels)


def classes(count: int) -> list[Target]:
    return [Target(f"class {c}", (Term(1.0, None, (c,)),)) for c in range(count)]


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.at != "attention"])
def test_same_as_with_a_seam(name: str) -> None:
    seam = TinyCaptioner()
    general = ModuleAdapter(seam.module, "before.3", caption_scores, example=(1,))
    pixels, method = pixels_of(seam), METHODS[name]
    words = targets.units(seam.read(CAPTION))
    with unchanged(seam.module):
        if method.at == "layer":
            expected = explain_at_layer(seam, encode(seam, pixels), words, method)
            found = explain_at_layer(general, encode(general, pixels), words, method)
        else:
            expected = explain_at_pixels(seam, pixels, words, method)
            found = explain_at_pixels(general, pixels, words, method)
    torch.testing.assert_close(found, expected)


def test_grid_is_derived() -> None:
    seam = TinyCaptioner()
    general = ModuleAdapter(seam.module, "before.3", caption_scores, example=(1,))
    assert general.grid((32, 32)) == seam.grid((32, 32))


def grad_cam_by_hooks(net: nn.Module, layer: nn.Module, pixels: Tensor, target: int) -> Tensor:
    """The textbook way: keep the layer's output with its graph, one target at a time."""
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda m, i, o: kept.append(o) or o.clone())
    score = net(pixels)[0, target]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    return (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)[0].relu().detach()


@cache
def resnet() -> tuple[nn.Module, Tensor]:
    """A network of four classes, and pixels for it."""
    torch.manual_seed(0)
    net = resnet18(weights=None, num_classes=4).double().eval()
    return net, torch.randn(1, 3, 64, 64, dtype=torch.float64)


@pytest.mark.parametrize(
    "layer",
    ["relu", "layer1.0.bn1", "layer2.0.bn2", "layer3.0", "layer3.1.conv2", "layer4"],
    ids=str,
)
def test_resnet_at_any_layer(layer: str) -> None:
    """In-place ReLUs and residual sums right behind the layer do not reach the maps."""
    net, pixels = resnet()
    adapter = ModuleAdapter(net, layer, logits)
    scores, maps = explain_at_layer(
        adapter, encode(adapter, pixels), classes(4), METHODS["grad-cam"]
    )
    torch.testing.assert_close(scores, net(pixels)[0].detach())
    for target in range(4):
        expected = grad_cam_by_hooks(net, net.get_submodule(layer), pixels, target)
        torch.testing.assert_close(maps[target], expected)


def test_vgg_convolution_before_an_in_place_relu() -> None:
    torch.manual_seed(0)
    net = vgg11(weights=None, num_classes=3, init_weights=False).eval()
    pixels = torch.randn(1, 3, 32, 32)
    adapter = ModuleAdapter(net, "features.18", logits)
    _, maps = explain_at_layer(adapter, encode(adapter, pixels), classes(3), METHODS["layercam"])
    kept: list[Tensor] = []
    handle = net.features[18].register_forward_hook(lambda m, i, o: kept.append(o) or o.clone())
    score = net(pixels)[0, 2]
    handle.remove()
    (gradient,) = torch.autograd.grad(score, kept[0])
    torch.testing.assert_close(maps[2], (gradient.relu() * kept[0]).sum(1)[0].relu().detach())


def test_guided_backprop_does_not_depend_on_the_layer() -> None:
    """The rule reaches each ReLU of the CNN, on both sides of the seam; a bottleneck's one ReLU
    module that runs three times is no special case."""
    net, pixels = resnet()
    leaf = pixels.clone().requires_grad_()
    with BackwardRule("guided"):
        score = net(leaf)[0, 1]
    expected = torch.autograd.grad(score, leaf)[0][0].abs().amax(0)
    for layer in ("layer1", "layer4"):
        adapter = ModuleAdapter(net, layer, logits)
        _, maps = explain_at_pixels(adapter, pixels, classes(4)[1:2], METHODS["guided-backprop"])
        torch.testing.assert_close(maps[0], expected)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.conv(self.conv(pixels)).mean((2, 3)))


def test_a_layer_that_runs_twice_is_refused() -> None:
    net = Twice()
    adapter = ModuleAdapter(net, "conv", logits)
    pixels = torch.rand(1, 3, 8, 8)
    with unchanged(net), pytest.raises(ValueError, match="conv runs more than once"):
        features = encode(adapter, pixels)
        explain_at_layer(adapter, features, classes(2), METHODS["grad-cam"])


def test_wrong_layers_are_refused() -> None:
    net = TinyNet()
    with pytest.raises(ValueError, match=r"no layer 'before\.9'.*before\.3"):
        ModuleAdapter(net, "before.9", caption_scores)
    with pytest.raises(ValueError, match="no layer ''"):
        ModuleAdapter(net, "", caption_scores)
    flat = ModuleAdapter(net, "embed", caption_scores, example=(1,))
    pixels = torch.rand(1, 3, 32, 32)
    with unchanged(net), pytest.raises(ValueError, match=r"embed gives \(1, 5\)"):
        encode(flat, pixels)


def test_a_compiled_module_is_unwrapped() -> None:
    net = Twice()
    adapter = ModuleAdapter(torch.compile(net), "conv", logits)  # type: ignore[arg-type]
    assert adapter.module is net


class Branches(nn.Module):
    """A convolution, a head, and a residual sum written over the layer's output."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))
            self.head = nn.Linear(4, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.stem(pixels)
        maps += pixels[:, :1]
        return self.head(maps.relu_().mean((2, 3)))


def explained(net: nn.Module, layer: str, score: Score = logits) -> list[Tensor]:
    """Grad-CAM at the layer and Guided Backpropagation, of three classes."""
    pixels = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    adapter = ModuleAdapter(net, layer, score)
    features = encode(adapter, pixels)
    _, cam = explain_at_layer(adapter, features, classes(3), METHODS["grad-cam"])
    _, guided = explain_at_pixels(adapter, pixels, classes(3), METHODS["guided-backprop"])
    assert adapter.grid((8, 8)).size == (8, 8)
    return [cam, guided]


@pytest.mark.parametrize("how", ["whole", "a part", "a part in place", "in place"])
def test_compiled_modules_are_explained_as_written(how: str) -> None:
    net: Any = Branches()
    expected = explained(net, "stem.2")
    layer, inner = "stem.2", net
    if how == "whole":
        net = torch.compile(net, backend="eager")
    elif how == "a part":
        net.stem, layer = torch.compile(net.stem, backend="eager"), "stem._orig_mod.2"
    elif how == "a part in place":
        net.stem.compile(backend="eager")
    else:
        net.compile(backend="eager")
    pixels = torch.rand(1, 3, 8, 8)
    before = net(pixels)  # compiled
    with unchanged(inner):
        torch.testing.assert_close(explained(net, layer), expected)
    torch.testing.assert_close(net(pixels), before)


def test_a_module_under_two_names() -> None:
    """Either name will do; but what runs at both places runs twice."""
    net = Branches()
    net.alias = net.stem
    torch.testing.assert_close(explained(net, "alias.2"), explained(net, "stem.2"))
    relu = nn.ReLU()
    twice = nn.Sequential(nn.Conv2d(3, 3, 1), relu, nn.Conv2d(3, 3, 1), relu)
    for name in ("1", "3"):
        with pytest.raises(ValueError, match=f"layer {name} runs more than once"):
            explained(twice, name, lambda net, x, _: net(x).mean((2, 3)))


def test_an_operation_in_place_on_the_input() -> None:
    """A model that normalises the pixels it is given where they lie."""

    def written_over(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        return net(pixels.sub_(0.3).mul_(2))

    def copied(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        return net((pixels - 0.3) * 2)

    net = Branches()
    torch.testing.assert_close(
        explained(net, "stem.2", written_over), explained(net, "stem.2", copied)
    )


def test_scores_without_gradient_are_refused() -> None:
    def no_grad(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        with torch.no_grad():
            return net(pixels)

    def sampled(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        return net(pixels).argsort(1)

    def frozen(net: Any, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        with torch.no_grad():
            maps = net.stem(pixels)
        return net.head(maps.mean((2, 3)))

    with pytest.raises(ValueError, match=r"does not depend on layer stem\.2.*no_grad"):
        explained(Branches(), "stem.2", no_grad)
    with pytest.raises(ValueError, match="gave scores of type int64; expected floating point"):
        explained(Branches(), "stem.2", sampled)
    pixels = torch.rand(1, 3, 8, 8)
    last, first = (ModuleAdapter(Branches(), layer, frozen) for layer in ("stem.2", "stem.0"))
    _, maps = explain_at_layer(last, encode(last, pixels), classes(3), METHODS["hirescam"])
    assert maps.abs().amax() > 0  # nothing behind this layer is under no_grad
    with pytest.raises(ValueError, match="does not depend on layer"):
        explain_at_layer(first, encode(first, pixels), classes(3), METHODS["grad-cam"])
    with pytest.raises(ValueError, match="no gradient with respect to the pixels"):
        explain_at_pixels(last, pixels, classes(3), METHODS["gradient"])
