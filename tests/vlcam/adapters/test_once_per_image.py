"""What rows of one image share: the same values and gradients as without sharing, computed once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.samples.families.own import neuraltalk
from tests.tools.leftovers import no_tensor_left
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.once_per_image import Repeated, once_per_image
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, seam_gradients
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target

Function = Callable[[FeatureMaps], Tensor]

ROWS = torch.tensor([1, 0, 1, 1, 0])
"""Five rows of two images, mixed."""


def tail() -> nn.Sequential:
    """An in-place ReLU on its very input, normalisation, pooling, a wide layer."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6),
            nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 7), nn.ReLU(),
        ).double().eval()  # fmt: skip


def with_the_rest(features: FeatureMaps) -> Tensor:
    """Reads all that passes the seam, and writes over it."""
    token = features.rest["token"].mul_(2)
    mean = features.maps.relu_().mean((2, 3))
    return mean * token + token.exp() * features.rest["number"][:, None]


TAIL = tail()
FUNCTIONS: dict[str, Function] = {
    "a CNN's tail": lambda features: TAIL(features.maps),
    "what else passes the seam": with_the_rest,
    "nothing": lambda features: features.maps,
    "normalised": lambda features: F.normalize(features.maps.flatten(1)),
    "attention": lambda features: F.scaled_dot_product_attention(
        *[features.maps.flatten(2).transpose(1, 2)] * 3
    ),
}


def features(dtype: torch.dtype = torch.float64) -> FeatureMaps:
    random = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 4, 4, 4, generator=random, dtype=torch.float64).to(dtype)
    token = torch.randn(2, 4, generator=random, dtype=torch.float64).to(dtype)
    return FeatureMaps(maps, {"token": token, "number": torch.tensor([2, 3])})


def run(
    function: Function,
    some: FeatureMaps,
    shared: bool,
    rule: str | None = None,
    rows: Tensor = ROWS,
) -> tuple[Tensor, list[Tensor | None]]:
    """Values of the rows, and the gradients of each row's own scalar of them."""
    every = some.rows(rows)
    leaves = [every.maps.detach().requires_grad_(), every.rest["token"].detach().requires_grad_()]
    copies = FeatureMaps(
        leaves[0].clone(),
        {"token": leaves[1].clone(), "number": every.rest["number"].clone()},
        every.image if shared else None,
    )
    with BackwardRule(rule) if rule else nullcontext():  # type: ignore[arg-type]
        value = once_per_image(function, copies)
    random = torch.Generator().manual_seed(2)
    heads = torch.randn(value.shape, generator=random, dtype=torch.float64).to(value.dtype)
    return value.detach(), list(torch.autograd.grad(value, leaves, heads, allow_unused=True))


