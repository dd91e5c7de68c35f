"""What lets no true gradient through is named; what is harmless is let pass, with the right
gradient."""

from __future__ import annotations

import gc
import pickle
import re
import threading
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.tools.untouched import unchanged
from vlcam import ModuleAdapter
from vlcam.adapters.adapter import Prompt
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_pixels, score, seam_gradients
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target, Term

Part = Callable[[Tensor], Tensor] | nn.Module


# --- what loses a gradient, or bends it


@torch.library.custom_op("vlcamtests::no_formula", mutates_args=())
def no_formula(x: Tensor) -> Tensor:
    return x.sin()


@torch.library.custom_op("vlcamtests::straight", mutates_args=())
def straight(x: Tensor) -> Tensor:
    return (x * 2).round() / 2


@torch.library.custom_op("vlcamtests::right", mutates_args=())
def right(x: Tensor) -> Tensor:
    return x.sin()


straight.register_autograd(lambda ctx, gradient: gradient)
right.register_autograd(
    lambda ctx, gradient: gradient * ctx.saved_tensors[0].cos(),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return (x * 8).round() / 8

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return -gradient


class InNumpy(torch.autograd.Function):
    """``right``: whether the backward pass is the derivative."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, right: bool) -> Tensor:
        ctx.save_for_backward(x.cos() if right else torch.ones_like(x))
        return torch.from_numpy(np.sin(x.detach().numpy()))

    @staticmethod
    def backward(ctx: torch.autograd.Function, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.saved_tensors[0], None


class Rectified(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return x * (x > 0)

    @staticmethod
    def backward(ctx: torch.autograd.Function, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]


def without_graph(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.sin()


def in_inference_mode(x: Tensor) -> Tensor:
    with torch.inference_mode():
        seen = x.sin()
    return seen


def cloned_from_inference_mode(x: Tensor) -> Tensor:
    return in_inference_mode(x).clone()


def written_without_graph(x: Tensor) -> Tensor:
    own = x * 1
    with torch.no_grad():
        own.mul_(3)
    return own


def written_through_data(x: Tensor) -> Tensor:
    own = x * 1
    own.data.copy_(own.data.sin())
    return own


def data_replaced(x: Tensor) -> Tensor:
    own = x * 1
    own.data = own.data.sin()
    return own


def hooked(x: Tensor) -> Tensor:
    own = x * 1
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * 5)
    return own


def rounded_in_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(np.round(x.detach().numpy() * 20) / 20)


def own_gradient(x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(leaf.sin().sum(), leaf)[0]


def digitised(x: Tensor) -> Tensor:
    levels = torch.linspace(-5, 5, 400, dtype=x.dtype)
    return levels[torch.bucketize(x, levels).clamp(max=399)]


class Int8Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x[:, None])[0][:, 0]


class Cut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach().sin() + x


def int8(part: nn.Module, kind: type[nn.Module]) -> nn.Module:
    quantised: nn.Module = torch.ao.quantization.quantize_dynamic(part, {kind}, dtype=torch.qint8)
    return quantised


def quantised(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x, 0.05, 0, torch.qint8).dequantize()


REFUSED: dict[str, Part] = {
    "detach": lambda x: x.detach().sin(),
    ".data": lambda x: x.data.sin(),
    "no_grad around sin": without_graph,
    "inference_mode around sin": in_inference_mode,
    "inference_mode": cloned_from_inference_mode,
    "numpy": lambda x: torch.from_numpy(np.sin(x.detach().numpy())),
    "item": lambda x: x * x.abs().max().item(),
    "tolist": lambda x: x + torch.tensor(x.tolist(), dtype=x.dtype).sin(),
    "__float__": lambda x: x + torch.tensor([float(v) for v in x[0]], dtype=x.dtype).sin(),
    "vlcamtests.no_formula": no_formula,
    "vlcamtests.straight": straight,
    "StraightThrough": StraightThrough.apply,
    "Reversed": Reversed.apply,
    "InNumpy": lambda x: InNumpy.apply(x, False),
    "no_grad around mul_": written_without_graph,
    ".data (": written_through_data,
    ".data ": data_replaced,
    "register_hook": hooked,
    "detach (in fn": lambda x: x + ((x * 8).round() / 8 - x).detach(),
    "detach (": lambda x: x / x.norm(dim=1, keepdim=True).detach(),
    "detach ": lambda x: torch.fft.fft(x).detach().abs(),
    "detach (in": lambda x: torch.func.vmap(lambda row: row.detach().sin())(x),
    "detach_": lambda x: (x * 1).detach_().sin(),
    "quantize_per_tensor": lambda x: quantised(x.float()).to(x.dtype),
    "fake_quantize_per_tensor_affine": lambda x: torch.fake_quantize_per_tensor_affine(
        x, 0.05, 0, -128, 127
    ),
    "gumbel_softmax": lambda x: F.gumbel_softmax(x, hard=True),
    "int (": lambda x: (x * 20).int().to(x.dtype) / 20,
    "numpy (in": rounded_in_numpy,
    "__format__": lambda x: x * float(f"{x.abs().sum():.9f}"),
    "__repr__": lambda x: x * float(repr(x.abs().sum().detach())[7:].split(",")[0].rstrip(")")),
    "untyped_storage": lambda x: torch.tensor(pickle.loads(pickle.dumps(x.detach()))).sin(),
    "__int__": lambda x: x * int(x.abs().sum() * 100) / 100,
    "new_tensor": lambda x: x.new_tensor(x).sin(),
    ".data (in": lambda x: torch.autograd.Variable(x.data).sin(),
    ".data (in fn": lambda x: nn.Parameter(x.data) * 1,
    "div": lambda x: torch.div(x * 20, 1, rounding_mode="floor") / 20,
    "remainder": lambda x: x - torch.remainder(x, 0.05),
    "bucketize": digitised,
    "grad": own_gradient,
    "quantized.linear_dynamic": nn.Identity(),  # made below
    "quantized_lstm": nn.Identity(),
    "a scripted part": nn.Identity(),
    "use_reentrant=False": lambda x: checkpoint(torch.sin, x, use_reentrant=True),
    "detach (in fn, ": lambda x: checkpoint(lambda y: y.detach().sin(), x, use_reentrant=False),
}
"""By what the error has to say."""


# --- what is harmless


def stabilised(x: Tensor) -> Tensor:
    powers = (x - x.max(1, keepdim=True).values.detach()).exp()
    return powers / powers.sum(1, keepdim=True)


def stabilised_twice(x: Tensor) -> Tensor:
    def most() -> Tensor:
        return x.max(1, keepdim=True).values.detach()

    return most() + (x - most()).exp().sum(1, keepdim=True).log() + x


def masked(x: Tensor) -> Tensor:
    with torch.no_grad():
        mask = (x > 0).to(x.dtype)
    return x * mask


def interpolated(x: Tensor) -> Tensor:
    table = torch.linspace(-3, 3, 61, dtype=x.dtype).sin()
    place = (x.clamp(-2.9, 2.9) + 3) * 10
    left = place.floor()
    return table[left.long()] * (1 - place + left) + table[left.long() + 1] * (place - left)


def looked_at(x: Tensor) -> Tensor:
    x.detach().cpu().numpy()
    return x * 0 if x.sum().item() > 1e9 else x


def printed(x: Tensor) -> Tensor:
    str((f"{x.sum():.3f}", x, int(x.sum())))
    return x.sin()


def written_into_a_buffer(x: Tensor) -> Tensor:
    buffer = torch.zeros(x.shape, dtype=x.dtype)
    for column in range(x.shape[1]):
        buffer[:, column].copy_(x[:, column].sin())
    return buffer + x.detach() - x.detach()


def most_of_it(x: Tensor) -> Tensor:
    best = x.argmax(1, keepdim=True)
    return torch.zeros_like(x).scatter(1, best, x.gather(1, best)) + torch.full_like(x.detach(), 2)


class OwnWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.detach() * self.weight.data + 0 * (x.detach() * self.weight)


HARMLESS: dict[str, Part] = {
    "nothing": torch.sin,
    "right formula": right,
    "Function": Rectified.apply,
    "Function in NumPy": lambda x: InNumpy.apply(x, True),
    "softmax": stabilised,
    "log-sum-exp": stabilised_twice,
    "mask": masked,
    "detached mask": lambda x: x * (x > x.mean(1, keepdim=True)).detach().to(x.dtype),
    "sorted": lambda x: x.gather(1, x.argsort(1)),
    "interpolation": interpolated,
    "looked at": looked_at,
    "printed": printed,
    "wrapped angle": lambda x: torch.remainder(x + 3, 6).cos(),
    "sparse": lambda x: torch.sparse.mm(torch.eye(16, dtype=x.dtype).to_sparse(), x.T).T,
    "made sparse": lambda x: x.to_sparse().to_dense().sin(),
    "buffer": written_into_a_buffer,
    "scattered": most_of_it,
    "weights": OwnWeights(),
    "complex": lambda x: torch.fft.fft(x).abs(),
    "vmap": lambda x: torch.func.vmap(torch.sin)(x),
    "random": lambda x: F.dropout(x.detach() * 0 + x, 0.5, True),
    "one-hot beside": lambda x: x + F.one_hot(x.argmax(1), 16).to(x.dtype),
    "checkpoint": lambda x: checkpoint(lambda y: y.sin().exp(), x, use_reentrant=False),
}


class Net(nn.Module):
    """A part between the layer ``cnn`` and the score, and a plain way beside it."""

    def __init__(self, part: Part, beside: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cnn = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.ReLU())
        self.first, self.last = nn.Linear(16, 16), nn.Linear(16, 4)
        self.fn = part if isinstance(part, nn.Module) else Called(part)
        self.skip = nn.Conv2d(16, 4, 1)
        self.beside = beside

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.cnn(pixels)
        found = self.last(self.fn(4 * self.first(maps.mean((2, 3)))))
        return found + self.skip(maps).mean((2, 3)) if self.beside else found


class Called(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def logits(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    return net(pixels)


ASKED = [Target(str(column), (Term(1.0, None, (column,)),)) for column in range(4)]
PIXELS = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def adapter_of(part: Part, dtype: torch.dtype, **more: bool) -> ModuleAdapter:
    return ModuleAdapter(Net(part, **more).to(dtype).eval(), "cnn", logits)


def gradients(adapter: ModuleAdapter, dtype: torch.dtype) -> Tensor:
    features = encode(adapter, PIXELS.to(dtype))
    return torch.cat([chunk.gradients for chunk in seam_gradients(adapter, features, ASKED)])


def part_of(name: str) -> Part:
    torch.manual_seed(0)
    made: dict[str, Callable[[], nn.Module]] = {
        "quantized.linear_dynamic": lambda: int8(nn.Sequential(nn.Linear(16, 16)), nn.Linear),
        "quantized_lstm": lambda: int8(Int8Lstm(), nn.LSTM),
        "a scripted part": lambda: torch.jit.script(Cut()),
    }
    return made[name]() if name in made else REFUSED[name]


@pytest.mark.filterwarnings("ignore:.*deprecated:Warning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_loses_a_gradient_is_named(name: str, recwarn: pytest.WarningsRecorder) -> None:
    dtype = torch.float32 if "quantized" in name else torch.float64
    for beside in (True, False):
        adapter = adapter_of(part_of(name), dtype, beside=beside)
        with (
            unchanged(adapter.module),
            pytest.raises(ValueError, match=f"Net: .*no .*{re.escape(name)}") as told,
        ):
            gradients(adapter, dtype)
        assert "\n" not in str(told.value)
    assert not [w for w in recwarn if "autograd kernel" in str(w.message)]


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_harmless_has_its_gradient(name: str, dtype: torch.dtype) -> None:
    adapter = adapter_of(HARMLESS[name], dtype)
    with unchanged(adapter.module):
        found = gradients(adapter, dtype)
    if dtype == torch.float32 or name == "random":
        return
    features, step = encode(adapter, PIXELS.to(dtype)), 1e-6
    direction = torch.randn(features.maps.shape, generator=torch.Generator().manual_seed(2)).to(
        dtype
    )
    ahead, behind = (
        score(
            adapter, type(features)(features.maps + sign * step * direction, features.rest), ASKED
        )
        for sign in (1, -1)
    )
    expected = (found * direction).sum((1, 2, 3))
    torch.testing.assert_close((ahead - behind) / (2 * step), expected, rtol=1e-5, atol=1e-7)


def test_what_is_only_looked_at_is_no_suspect() -> None:
    """However hard the score is to differentiate."""

    def steep(x: Tensor) -> Tensor:
        x.mean().item()
        x.detach().numpy().max()
        return (x * 500).sin()

    gradients(adapter_of(steep, torch.float32), torch.float32)


def test_roundings_without_another_way() -> None:
    for function in (torch.round, torch.sign, torch.floor):
        with pytest.raises(ValueError, match=f"no gradient passes {function.__name__} "):
            gradients(adapter_of(function, torch.float64, beside=False), torch.float64)


def test_half_precision() -> None:
    for name in ("softmax", "interpolation", "weights", "buffer", "log-sum-exp"):
        gradients(adapter_of(HARMLESS[name], torch.bfloat16), torch.bfloat16)
    for name in ("detach", "no_grad around sin", "StraightThrough", "item"):
        with pytest.raises(ValueError, match=re.escape(name)):
            gradients(adapter_of(REFUSED[name], torch.bfloat16), torch.bfloat16)


def test_between_the_pixels_and_the_layer() -> None:
    net = Net(torch.sin).eval()
    net.cnn = nn.Sequential(nn.Conv2d(3, 16, 8, 8), Called(lambda x: x.detach().cos() + x))
    adapter = ModuleAdapter(net, "cnn", logits)
    gradients(adapter, torch.float32)  # behind the layer all is well
    for name in ("gradient", "guided-backprop"):
        with pytest.raises(ValueError, match=r"detach .*between the pixels and layer cnn"):
            explain_at_pixels(adapter, PIXELS, ASKED, METHODS[name])


def test_a_model_that_is_changed_is_looked_at_again() -> None:
    adapter = adapter_of(stabilised, torch.float64)
    gradients(adapter, torch.float64)
    gradients(adapter, torch.float64)
    adapter.module.fn = Called(without_graph)
    with pytest.raises(ValueError, match="no_grad"):
        gradients(adapter, torch.float64)
    adapter.module.fn = Called(torch.sin)
    gradients(adapter, torch.float64)


def test_a_harmless_suspect_is_tried_once() -> None:
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return stabilised(x)

    adapter = adapter_of(counted, torch.float64)
    gradients(adapter, torch.float64)
    first = len(calls)
    gradients(adapter, torch.float64)
    assert len(calls) - first < first


def test_two_threads() -> None:
    found: dict[str, object] = {}

    def run(name: str, part: Part) -> None:
        try:
            found[name] = gradients(adapter_of(part, torch.float64), torch.float64)
        except ValueError as error:
            found[name] = error

    threads = [
        threading.Thread(target=run, args=(name, part))
        for name, part in (("cut", without_graph), ("harmless", masked))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(found["cut"], ValueError) and isinstance(found["harmless"], Tensor)


def test_nothing_is_kept() -> None:
    adapter = adapter_of(stabilised, torch.float64)
    gradients(adapter, torch.float64)
    kept = [weakref.ref(adapter), weakref.ref(adapter.module)]
    del adapter
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
