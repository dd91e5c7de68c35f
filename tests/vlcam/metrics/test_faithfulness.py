"""Whether maps tell the truth: rank correlation, deletion and insertion, randomised weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.samples.adapters import ADAPTERS
from tests.samples.tiny import TinyCaptioner
from tests.tools.untouched import unchanged
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, score
from vlcam.attribution.methods import get
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import units
from vlcam.geometry.grid import Grid, Placement, place
from vlcam.metrics.faithfulness import (
    cascade,
    curves,
    layers_from_the_top,
    on_patches,
    rank_correlation,
)
from vlcam.metrics.pointing import centred_gaussian


def test_rank_correlation_shares_ranks_as_scipy_does() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        one, other = random.integers(0, 4, (2, 5, 7))
        assert rank_correlation(one, other) == pytest.approx(
            spearmanr(one.ravel(), other.ravel()).statistic, abs=1e-12
        )
    assert rank_correlation([[1, 2], [3, 4]], [[10, 20], [30, 40]]) == pytest.approx(1)
    assert rank_correlation([[1, 2], [3, 4]], [[4, 3], [2, 1]]) == pytest.approx(-1)


def test_what_rounding_told_apart_is_ranked_as_equal() -> None:
    random = np.random.default_rng(0)
    for size in (1e-30, 1.0, 1e30):
        one, other = random.integers(-2, 3, (2, 14, 14)).astype(float) / 3
        blurred = size * one * (1 + random.uniform(-1e-15, 1e-15, one.shape))
        assert rank_correlation(blurred, other) == rank_correlation(one, other)
    # A rest of cells that do not count there is as nothing.
    rest, nothing = np.array([1, 0.5, 1e-17, 0]), np.array([1, 0.5, 0, 0])
    assert rank_correlation(rest, np.arange(4)) == rank_correlation(nothing, np.arange(4))
    # What float32 can tell apart is told apart, however small beside the greatest value.
    fine = np.float32(1) + np.float32(2**-23) * np.arange(8, dtype=np.float32)
    assert rank_correlation(fine, np.arange(8)) == pytest.approx(1)
    wide = np.logspace(0, -13, 8, dtype=np.float32)
    assert rank_correlation(wide, -np.arange(8)) == pytest.approx(1)


def test_equal_cells_are_equal_on_the_places_of_a_patch() -> None:
    """Also where a map is interpolated and averaged in between."""
    grid, patch = Grid.patches((224, 224), 16), Patch(45, 8)
    plateau = torch.zeros(1, 14, 14)
    plateau[:, :, 7:] = 0.1  # the same in every row
    gaussian = torch.from_numpy(centred_gaussian((14, 14)))[None].float()
    flat = torch.full((1, 14, 14), 0.1)
    for maps in (plateau, gaussian, flat):
        (found,) = on_patches(maps, grid, patch, (224, 224)).numpy()
        rounded = np.round(found, 9)  # no two others are as close
        other = np.random.default_rng(0).random(found.shape)
        assert rank_correlation(found, other) == rank_correlation(rounded, other)
    assert rank_correlation(found, other) is None, "constant"


def test_maps_that_rank_nothing_have_no_correlation() -> None:
    for flat in ([0.0, 0.0], [0.1 + 0.2, 0.3], [1.0, np.nan], [1.0, np.inf]):
        assert rank_correlation(flat, [1.0, 2.0]) is None
        assert rank_correlation([1.0, 2.0], flat) is None
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        rank_correlation([1, 2], [1, 2, 3])


def test_a_map_on_the_places_of_a_patch_is_its_mean_there() -> None:
    maps = torch.rand(2, 4, 4, dtype=torch.float64)
    grid, patch = Grid((4, 4), (3.5, 3.5), (8.0, 8.0)), Patch(10, 6)
    found = on_patches(maps, grid, patch, (32, 32))
    assert found.shape == (2, *patch.grid((32, 32)).size)
    drawn = place(maps, grid, Placement.identity((32, 32)))
    corners = patch.corners((32, 32))
    for t in range(2):
        for value, (y, x) in zip(found[t].flatten(), corners, strict=True):
            torch.testing.assert_close(value, drawn[t, y : y + 10, x : x + 10].mean())


@pytest.mark.parametrize("name", ["tiny", "lstm-cnn", "vilt"])
def test_curves_are_the_scores_of_inputs_with_pixels_gone(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    case = ADAPTERS[name](tmp_path_factory.mktemp("model"))
    size = tuple(case.pixels.shape[2:])
    drawn = torch.rand(size, generator=torch.Generator().manual_seed(1))
    target = case.asked()[0]
    with unchanged(case.adapter.module):
        found = curves(case.adapter, case.pixels, target, drawn=drawn, steps=4, fill=0.5)
    assert found.shares == (0, 0.25, 0.5, 0.75, 1)
    threshold = drawn.flatten().sort(descending=True).values
    for i, share in enumerate(found.shares):
        gone = torch.zeros(size, dtype=torch.bool)
        if share:
            gone = drawn >= threshold[round(share * drawn.numel()) - 1]
        for values, where in ((found.deletion, gone), (found.insertion, ~gone)):
            covered = case.pixels.clone()
            covered[:, :, where] = 0.5
            features = encode(case.adapter, covered, case.prompts)
            assert values[i] == pytest.approx(score(case.adapter, features, [target]).item())
    # Of the same inputs, beside others: equal to rounding.
    first, last = (pytest.approx(found.deletion[i], rel=1e-12) for i in (0, -1))
    assert found.insertion[-1] == first and found.insertion[0] == last
    assert found.insertion[-1] != last
    ends = (found.deletion[0], found.deletion[-1])
    known = curves(case.adapter, case.pixels, target, drawn=drawn, steps=4, fill=0.5, ends=ends)
    assert known.deletion == pytest.approx(found.deletion)
    assert known.insertion == pytest.approx(found.insertion)
    halves = np.asarray(found.deletion)
    assert found.deletion_area == pytest.approx((halves[:-1] + halves[1:]).mean() / 2)


def test_curves_of_what_does_not_fit() -> None:
    model = TinyCaptioner()
    target = units(model.read("a dog"))[0]
    pixels = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"a map of \(4, 4\) for an input of \(32, 32\)"):
        curves(model, pixels, target, drawn=torch.zeros(4, 4))
    with pytest.raises(ValueError, match="0 steps"):
        curves(model, pixels, target, drawn=torch.zeros(32, 32), steps=0)


@pytest.mark.parametrize("name", ["neuraltalk", "lstm-cnn"])
def test_layers_are_randomised_from_the_top_and_stay_so(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    case = ADAPTERS[name](tmp_path_factory.mktemp("model"))
    names = layers_from_the_top(case.adapter.module)
    assert names[-1].startswith("encoder") and not names[0].startswith("encoder")
    original = {k: v.detach().clone() for k, v in case.adapter.module.named_parameters()}
    done: set[str] = set()
    maps = []
    with unchanged(case.adapter.module):
        for layer, changed in cascade(case.adapter):
            done.add(layer)
            for key, value in changed.module.named_parameters():
                constant = original[key].std(correction=0) == 0 and original[key].numel() > 1
                if key.rpartition(".")[0] not in done or constant:
                    assert torch.equal(value, original[key]), key
                else:
                    assert not torch.equal(value, original[key]), key
            features = encode(changed, case.pixels, case.prompts)
            maps.append(explain_at_layer(changed, features, case.asked(), get("hirescam"))[1])
    assert done == set(names)
    assert not torch.allclose(maps[0], maps[-1])


def test_the_same_seed_randomises_alike() -> None:
    model = TinyCaptioner()
    for (_, one), (_, other) in zip(cascade(model, seed=3), cascade(model, seed=3), strict=True):
        for a, b in zip(one.module.parameters(), other.module.parameters(), strict=True):
            assert torch.equal(a, b)


def test_only_the_layers_asked_for_are_randomised() -> None:
    model = TinyCaptioner()
    name = layers_from_the_top(model.module)[0]
    ((layer, changed),) = cascade(model, layers=[name])
    assert layer == name
    moved = {
        key.rpartition(".")[0]
        for (key, a), b in zip(
            model.module.named_parameters(), changed.module.parameters(), strict=True
        )
        if not torch.equal(a, b)
    }
    assert moved == {name}