@pytest.mark.parametrize("rule", [None, "guided", "deconv"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equals_the_plain_function(name: str, rule: str | None) -> None:
    function = FUNCTIONS[name]
    value, gradients = run(function, features(), shared=True, rule=rule)
    expected, slow = run(function, features(), shared=False, rule=rule)
    torch.testing.assert_close(value, expected)
    assert gradients[0] is not None
    for found, plain in zip(gradients, slow, strict=True):
        assert (found is None) == (plain is None)
        if found is not None and plain is not None:
            torch.testing.assert_close(found, plain)
            assert plain.abs().sum() > 0
    assert (gradients[1] is not None) == (name == "what else passes the seam")


def looked_at_after(some: FeatureMaps) -> Tensor:
    """Shared, then row by row, written into, and what was written shared."""
    first = once_per_image(lambda f: f.maps.mean((2, 3)) + f.rest["token"], some)
    some.maps.mul_(3)
    some.rest["token"].add_(1)
    last = once_per_image(lambda f: f.maps.amax((2, 3)) * f.rest["token"], some)
    return first + some.maps.square().sum((2, 3)) + last


def looked_at_without_gradients(some: FeatureMaps) -> Tensor:
    with torch.no_grad():
        sizes = some.maps.flatten(1).norm(dim=1)
        token = some.rest["token"]
    return some.maps.square().sum((2, 3)) / sizes[:, None] * token


READERS: dict[str, Function] = {
    "shared alone": lambda some: once_per_image(FUNCTIONS["a CNN's tail"], some),
    "shared, and written into": looked_at_after,
    "looked at under no_grad": looked_at_without_gradients,
}


@pytest.mark.parametrize("name", READERS)
def test_repeated_rows_are_rows(name: str) -> None:
    some = features()
    given = some.maps.clone(), {key: tensor.clone() for key, tensor in some.rest.items()}
    repeated = Repeated(some, ROWS, ["token"])
    value = READERS[name](repeated)
    assert repeated.copied == (name != "shared alone")
    leaves = [repeated.leaf, repeated.leaves["token"]]
    found = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    rows = FeatureMaps(*given).rows(ROWS)
    slow = [rows.maps.requires_grad_(), rows.rest["token"].requires_grad_()]
    plain = FeatureMaps(slow[0].clone(), rows.rest | {"token": slow[1].clone()})
    expected = READERS[name](plain)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), slow, allow_unused=True))
    assert torch.equal(some.maps, given[0]) and torch.equal(some.rest["token"], given[1]["token"])
    assert not Repeated(some, ROWS).maps.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_dtype(dtype: torch.dtype) -> None:
    function = FUNCTIONS["normalised"]
    value, gradients = run(function, features(dtype), shared=True)
    assert gradients[0] is not None and value.dtype == gradients[0].dtype == dtype


def test_under_autocast_the_gradient_is_of_the_maps_own_dtype() -> None:
    net = tail().float()
    for shared in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            value, gradients = run(lambda f: net[:6](f.maps), features(torch.float32), shared)
        assert value.dtype == torch.bfloat16
        assert gradients[0] is not None and gradients[0].dtype == torch.float32


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("rows", [[0, 1], [1, 0, 0, 1], [0, 0, 1, 1, 1, 0]])
def test_images_with_as_many_rows_go_together(rows: list[int], name: str) -> None:
    calls = []

    def function(some: FeatureMaps) -> Tensor:
        calls.append(len(some.maps))
        return FUNCTIONS[name](some)

    index = torch.tensor(rows)
    value, gradients = run(function, features(), shared=True, rows=index)
    assert calls == [2]
    expected, slow = run(FUNCTIONS[name], features(), shared=False, rows=index)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradients, slow)


def test_once_an_image() -> None:
    calls = []

    def function(some: FeatureMaps) -> Tensor:
        calls.append(len(some.maps))
        return some.maps.square()

    run(function, features(), shared=True)
    assert calls == [1, 1]
    with torch.no_grad():
        rows = features().rows(ROWS)
        value = once_per_image(function, rows)
    assert calls == [1] * 4
    assert torch.equal(value, rows.maps.square()) and not value.requires_grad


def test_twice_in_one_decode() -> None:
    def double(shared: bool) -> list[Tensor | None]:
        net = FUNCTIONS["a CNN's tail"]
        image = ROWS if shared else None

        def decode(some: FeatureMaps) -> Tensor:
            one = FeatureMaps(some.maps.clone(), image=image)
            two = FeatureMaps(some.maps * 2, image=image)
            return once_per_image(net, one) * once_per_image(net, two)

        return run(decode, features(), shared=False)[1]

    for found, expected in zip(double(True)[:1], double(False)[:1], strict=True):
        torch.testing.assert_close(found, expected)


def test_a_gradient_may_lie_in_memory_in_any_order() -> None:
    """Channels last, as behind attention over the cells."""
    norm = nn.BatchNorm2d(4).double().eval().requires_grad_(False)
    norm.running_var = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    found = []
    for image in (ROWS, None):
        some = features().rows(ROWS)
        leaf = some.maps.detach().requires_grad_()
        result = once_per_image(lambda f: norm(f.maps), FeatureMaps(leaf.clone(), {}, image))
        cells = result.flatten(2).transpose(1, 2).contiguous()
        (gradient,) = torch.autograd.grad(cells.square().sum(), leaf)
        found.append(gradient)
    torch.testing.assert_close(*found)


