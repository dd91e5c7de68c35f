"""Derived places of cells against hand-computed ones, and against a measurement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vlcam.geometry.cells import NoGridError, derive, measure
from vlcam.geometry.grid import Grid

Run = Callable[[Tensor], Tensor]


class Reached(Exception):
    pass


def before(model: nn.Module, layer: str) -> Run:
    """The model up to a layer."""

    def run(pixels: Tensor) -> Tensor:
        def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
            raise Reached(output)

        handle = model.get_submodule(layer).register_forward_hook(stop)
        try:
            model(pixels)
        except Reached as reached:
            return reached.args[0]
        finally:
            handle.remove()
        raise AssertionError(f"{layer} was not reached")

    return run


def image(height: int, width: int | None = None) -> Tensor:
    return torch.empty(1, 3, height, width or height)


def affine(run: Run, size: int = 32) -> tuple[float, float]:
    """Offset and stride, the same for both axes."""
    grid = derive(run, image(size))
    assert grid.offset[0] == grid.offset[1] and grid.stride[0] == grid.stride[1]
    return grid.offset[0], grid.stride[0]


# --- one operation: what it does to the cells, worked out by hand


def kernel(size: int) -> Tensor:
    return torch.ones(5, 3, size, size)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("run", "offset", "stride"),
    [
        (lambda x: F.conv2d(x, kernel(3), padding=1), 0, 1),
        (lambda x: F.conv2d(x, kernel(3)), 1, 1),
        (lambda x: F.conv2d(x, kernel(7), stride=2, padding=3), 0, 2),
        (lambda x: F.conv2d(x, kernel(2), stride=2), 0.5, 2),
        (lambda x: F.conv2d(x, kernel(3), dilation=2), 2, 1),
        (lambda x: F.conv2d(x, kernel(5), None, 1, "same", 2), 0, 1),
        (lambda x: F.conv2d(x, kernel(4), padding="same"), 0.5, 1),
        (lambda x: F.conv2d(x, kernel(3), padding="valid"), 1, 1),
        (lambda x: torch.conv2d(x, weight=kernel(3)), 1, 1),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), 0, 1),
        (lambda x: F.max_pool2d(x, 2), 0.5, 2),
        (lambda x: F.max_pool2d(x, 3, 2, 1), 0, 2),
        (lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True), 1, 2),
        (lambda x: F.max_pool2d(x, 3, 2, dilation=2), 2, 2),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], 0.5, 2),
        (lambda x: torch.max_pool2d(x, 3, 2), 1, 2),
        (nn.MaxPool2d(3, 1), 1, 1),
        (lambda x: F.avg_pool2d(x, 3, 3), 1, 3),
        (nn.AvgPool2d(2, ceil_mode=True), 0.5, 2),
        (lambda x: F.adaptive_avg_pool2d(x, 8), 1.5, 4),
        (nn.AdaptiveMaxPool2d(16), 0.5, 2),
        (lambda x: F.pad(x, (2, 1, 2, 0)), -2, 1),
        (nn.ReflectionPad2d(3), -3, 1),
        (lambda x: F.conv_transpose2d(x, torch.ones(3, 2, 2, 2), stride=2), -0.25, 0.5),
        (lambda x: F.interpolate(x, scale_factor=2), -0.25, 0.5),
        (lambda x: F.interpolate(x, scale_factor=0.5), 0, 2),
        (lambda x: F.interpolate(x, 16, mode="bilinear", align_corners=False), 0.5, 2),
        (lambda x: F.interpolate(x, 63, mode="bilinear", align_corners=True), 0, 0.5),
        (lambda x: F.pixel_shuffle(torch.cat([x, x, x, x], 1), 2), -0.25, 0.5),
        (lambda x: F.pixel_unshuffle(x, 4), 1.5, 4),
        (lambda x: x[:, :, 1::2, 1::2], 1, 2),
        (lambda x: x[:, [2, 1, 0]], 0, 1),
        (lambda x: x.flip(-1).flip(3).flip(1), 0, 1),
        (lambda x: x.flip((2, 3)), 31, -1),
    ],
)
def test_one_operation(run: Run, offset: float, stride: float) -> None:
    assert affine(run) == (offset, stride)


def test_interpolation_agrees_with_its_values() -> None:
    # Enlarge the pixels' own coordinates: what comes out is where it lies (but for the borders).
    coordinates = torch.arange(12.0).view(1, 1, 12, 1).expand(1, 1, 12, 12)
    for arguments in (
        {"scale_factor": 3.0, "mode": "bilinear"},
        {"size": (18, 20), "mode": "bilinear", "align_corners": False},
        {"size": (34, 23), "mode": "bilinear", "align_corners": True},
        {"scale_factor": 1.5, "mode": "bilinear"},
        {"size": 6, "mode": "bilinear"},
    ):
        rows = F.interpolate(coordinates, **arguments)[0, 0, :, 0]  # type: ignore[arg-type]
        grid = derive(lambda x, a=arguments: F.interpolate(x, **a), image(12))  # type: ignore
        expected = grid.offset[0] + grid.stride[0] * torch.arange(len(rows))
        inner = slice(3, -3) if len(rows) > 8 else slice(1, -1)
        torch.testing.assert_close(rows[inner], expected[inner], msg=str(arguments))


def test_transposed_convolution_undoes_the_convolution() -> None:
    for k, s, p, d in ((3, 2, 1, 1), (4, 2, 1, 1), (5, 3, 0, 1), (3, 1, 2, 2)):
        there = nn.Conv2d(3, 4, k, s, p, d)
        back = nn.ConvTranspose2d(4, 3, k, s, p, dilation=d)
        assert affine(lambda x, a=there, b=back: b(a(x))) == (0, 1)  # type: ignore[misc]


def test_rows_and_columns_are_followed_by_themselves() -> None:
    conv = nn.Conv2d(3, 4, (3, 1), stride=(2, 3), padding=(0, 2))
    assert derive(conv, image(21, 30)) == Grid((10, 12), (1, -2), (2, 3))


def test_permutations_and_reshapes() -> None:
    stem = nn.Conv2d(3, 8, 4, stride=4)
    norm, mix = nn.LayerNorm(8), nn.Linear(8, 6)
    grid = Grid((6, 8), (1.5, 1.5), (4, 4))

    def channels_last(x: Tensor) -> Tensor:
        return mix(norm(stem(x).permute(0, 2, 3, 1))).movedim(-1, 1)

    def shuffled(x: Tensor) -> Tensor:
        n, _, u, v = stem(x).shape
        groups = stem(x).view(n, 2, 4, u, v).transpose(1, 2).contiguous()
        first, second = groups.reshape(n, -1, u, v).chunk(2, 1)
        return torch.cat((second, first), dim=1)

    def detoured(x: Tensor) -> Tensor:
        return stem(x).transpose(2, 3).unsqueeze(1).squeeze(1).mT.relu_()

    for run in (channels_last, shuffled, detoured):
        assert derive(run, image(24, 32)) == grid


def test_every_form_of_elementwise_operation_keeps_the_cells() -> None:
    scale = torch.ones(3, 1, 1)

    def run(x: Tensor) -> Tensor:
        x = F.max_pool2d(x, 2)
        x = 1 - x / 2 + scale * x
        x += 1
        x = torch.where(x > 0, x, 2**x).clamp(min=0).to(torch.float64).float()
        x = F.dropout2d(F.relu(nn.SiLU(inplace=True)(x), inplace=True), 0.5)
        return x / x.norm(dim=1, keepdim=True) * F.softmax(x, 1) * x.mean(1, keepdim=True)

    assert affine(run) == (0.5, 2)


def test_branches_meet_at_their_mean() -> None:
    def shortcut(x: Tensor) -> Tensor:  # 0 + 2 i and 0.5 + 2 i, as in ResNet-D
        return F.conv2d(x, torch.ones(3, 3, 3, 3), stride=2, padding=1) + F.avg_pool2d(x, 2)

    def focus(x: Tensor) -> Tensor:
        return torch.cat([x[..., ::2, ::2], x[..., 1::2, 1::2]], 1)

    assert affine(shortcut) == (0.25, 2)
    assert affine(focus) == (0.5, 2)


def test_what_is_pooled_moves_nothing() -> None:
    def excited(x: Tensor) -> Tensor:
        x = F.max_pool2d(x, 2)
        gate = F.adaptive_avg_pool2d(x, 1).flatten(1).sigmoid()
        context = F.interpolate(x.mean((2, 3), keepdim=True), x.shape[2:])
        along = x.mean(3, keepdim=True)
        return torch.cat([x * gate[:, :, None, None].expand_as(x) + along, context], 1)

    assert affine(excited) == (0.5, 2)


def test_constants_carry_no_position() -> None:
    position = torch.zeros(1, 3, 16, 16)
    assert affine(lambda x: F.max_pool2d(x, 2) + position + x.new_ones(16, 16)) == (0.5, 2)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda x: x.flatten(2), r"feature maps \(N, K, u, v\), not \(2, 3, 1024\)"),
        (lambda x: x.flatten(2).view(2, 3, 32, 32), "lost in flatten"),
        (lambda x: F.adaptive_avg_pool2d(x, 1), "pooled in adaptive_avg_pool2d"),
        (lambda x: x.mean((2, 3), keepdim=True), "pooled in mean"),
        (lambda x: x.roll(3, 2), "lost in roll"),
        (lambda x: x + (x @ x), "lost in matmul"),
        (lambda x: F.linear(x, torch.ones(32, 32)), "lost in linear"),
        (lambda x: torch.cat([x, x], 2), "lost in cat"),
        (lambda x: x.permute(0, 2, 3, 1), "dimensions -3 and -2"),
        (lambda x: x.mT, "dimensions -1 and -2"),
        (lambda x: x + x.mT, "lost in add"),
        (lambda x: torch.zeros(2, 3, 4, 4), "does not depend on the pixels"),
        (lambda x: (x, x), "not a tuple"),
        (lambda x: x * float(x.max()), "cannot follow the pixels through"),
        (lambda x: x if x.sum() > 0 else -x, "cannot follow the pixels through"),
    ],
)
def test_lost_positions_are_named(run: Run, message: str) -> None:
    with pytest.raises(NoGridError, match=message):
        derive(run, image(32))


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


# --- all of torchvision's CNNs, against the measurement


def fill(model: nn.Module) -> nn.Module:
    """Positive weights, most of each in the middle of its kernel: nearly linear, sees narrowly.

    So the measurement needs few cells and little of the picture. The classifier stays unfilled.
    """
    random = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.weight.numel() > 2**22:
            continue
        for name, old in module.named_parameters(recurse=False):
            value = torch.full(old.shape, 0.0 if name == "bias" else 1.0)
            if name == "weight" and isinstance(module, nn.Conv2d | nn.Linear):
                value = (torch.rand(old.shape[:2], generator=random) + 0.5) / old.shape[1]
                if isinstance(module, nn.Conv2d):
                    bump = torch.outer(*map(narrow, module.kernel_size))
                    value = value[..., None, None] * bump / 2  # halved: sums do not grow
            setattr(module, name, nn.Parameter(value, requires_grad=False))
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.zeros(module.num_features)
            module.running_var = torch.ones(module.num_features)
    return model.eval()


def narrow(size: int) -> Tensor:
    taps = torch.full((size,), 0.03)
    taps[(size - 1) // 2] = taps[size // 2] = 1
    return taps / taps.sum()


class AveragePooling(TorchFunctionMode):
    """Averages where the model takes maxima: of the same windows, and without luck."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.__name__ == "max_pool2d":
            return average(*args, **kwargs)
        return func(*args, **kwargs)


def average(
    x: Tensor,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    assert dilation == 1
    return F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode)


def linear(run: Run) -> Run:
    """Of all but one sign, which no ReLU stops, and with average pooling."""

    def averaged(x: Tensor) -> Tensor:
        with AveragePooling():
            return run(1 + x / 10)

    return averaged


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
