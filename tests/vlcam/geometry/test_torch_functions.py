"""What each torch function does to the cells, worked out by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.samples.linear_networks import Run, image
from vlcam.geometry.cells import NoGridError, derive
from vlcam.geometry.grid import Grid


def affine(run: Run, size: int = 32) -> tuple[float, float]:
    """Offset and stride, the same for both axes."""
    grid = derive(run, image(size))
    assert grid.offset[0] == grid.offset[1] and grid.stride[0] == grid.stride[1]
    return grid.offset[0], grid.stride[0]


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