def test_a_function_that_cuts_the_gradient_does_not_hide_it() -> None:
    """So that the engine can say that the score does not depend on the layer."""
    rows = features().rows(ROWS)
    leaf = rows.maps.requires_grad_()
    weight = torch.ones(4, 4, dtype=torch.float64, requires_grad=True)
    detached = once_per_image(lambda f: f.maps.detach() * 2, rows)
    assert not detached.requires_grad
    elsewhere = once_per_image(lambda f: f.maps.detach() * weight, rows)
    (found,) = torch.autograd.grad(elsewhere.sum(), leaf, allow_unused=True)
    assert found is None


def test_its_gradient_has_no_gradient_and_comes_again_where_the_graph_is_kept() -> None:
    rows = features().rows(ROWS)
    leaf = rows.maps.requires_grad_()
    value = once_per_image(lambda f: f.maps**3, rows).sum()
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.grad(value, leaf, create_graph=True)
    for kept in (True, False):
        (gradient,) = torch.autograd.grad(value, leaf, retain_graph=kept)
        torch.testing.assert_close(gradient, 3 * leaf.detach() ** 2)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, leaf)


def test_nothing_lives_on() -> None:
    some = features()
    run(FUNCTIONS["a CNN's tail"], some, shared=True)
    with no_tensor_left():
        for _ in range(20):
            run(FUNCTIONS["a CNN's tail"], some, shared=True)
            rows = some.rows(ROWS)
            rows.maps.requires_grad_()
            once_per_image(FUNCTIONS["a CNN's tail"], rows)  # and is never differentiated
        del rows


def test_the_tail_of_a_captioners_cnn_runs_once_an_image(tmp_path: Path) -> None:
    case = neuraltalk(tmp_path)
    adapter, asked = case.adapter, case.asked()
    pixels = torch.cat([case.pixels, case.pixels.flip(3)])
    both = encode(adapter, pixels)
    passed: list[int] = []
    stage = adapter.module.get_submodule("encoder.net.stage4")
    handle = next(m for m in stage.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(
        lambda _, inputs, __: passed.append(len(inputs[0]))
    )
    explain_at_layer(adapter, both, asked, METHODS["grad-cam"])
    assert passed == [1]
    passed.clear()
    mixed: list[tuple[Target, int]] = [(target, image) for target in asked for image in (1, 0)]
    (chunk,) = seam_gradients(adapter, both, [t for t, _ in mixed], images=[i for _, i in mixed])
    assert passed == [2]
    handle.remove()
    for image in (0, 1):
        alone = encode(adapter, pixels[image : image + 1])
        (expected,) = seam_gradients(adapter, alone, asked)
        rows = torch.tensor([i == image for _, i in mixed])
        torch.testing.assert_close(chunk.gradients[rows], expected.gradients)
        torch.testing.assert_close(chunk.scores[rows], expected.scores)


@pytest.mark.parametrize("last", ["first", "second", "both"])
def test_weights_in_another_memory_order(last: str) -> None:
    """Of several gradients at a time, in another order than the values', PyTorch 2.14's frozen
    batch normalisation makes wrong ones."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        parts = [nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 3)]
        net = nn.Sequential(*parts, nn.Flatten()).double().eval()
        for part in parts[::2]:
            part.running_mean.normal_(), part.running_var.uniform_(0.5, 2)
        maps = torch.randn(2, 4, 6, 6, dtype=torch.float64)
        weights = torch.randn(len(ROWS), 20, dtype=torch.float64)
    for conv in parts[1::2] if last == "both" else [parts[1 if last == "first" else 3]]:
        conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    repeated = Repeated(FeatureMaps(maps), ROWS, [])
    value = once_per_image(lambda some: net(some.maps), repeated)
    (found,) = torch.autograd.grad((value * weights).sum(), repeated.leaf)
    for row, image in enumerate(ROWS.tolist()):
        one = maps[image : image + 1].clone().requires_grad_()
        (expected,) = torch.autograd.grad((net(one)[0] * weights[row]).sum(), one)
        torch.testing.assert_close(found[row], expected[0])
