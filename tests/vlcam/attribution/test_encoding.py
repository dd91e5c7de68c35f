"""Photos encoded: together, and once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captioning
import vlcam
from tests.samples.tiny import TinyCaptioner, photo, pixels_of
from vlcam.attribution.encoding import encode, encode_photos, prepare


def test_photos_looked_at_together_are_as_by_themselves(scenes: Path) -> None:
    model = captioning.load("scenes")
    paths = sorted((scenes / "images").iterdir())[:3]
    images = [Image.open(path).convert("RGB") for path in paths]
    for path, seen in zip(
        paths,
        encode_photos(
            model, [prepare(model, str(p), i) for p, i in zip(paths, images, strict=True)]
        ),
        strict=True,
    ):
        one = vlcam.look(model, path)
        assert one.features is not None and seen.features is not None
        assert (one.pixels == seen.pixels).all() and one.placement == seen.placement
        assert (one.features.maps - seen.features.maps).abs().max() < 1e-4


def test_no_autograd_graph_below_the_layer() -> None:
    model = TinyCaptioner()
    model.module.requires_grad_(True)
    features = encode(model, pixels_of(model))
    assert not features.maps.requires_grad


def test_parameters_made_in_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        model = TinyCaptioner()
    with pytest.raises(ValueError, match="inference"):
        encode(model, pixels_of(model))


def test_a_photo_that_another_model_encoded() -> None:
    model, other = TinyCaptioner(), TinyCaptioner()
    encoded = vlcam.look(model, photo())
    with pytest.raises(ValueError, match=r"encoded by another model than tiny .*vlcam\.look"):
        vlcam.explain(other, encoded, "a dog")
    assert vlcam.explain(model, encoded, "a dog").words
    array = vlcam.look(model, np.asarray(photo()))
    assert torch.equal(array.pixels, encoded.pixels) and array.photo == "photo"
    assert len(repr(encoded)) < 500
    with pytest.raises(ValueError, match="not as Encoded; its image is one"):
        vlcam.look(model, encoded)  # type: ignore[arg-type]
