"""Running a user's model without a trace, also where calls overlap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tests.samples.tiny import TinyNet
from tests.tools.untouched import unchanged
from vlcam.utils.process_wide import in_effect
from vlcam.utils.untouched import RnnsWithoutCudnn, _without_cudnn, untouched


def mixed() -> TinyNet:
    """In training, but for a BatchNorm that its user keeps fixed."""
    net = TinyNet().train()
    net.before[1].eval()
    return net


def test_each_flag_by_itself_also_after_an_error() -> None:
    net = mixed()
    with unchanged(net), untouched(net):
        assert not any(m.training for m in net.modules())
    with unchanged(net), pytest.raises(KeyboardInterrupt), untouched(net):
        raise KeyboardInterrupt


def test_train_and_eval_of_the_user_are_not_called() -> None:
    class Own(nn.Module):
        def train(self, mode: bool = True) -> Own:
            raise AssertionError("called")

    net = Own()
    with untouched(net):
        assert not net.training
    assert net.training


@pytest.mark.parametrize("other", [lambda net: net, lambda net: net.before], ids=["same", "part"])
def test_calls_that_overlap(other: Callable[[nn.Module], nn.Module]) -> None:
    """The first to begin is the first to end, as threads do: flags and random numbers come back
    with the last, whether they run one model or one of them a part of the other's."""
    net = mixed()
    for one, two in ((net, other(net)), (other(net), net)):
        with unchanged(net):
            first, second = untouched(one), untouched(two)
            first.__enter__()
            torch.rand(1)
            second.__enter__()
            torch.rand(1)
            first.__exit__(None, None, None)
            assert not any(m.training for m in two.modules())
            second.__exit__(None, None, None)


def test_random_numbers_are_as_before() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with untouched(nn.Identity()):
        torch.rand(7)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("enabled", [True, False])
def test_cudnn_is_off_until_the_last_call_ends(enabled: bool) -> None:
    """One flag for all threads; the others beside it are not touched."""
    cudnn = torch.backends.cudnn
    before = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic)
    try:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = enabled, True, True
        first, second = (in_effect({"cudnn": _without_cudnn}) for _ in range(2))
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not cudnn.enabled and cudnn.benchmark and cudnn.deterministic
        second.__exit__(None, None, None)
        assert cudnn.enabled is enabled and cudnn.benchmark and cudnn.deterministic
    finally:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_an_rnn_in_eval_mode_on_a_gpu() -> None:
    """cuDNN's has no backward pass in eval mode; without it the gradient is the CPU's."""
    rnn = nn.LSTM(5, 7).double().eval()
    inputs = torch.randn(3, 2, 5, dtype=torch.float64)
    found = []
    for device in ("cpu", "cuda"):
        rnn.to(device)
        leaf = inputs.to(device).requires_grad_()
        with untouched(rnn):
            (gradient,) = torch.autograd.grad(rnn(leaf)[0].square().sum(), leaf)
        found.append(gradient.cpu())
    torch.testing.assert_close(*found)
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize("kind", ["parameters", "buffers"])
def test_tensors_of_inference_mode_are_refused(kind: str) -> None:
    net = nn.BatchNorm2d(3)
    with torch.inference_mode():
        if kind == "parameters":
            net.weight = nn.Parameter(torch.ones(3))
        else:
            net.running_mean = torch.zeros(3)
    with pytest.raises(ValueError, match="inference tensors"), untouched(net):
        pass


@pytest.mark.parametrize("how", ["wrapped", "in place"])
def test_compiled_parts_run_as_written(how: str) -> None:
    compiled = 0

    def backend(graph: Any, _: list[Tensor]) -> Any:
        nonlocal compiled
        compiled += 1
        return graph.forward

    net = nn.Sequential(nn.Conv2d(3, 2, 1))
    if how == "wrapped":
        net[0] = torch.compile(net[0], backend=backend)
    else:
        net[0].compile(backend=backend)
    pixels = torch.rand(1, 3, 4, 4)
    first, second = untouched(net), untouched(net)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    inside = net(pixels)
    second.__exit__(None, None, None)
    assert compiled == 0
    torch.testing.assert_close(net(pixels), inside)
    assert compiled == 1


class _Flags(TorchFunctionMode):
    """Whether cuDNN is on as each function runs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, bool] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[getattr(func, "__name__", "")] = torch.backends.cudnn.enabled
        return func(*args, **(kwargs or {}))


def test_cudnn_is_off_for_rnns_alone() -> None:
    flags, x = _Flags(), torch.ones(2, 3, 4)
    with flags, RnnsWithoutCudnn():
        nn.Conv1d(3, 3, 1)(x)
        nn.LSTM(4, 2)(x)
        nn.GRU(4, 2)(nn.utils.rnn.pack_sequence([x[0]]))
        nn.RNN(4, 2, nonlinearity="relu")(x)
        nn.RNN(4, 2)(x)
        nn.Linear(4, 2)(x)
    rnns = {"lstm", "gru", "rnn_relu", "rnn_tanh"}
    assert {name: flags.seen[name] for name in rnns} == dict.fromkeys(rnns, False)
    assert flags.seen["conv1d"] and flags.seen["linear"] and torch.backends.cudnn.enabled
