"""The backward rules reach every way to write a ReLU, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from vlcam import ModuleAdapter
from vlcam.attribution.backward_rules import BackwardRule, Rule, outside_cnn
from vlcam.attribution.gradients import explain_at_pixels
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target, Term

Form = Callable[[Tensor], Tensor]

RELU: dict[str, Form] = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "relu_": lambda x: x.relu_(),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp_(min=0)": lambda x: x.clamp_(min=0),
    "clamp(0)": lambda x: x.clamp(0),
    "torch.clamp": lambda x: torch.clamp(input=x, min=0.0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_min_": lambda x: x.clamp_min_(0),
    "clip": lambda x: torch.clip(x, min=0),
}
BOUNDED: dict[str, Form] = {
    "ReLU6": nn.ReLU6(),
    "ReLU6 in place": nn.ReLU6(inplace=True),
    "F.relu6": F.relu6,
    "Hardtanh": nn.Hardtanh(0, 6),
    "Hardtanh in place": nn.Hardtanh(0, 6, inplace=True),
    "clamp(0, 6)": lambda x: x.clamp(0, 6),
    "clamp_(0, 6)": lambda x: x.clamp_(0, 6),
}
OTHER: dict[str, Form] = {
    "clamp(min=1)": lambda x: x.clamp(min=1),
    "clamp(max=0)": lambda x: x.clamp(max=0),
    "clamp(-1, 1)": lambda x: x.clamp(-1, 1),
    "clamp by a tensor": lambda x: x.clamp(min=torch.zeros(())),
    "Hardtanh": nn.Hardtanh(),
    "leaky": F.leaky_relu,
    "GELU": nn.GELU(),
}

VALUES = torch.tensor([-7.0, -2.0, 0.5, 3.0, 5.0, 7.0, 9.0, -1.0], dtype=torch.float64)
UPSTREAM = torch.tensor([1.0, -1.0, 2.0, -3.0, 4.0, 5.0, -6.0, 7.0], dtype=torch.float64)


def by_hand(rule: Rule | None, upstream: Tensor, before: Tensor, upper: float) -> Tensor:
    """The gradient before a ReLU from the one behind it."""
    passed = (before > 0) & (before < upper)
    if rule is None:
        return upstream * passed
    return upstream.clamp(min=0) * (passed if rule == "guided" else 1)


def gradient(form: Form, rule: Rule | None) -> tuple[Tensor, Tensor, int]:
    """Values, gradient and count of a form, on something that may be written over."""
    leaf = VALUES.clone().requires_grad_()
    if rule is None:
        value, seen = form(leaf * 1), 0
    else:
        with BackwardRule(rule) as active:
            value = form(leaf * 1)
        seen = active.seen
    return value.detach(), torch.autograd.grad(value, leaf, UPSTREAM)[0], seen


@pytest.mark.parametrize("rule", ["guided", "deconv"])
@pytest.mark.parametrize("name", [*RELU, *BOUNDED])
def test_every_form(name: str, rule: Rule) -> None:
    form, upper = (RELU[name], torch.inf) if name in RELU else (BOUNDED[name], 6.0)
    value, found, seen = gradient(form, rule)
    assert seen == 1
    assert torch.equal(value, VALUES.clamp(0, upper))
    assert torch.equal(found, by_hand(rule, UPSTREAM, VALUES, upper))
    assert torch.equal(gradient(form, None)[1], by_hand(None, UPSTREAM, VALUES, upper))


@pytest.mark.parametrize("name", OTHER)
def test_what_is_no_relu_is_left_alone(name: str) -> None:
    value, plain, _ = gradient(OTHER[name], None)
    for rule in ("guided", "deconv"):
        found = gradient(OTHER[name], rule)  # type: ignore[arg-type]
        assert found[2] == 0
        assert torch.equal(found[0], value) and torch.equal(found[1], plain)


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_in_place_the_tensor_itself_and_a_part_of_it(rule: Rule) -> None:
    """Code that drops what an in-place ReLU returns, and one that rectifies some channels."""
    leaf = VALUES.clone().requires_grad_()
    with BackwardRule(rule):
        whole = leaf * 1
        F.relu(whole, inplace=True)
        part = leaf * 1
        part[:4].relu_()
    expected = by_hand(rule, UPSTREAM, VALUES, torch.inf)
    assert torch.equal(torch.autograd.grad(whole, leaf, UPSTREAM)[0], expected)
    found = torch.autograd.grad(part, leaf, UPSTREAM)[0]
    assert torch.equal(found, torch.cat([expected[:4], UPSTREAM[4:]]))


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_many_gradients_at_once(rule: Rule) -> None:
    """Under vmap, as where what rows share is computed once."""
    random = torch.Generator().manual_seed(0)
    many = torch.randn(5, len(VALUES), generator=random, dtype=torch.float64)
    leaf = VALUES.clone().requires_grad_()
    with BackwardRule(rule):
        value = F.relu6(F.relu(leaf * 1, inplace=True) * 2)
    (batched,) = torch.autograd.grad(value, leaf, many, True, is_grads_batched=True)
    for one, found in zip(many, batched, strict=True):
        assert torch.equal(found, torch.autograd.grad(value, leaf, one, True)[0])


class Forms(nn.Module):
    """Convolutions with one form of ReLU between them."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.first, self.last = (nn.Conv2d(n, 4, 3, dtype=torch.float64) for n in (3, 4))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.form(self.last(self.form(self.first(pixels)))).mean((2, 3))


