"""Networks described as data."""

from __future__ import annotations

from typing import Any

import pytest

from vlcam.networks import described_network
from vlcam.networks.described_network import DEEPEST, network


@pytest.mark.parametrize(
    ("said", "layers"),
    [
        ("layer 1 is none of sequence, branches, .* sum, with its options", [{"kind": "tanh"}]),
        ("layer 1 is none of", [3]),
        ("layer 1 is none of", [{"kind": ["relu"]}]),
        ("layer 1 is none of", [{"kind": "relu", "inplace": True}]),
        ("layer 1 is none of", [{"kind": "sequence", "layers": [], "relu": 1}]),
        (r"layer 1\.2 is none of", [{"kind": "branches", "layers": [{"kind": "relu"}, None]}]),
        ("layer 1 has no list of layers", [{"kind": "sequence", "layers": "abc"}]),
        ("layer 1: sizes is '{}'", [{"kind": "reshape", "sizes": {}}]),
        ("layer 1: sizes is", [{"kind": "reshape", "sizes": [1, "2"]}]),
        ("layer 1: factor is 'nan'", [{"kind": "times", "factor": float("nan")}]),
        ("layer 1: factor is '100000000", [{"kind": "times", "factor": 10**300}]),
        ("layer 1 cannot be made: dropout", [{"kind": "dropout", "p": 7}]),
        (
            "layer 1 cannot be made",
            [{"kind": "linear", "in_features": [1], "out_features": -1, "bias": 1}],
        ),
    ],
)
def test_descriptions_that_are_none(said: str, layers: Any) -> None:
    with pytest.raises(ValueError, match=said):
        network(layers)


def test_descriptions_too_deep_or_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    layers: Any = [{"kind": "relu"}]
    for _ in range(DEEPEST + 2):
        layers = [{"kind": "sequence", "layers": layers}]
    with pytest.raises(ValueError, match="nested too deep"):
        network(layers)
    monkeypatch.setattr(described_network, "MOST", 6)
    layers = [{"kind": "sequence", "layers": [{"kind": "sum"}] * 2}] * 2
    assert len(network(layers)) == 2
    with pytest.raises(ValueError, match="more than 6 layers"):
        network([*layers, {"kind": "sum"}])
