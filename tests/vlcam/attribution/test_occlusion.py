"""Occlusion maps against covering one patch at a time; the incremental way against the plain."""

from __future__ import annotations

from functools import cache
from itertools import count

import pytest
import torch
from torch import Tensor, nn

from tests.samples.adapters import ADAPTERS
from tests.samples.tiny import TinyCaptioner
from tests.tools.untouched import unchanged
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import score
from vlcam.attribution.incremental import Incremental, NotIncrementalError
from vlcam.attribution.occlusion import Patch, occlusion_maps
from vlcam.attribution.targets import units, whole
from vlcam.geometry.grid import Grid
from vlcam.networks.encoder import Encoder
from vlcam.utils.terminal import progress


def noise(size: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, size, size, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("name", ["tiny", "lstm-cnn", "vilt", "blip"])
def test_drops_are_those_of_one_patch_at_a_time(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    case = ADAPTERS[name](tmp_path_factory.mktemp("model"))
    patch = Patch(12, 10, 0.5)
    with unchanged(case.adapter.module):
        scores, drops, grid = occlusion_maps(
            case.adapter, case.pixels, case.asked(), patch, batch=4
        )
    assert grid == Grid((3, 3), (5.5, 5.5), (10, 10)) and drops.shape == (len(scores), 3, 3)
    before = score(case.adapter, encode(case.adapter, case.pixels, case.prompts), case.asked())
    torch.testing.assert_close(scores.double(), before)
    for i in range(3):
        for j in range(3):
            covered = case.pixels.clone()
            covered[:, :, 10 * i : 10 * i + 12, 10 * j : 10 * j + 12] = 0.5
            features = encode(case.adapter, covered, case.prompts)
            drop = before - score(case.adapter, features, case.asked())
            torch.testing.assert_close(drops[:, i, j].double(), drop, rtol=1e-4, atol=1e-5)


def test_all_targets_are_read_from_the_same_passes() -> None:
    model = TinyCaptioner()
    reading = model.read("a red dog on the grass")
    occlusion_maps(model, noise(32), [*units(reading), whole(reading)], Patch(16, 16))
    assert model.encoded == 1 + 4


def test_progress_is_told_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    model = TinyCaptioner()
    asked = units(model.read("a red dog"))
    occlusion_maps(model, noise(32), asked, Patch(8, 8), batch=5)
    assert capsys.readouterr().err == ""
    with progress.shown(clock=count(0, 10).__next__):
        occlusion_maps(model, noise(32), asked, Patch(8, 8), batch=5)
    told = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    shares = {5: 31, 10: 62, 15: 93, 16: 100}
    assert told == [f"patches: {done} of 16 ({share} %)" for done, share in shares.items()]


def test_patches_that_do_not_fit() -> None:
    for size, stride in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match=f"a patch of {size} pixels at stride {stride}"):
            Patch(size, stride)
    with pytest.raises(ValueError, match="45 pixels does not fit into an input of 32 x 32"):
        occlusion_maps(TinyCaptioner(), noise(32), [], Patch())


class Branches(nn.Module):
    """Ways of different reach, an in-place ReLU, a pooling that rounds up, a dilation."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv2d(3, 4, 1, 2)
        self.far = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 2, dilation=2), nn.MaxPool2d(3, 2, 1))
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Conv2d(4, 4, (3, 5), (2, 1), (1, 0), groups=2)

    def forward(self, x: Tensor) -> Tensor:
        summed = self.near(x) + self.far(x)
        pooled = self.pool(summed)
        return self.last(pooled + self.pool(self.relu(summed)))


NETWORKS = ["small", "vgg11", "resnet18", "resnet50", "mobilenet_v2", "alexnet"]


@cache
def cnn(name: str) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        before, _ = Encoder(name, (71, 71)).double().eval().split()
        for parameter in before.parameters():  # MobileNet's own would give next to nothing
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter)
    return before


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("patch", [Patch(16, 16), Patch(13, 17, 0.7), Patch(45, 9)])
def test_incremental_equals_plain(name: str, patch: Patch) -> None:
    check(cnn(name), noise(71), patch)


@pytest.mark.parametrize("patch", [Patch(5, 3), Patch(1, 7), Patch(24, 8)])
def test_incremental_equals_plain_of_branches(patch: Patch) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        check(Branches().double().eval(), noise(32), patch)


def check(before: nn.Module, pixels: Tensor, patch: Patch) -> None:
    corners = patch.corners((pixels.shape[2], pixels.shape[3]))
    fast = Incremental(before, pixels, patch)(corners).maps
    covered = pixels.repeat(len(corners), 1, 1, 1)
    for row, (y, x) in enumerate(corners):
        covered[row, :, y : y + patch.size, x : x + patch.size] = patch.fill
    with torch.no_grad():
        plain = before(covered)
    scale = float(plain.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-11 * scale)


def test_maps_by_the_incremental_way() -> None:
    model = TinyCaptioner()
    asked = units(model.read("a red dog on the grass"))
    pixels, patch = noise(32), Patch(8, 8)
    plain = occlusion_maps(model, pixels, asked, patch)
    fast = occlusion_maps(
        model, pixels, asked, patch, encode=Incremental(model.module.before, pixels, patch)
    )
    torch.testing.assert_close(fast[1], plain[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.AvgPool2d(2), r"AvgPool2d\): what a patch changes"),
        (nn.BatchNorm2d(3).train(), r"BatchNorm2d\)"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"), r"Conv2d\)"),
        (nn.Conv2d(3, 3, 3, padding="same"), r"Conv2d\)"),
    ],
)
def test_unknown_layers_are_refused(layer: nn.Module, said: str) -> None:
    with pytest.raises(NotIncrementalError, match=said):
        Incremental(nn.Sequential(layer.double()), noise(16), Patch(4, 4))