@pytest.mark.parametrize("method", ["guided-backprop", "deconv", "guided-grad-cam"])
def test_a_models_maps_do_not_depend_on_the_form(method: str) -> None:
    random = torch.Generator().manual_seed(1)
    pixels = torch.randn(1, 3, 12, 12, generator=random, dtype=torch.float64)
    asked = [Target("y", (Term(1.0, None, (c,)),)) for c in range(4)]

    def maps(form: Form, method: str) -> Tensor:
        adapter = ModuleAdapter(Forms(form), "last", lambda net, x, _: net(x))
        return explain_at_pixels(adapter, pixels, asked, METHODS[method])[1]

    expected = maps(RELU["module"], method)
    assert expected.amax() > 0
    assert not torch.allclose(maps(RELU["module"], "gradient"), maps(RELU["module"], method))
    for name, form in RELU.items():
        torch.testing.assert_close(maps(form, method), expected, msg=name)


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_a_bottleneck_whose_one_relu_runs_three_times(rule: Rule) -> None:
    """Against the block written out, each of its ReLUs a step of its own."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        block = Bottleneck(8, 2).double().eval()
        x, upstream = torch.randn(2, 1, 8, 5, 5, dtype=torch.float64)
    steps = [
        lambda x: block.bn1(block.conv1(x)),
        lambda x: block.bn2(block.conv2(x)),
        lambda x: block.bn3(block.conv3(x)),
    ]
    inputs, before = [x], []
    for step in steps:
        before.append(step(inputs[-1]).detach())
        inputs.append(before[-1].clamp(min=0))
    before[2] += x
    at_sum = by_hand(rule, upstream, before[2], torch.inf)
    expected = at_sum
    for k in (2, 1, 0):
        leaf = inputs[k].clone().requires_grad_()
        (expected,) = torch.autograd.grad(steps[k](leaf), leaf, expected)
        if k:
            expected = by_hand(rule, expected, before[k - 1], torch.inf)
    leaf = x.clone().requires_grad_()
    with BackwardRule(rule) as active:
        output = block(leaf)
    assert active.seen == 3
    torch.testing.assert_close(output.detach(), before[2].clamp(min=0))
    (found,) = torch.autograd.grad(output, leaf, upstream)
    torch.testing.assert_close(found, expected + at_sum)


def test_relus_outside_the_cnn_keep_their_gradient() -> None:
    leaf = VALUES.clone().requires_grad_()
    with BackwardRule("guided") as active:
        inner = F.relu(leaf * 1)
        with outside_cnn():
            outer = F.relu(inner - 4)
        with pytest.raises(ZeroDivisionError), outside_cnn():
            raise ZeroDivisionError
        again = F.relu(leaf * 1)
    assert active.seen == 2
    (found,) = torch.autograd.grad(outer, leaf, UPSTREAM)
    through = UPSTREAM * (VALUES > 4)
    assert torch.equal(found, by_hand("guided", through, VALUES, torch.inf))
    (found,) = torch.autograd.grad(again, leaf, UPSTREAM)
    assert torch.equal(found, by_hand("guided", UPSTREAM, VALUES, torch.inf))


def test_another_thread_is_not_affected() -> None:
    found = []

    def elsewhere() -> None:
        found.append(gradient(F.relu, None)[1])
        with outside_cnn():
            done.wait(10)

    done = threading.Event()
    with BackwardRule("guided") as active:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        while not found:
            thread.join(0.01)
        leaf = VALUES.clone().requires_grad_()
        value = F.relu(leaf * 1)  # while the other is outside of its CNN
        done.set()
        thread.join()
    assert active.seen == 1
    assert torch.equal(found[0], by_hand(None, UPSTREAM, VALUES, torch.inf))
    (ours,) = torch.autograd.grad(value, leaf, UPSTREAM)
    assert torch.equal(ours, by_hand("guided", UPSTREAM, VALUES, torch.inf))


def test_it_ends_by_itself() -> None:
    with pytest.raises(ZeroDivisionError), BackwardRule("guided"):
        raise ZeroDivisionError
    assert torch.equal(gradient(F.relu, None)[1], by_hand(None, UPSTREAM, VALUES, torch.inf))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_parts_are_refused() -> None:
    """No rule reaches their ReLUs: what it gave would be partly the plain gradient."""
    net = Forms(F.relu)
    pixels = torch.zeros(1, 3, 12, 12, dtype=torch.float64)
    net.last = torch.jit.trace(nn.Sequential(nn.ReLU(), net.last), net.first(pixels).detach())
    adapter = ModuleAdapter(net, "first", lambda net, x, _: net(x))
    asked = [Target("y", (Term(1.0, None, (0,)),))]
    with pytest.raises(ValueError, match="scripted"):
        explain_at_pixels(adapter, pixels, asked, METHODS["guided-backprop"])
    explain_at_pixels(adapter, pixels, asked, METHODS["gradient"])
