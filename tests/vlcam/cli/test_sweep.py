"""The same asked at several depths of a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import captioning
import vlcam
from tests.tools.command_line import REPOSITORY
from vlcam.cli.sweep import sweep

PHOTO = REPOSITORY / "vlcam" / "bundled" / "photos" / "hydrant-bicycle.jpg"


def test_the_same_is_asked_at_every_layer(tmp_path: Path) -> None:
    """What a caption is made of is written once; each layer's maps are those of that layer."""
    found = sweep(lambda layer: captioning.load("scenes", layer), ["stage2", "stage4"], str(PHOTO))
    found = [row[0] for row in found]
    own = vlcam.explain("scenes", PHOTO)
    assert [e.layer for e in found] == ["stage2", "stage4"]
    for explanation in found:
        assert [w.text for w in explanation.words] == [w.text for w in own.words]
        for one, other in zip(explanation.words, own.words, strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
    np.testing.assert_allclose(found[1].maps, own.maps, rtol=1e-4, atol=1e-6)
    assert found[0].grid.size == (40, 40) and found[1].grid.size == (20, 20)
