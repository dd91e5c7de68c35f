"""The speed benchmark of occlusion: captum agrees with both of ours."""

from __future__ import annotations

import pytest

from benchmarks.speed import caption as speed
from benchmarks.speed import occlusion
from vlcam.attribution.occlusion import Patch


@pytest.mark.parametrize("patch", [Patch(16, 16), Patch(20, 9, 0.5)])
def test_captums_occlusion_agrees_with_both_of_ours(patch: Patch) -> None:
    pytest.importorskip("captum")
    case = speed.Case("small", "stage4", 3, 64, 50)
    found = [one.run(5) for one in occlusion.contenders(case, patch)]
    assert occlusion.check(found, patch) < 1e-3
    found[0] = found[0] + 0.01 * found[0].abs().max()
    with pytest.raises(AssertionError, match="maps differ by"):
        occlusion.check(found, patch)
