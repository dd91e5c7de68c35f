"""What a model must not do while it is differentiated."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.samples.tiny import TinyCaptioner, asked, pixels_of
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels
from vlcam.attribution.methods import METHODS


def test_a_score_without_gradient_is_refused() -> None:
    class Detached(TinyCaptioner):
        def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
            return super().teacher_force(FeatureMaps(features.maps.detach()), tokens)

    class Elsewhere(TinyCaptioner):
        def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
            return super().teacher_force(FeatureMaps(torch.ones_like(features.maps)), tokens)

    for kind, named in ((Detached, r" \(no gradient passes detach "), (Elsewhere, "; choose")):
        model = kind()
        model.module.requires_grad_(False)
        with pytest.raises(ValueError, match=rf"does not depend on layer before\.3{named}"):
            explain_at_layer(
                model, encode(model, pixels_of(model)), asked(model), METHODS["grad-cam"]
            )
    model = Elsewhere()
    with pytest.raises(ValueError, match="does not depend on layer"):
        explain_at_layer(model, encode(model, pixels_of(model)), asked(model), METHODS["grad-cam"])


def test_batch_statistics_behind_the_layer_are_refused() -> None:
    model = TinyCaptioner()
    model.module.after[1] = nn.BatchNorm2d(8, track_running_stats=False, dtype=torch.float64)
    with pytest.raises(ValueError, match="BatchNorm"):
        explain_at_layer(model, encode(model, pixels_of(model)), asked(model), METHODS["grad-cam"])


def test_a_value_written_over_is_refused() -> None:
    """As autograd refuses it; a wrong gradient would look like any other."""

    class Overwriting(TinyCaptioner):
        def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
            maps = features.maps.sigmoid()
            both = maps * 2
            return super().teacher_force(FeatureMaps(both + maps.add_(1)), tokens)

    model = Overwriting()
    with pytest.raises(ValueError, match=r"in-place operation behind layer before\.3"):
        explain_at_layer(model, encode(model, pixels_of(model)), asked(model), METHODS["grad-cam"])
    with pytest.raises(ValueError, match=r"no gradient of its score .*inplace"):
        explain_at_pixels(model, pixels_of(model), asked(model), METHODS["gradient"])


def test_guided_refuses_a_model_without_relu() -> None:
    class Smooth(TinyCaptioner):
        def __init__(self) -> None:
            super().__init__()
            for part in (self.module.before, self.module.after):
                for index, module in enumerate(part):
                    if isinstance(module, nn.ReLU):
                        part[index] = nn.GELU()

    model = Smooth()
    for name, method in METHODS.items():
        if method.rule is None:
            continue
        with pytest.raises(ValueError, match="no ReLU"):
            if method.at == "layer":
                features = encode(model, pixels_of(model))
                explain_at_layer(model, features, asked(model), method)
            else:
                explain_at_pixels(model, pixels_of(model), asked(model), METHODS[name])
