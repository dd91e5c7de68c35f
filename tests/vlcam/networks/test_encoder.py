"""CNNs by their names."""

from __future__ import annotations

import pytest

from vlcam.networks.encoder import Encoder


def test_an_unknown_layer_is_refused_with_near_ones() -> None:
    with pytest.raises(ValueError, match="stage4"):
        Encoder("small").layer("stage5")
