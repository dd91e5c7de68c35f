"""Inception v3 of im2txt: its end points, and where their cells lie."""

from __future__ import annotations

from pathlib import Path

import torch

from captioning.models.im2txt.model import Im2txt
from tests.samples.captioning.im2txt import Slim, loaded, noise, variables
from vlcam.attribution.encoding import encode
from vlcam.geometry.grid import Grid


def test_every_end_point_is_the_originals(checkpoint: Path) -> None:
    slim = Slim(variables())
    slim.run(noise().permute(0, 2, 3, 1))
    net = loaded(checkpoint).module
    for name, maps in slim.ends.items():
        found = encode(Im2txt(net, "im2txt", name), noise()).maps
        torch.testing.assert_close(found, maps.permute(0, 3, 1, 2), rtol=1e-9, atol=1e-9)
    assert [layer.name for layer in net.encoder.layers] == list(slim.ends)


def test_cells_lie_where_unpadded_layers_put_them(checkpoint: Path) -> None:
    net = loaded(checkpoint).module
    for layer, stride, first, cells in (
        ("Conv2d_1a_3x3", 2, 1, 149),
        ("MaxPool_5a_3x3", 8, 13, 35),
        ("Mixed_5d", 8, 13, 35),
        ("Mixed_6e", 16, 21, 17),
        ("Mixed_7c", 32, 37, 8),
    ):
        model = Im2txt(net, "im2txt", layer)
        place, step = (float(first),) * 2, (float(stride),) * 2
        assert model.grid((299, 299)) == Grid((cells, cells), place, step)
        assert net.encoder.layer(layer).shape[1:] == (cells, cells)
