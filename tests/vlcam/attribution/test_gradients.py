"""Gradients at the layer and at the pixels: the fast path against the slow obvious one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.samples.tiny import CAPTION, TinyCaptioner, asked, photo, pixels_of
from vlcam import ModuleAdapter
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import targets
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import (
    DEFAULT_MEMORY,
    explain_at_layer,
    explain_at_pixels,
    score,
    seam_gradients,
)
from vlcam.attribution.methods import METHODS, Method
from vlcam.attribution.rows import rows_that_fit
from vlcam.attribution.targets import Target, Term
from vlcam.geometry.grid import Placement, place


def maps_of(model: TinyCaptioner, pixels: Tensor, method: Method) -> Tensor:
    if method.at == "pixels":
        return explain_at_pixels(model, pixels, asked(model), method)[1]
    return explain_at_layer(model, encode(model, pixels), asked(model), method)[1]


def slow_value(model: TinyCaptioner, maps: Tensor, target: targets.Target) -> Tensor:
    """A target's value by plain teacher forcing of one row a term."""
    value = torch.zeros((), dtype=torch.float64)
    for term in target.terms:
        tokens = torch.tensor([term.prompt])
        logs = model.module.language(maps.clone(), tokens).log_softmax(-1)
        for column in term.scores:
            value = value + term.weight * logs[0, column, tokens[0, column]]
    return value


def slow_maps(model: TinyCaptioner, pixels: Tensor, method: Method) -> tuple[Tensor, Tensor]:
    """One target at a time, by a graph from the pixels."""
    values, results = [], []
    for target in asked(model):
        true = model.module.before(pixels).detach().requires_grad_()
        value = slow_value(model, true, target)
        (gradient,) = torch.autograd.grad(value, true)
        values.append(value.detach())
        if method.at == "layer" and method.rule:
            with BackwardRule(method.rule):
                ruled = slow_value(model, true, target)
            (gradient,) = torch.autograd.grad(ruled, true)
        cam = method.reduce and method.reduce(true.detach(), gradient)
        if method.at == "layer":
            results.append(cam[0])
            continue
        leaf = pixels.clone().requires_grad_()
        if method.rule:
            with BackwardRule(method.rule):
                value = slow_value(model, model.module.before(leaf), target)
        else:
            value = slow_value(model, model.module.before(leaf), target)
        result = torch.autograd.grad(value, leaf)[0][0].abs().amax(0)
        if cam is not None:
            grid = model.grid((32, 32))
            result = result * place(cam, grid, Placement.identity((32, 32)))[0]
        results.append(result)
    return torch.stack(values), torch.stack(results)


@pytest.mark.parametrize("memory", [1, 2**30], ids=["one target a chunk", "one chunk"])
@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.at in ("layer", "pixels")])
def test_batched_equals_slow(name: str, memory: int) -> None:
    model, method = TinyCaptioner(), METHODS[name]
    pixels = pixels_of(model)
    expected_values, expected = slow_maps(model, pixels, method)
    if method.at == "layer":
        features = encode(model, pixels)
        values, maps = explain_at_layer(model, features, asked(model), method, memory=memory)
    else:
        values, maps = explain_at_pixels(model, pixels, asked(model), method, memory=memory)
    torch.testing.assert_close(values, expected_values)
    torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-14)
    assert expected.abs().amax() > 0


def test_a_score_named_twice_counts_twice() -> None:
    model = TinyCaptioner()
    features = encode(model, pixels_of(model))
    once, twice = (targets.Target("y", (targets.Term(0.5, (1, 2), c),)) for c in ((1,), (1, 1)))
    values, maps = explain_at_layer(model, features, [once, twice], METHODS["grad-cam"])
    torch.testing.assert_close(values[1], 2 * values[0])
    torch.testing.assert_close(maps[1], 2 * maps[0])
    assert maps[0].amax() > 0


def test_gradients_by_finite_differences() -> None:
    model = TinyCaptioner()
    features = encode(model, pixels_of(model))
    (chunk,) = seam_gradients(model, features, asked(model))
    direction = torch.randn_like(features.maps, generator=torch.Generator().manual_seed(1))
    step = 1e-6
    plus = score(model, FeatureMaps(features.maps + step * direction), asked(model))
    minus = score(model, FeatureMaps(features.maps - step * direction), asked(model))
    expected = (plus - minus) / (2 * step)
    slopes = (chunk.gradients * direction).sum((1, 2, 3))
    torch.testing.assert_close(slopes, expected, rtol=1e-5, atol=1e-8)


def test_two_images_in_one_batch() -> None:
    model = TinyCaptioner()
    pixels = torch.stack([model.prepare(photo(seed=s))[0] for s in (0, 1)]).double()
    both = encode(model, pixels)
    words = targets.units(model.read(CAPTION))
    cam = METHODS["grad-cam"]
    _, maps = explain_at_layer(model, both, words + words, cam, images=[0] * 6 + [1] * 6)
    for image in (0, 1):
        alone = encode(model, pixels[image : image + 1])
        _, expected = explain_at_layer(model, alone, words, cam)
        torch.testing.assert_close(maps[6 * image : 6 * image + 6], expected)


def test_outer_no_grad_and_inference_mode() -> None:
    model = TinyCaptioner()
    pixels = pixels_of(model)
    words = targets.units(model.read(CAPTION))
    _, expected = explain_at_layer(model, encode(model, pixels), words, METHODS["grad-cam"])
    for outer in (torch.no_grad(), torch.inference_mode()):
        with outer:
            inside = pixels.clone()
            _, maps = explain_at_layer(model, encode(model, inside), words, METHODS["grad-cam"])
            _, guided = explain_at_pixels(model, inside, words, METHODS["guided-backprop"])
        assert torch.equal(maps, expected)
        assert guided.abs().amax() > 0


def test_an_encode_that_writes_into_its_input() -> None:
    class Centring(TinyCaptioner):
        def encode(self, pixels: Tensor, prompts: object = None) -> FeatureMaps:
            return super().encode(pixels.sub_(0.3))

    model, plain = Centring(), TinyCaptioner()
    pixels = pixels_of(model)
    given = pixels.clone()
    for name in ("grad-cam", "guided-grad-cam"):
        found = maps_of(model, pixels, METHODS[name])
        assert torch.equal(pixels, given)
        torch.testing.assert_close(found, maps_of(plain, given - 0.3, METHODS[name]))


def test_a_reducers_arithmetic_stays_out_of_autocast() -> None:
    def by_matrices(maps: Tensor, gradients: Tensor) -> Tensor:
        return torch.einsum("tk,tkuv->tuv", gradients.mean((2, 3)), maps).relu()

    model = TinyCaptioner(dtype=torch.float32)
    pixels = pixels_of(model).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = maps_of(model, pixels, Method("by matrices", "", "layer", by_matrices))
        expected = maps_of(model, pixels, METHODS["grad-cam"])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)


def test_between_chunks_the_model_is_the_callers() -> None:
    model = TinyCaptioner()
    features = encode(model, pixels_of(model))
    model.module.train()
    torch.manual_seed(5)
    expected = torch.rand(len(asked(model)))
    torch.manual_seed(5)
    drawn = []
    for _ in seam_gradients(model, features, asked(model), memory=1):
        assert all(m.training for m in model.module.modules())
        drawn.append(torch.rand(1))
    assert torch.equal(torch.cat(drawn), expected)


def test_wrong_counts_are_refused() -> None:
    model = TinyCaptioner()
    features = encode(model, pixels_of(model))
    with pytest.raises(ValueError, match="9 targets but 1 image"):
        list(seam_gradients(model, features, asked(model), images=[0]))

    class Short(TinyCaptioner):
        def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
            return super().decode(features, prompts, wanted)[:-1]  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="expected \\(10, at least 6\\)"):
        list(seam_gradients(Short(), features, asked(model)))


@pytest.mark.filterwarnings("ignore:.*TF32")
def test_bfloat16_autocast_and_half_precision_maps_are_float32() -> None:
    model = TinyCaptioner(dtype=torch.float32)
    pixels = pixels_of(model).float()
    words = targets.units(model.read(CAPTION))
    _, exact = explain_at_layer(model, encode(model, pixels), words, METHODS["grad-cam"])
    with torch.autocast("cpu", torch.bfloat16), torch.backends.mkldnn.flags(enabled=False):
        _, maps = explain_at_layer(model, encode(model, pixels), words, METHODS["grad-cam"])
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, exact, rtol=0.2, atol=0.05 * float(exact.amax()))
    model.module.bfloat16()
    torch.set_flush_denormal(False)
    _, maps = explain_at_layer(model, encode(model, pixels.bfloat16()), words, METHODS["grad-cam"])
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, exact, rtol=0.2, atol=0.05 * float(exact.amax()))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["grad-cam-no-relu", "gradient", "guided-backprop"])
def test_tiny_gradients_in_float16(name: str, autocast: bool) -> None:
    """Log-probabilities of confident words: float16 alone would give zero, or noise."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)
        )
        pixels = torch.randn(1, 3, 16, 16)
    adapter = ModuleAdapter(net, "2", lambda net, x, _: net(x).mean((2, 3)))
    small = [targets.Target("y", (targets.Term(1e-5, None, (c,)),)) for c in range(2)]

    def maps(pixels: Tensor) -> Tensor:
        if METHODS[name].at == "pixels":
            return explain_at_pixels(adapter, pixels, small, METHODS[name])[1]
        return explain_at_layer(adapter, encode(adapter, pixels), small, METHODS[name])[1]

    exact = maps(pixels)
    if autocast:
        with torch.autocast("cpu", torch.float16):
            rough = maps(pixels)
    else:
        net.half()
        rough = maps(pixels.half())
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.02 * float(exact.abs().amax()))


def test_of_a_long_text_fewer_rows_are_decoded_first() -> None:
    """Most models read the feature maps once a token: the rows of 2,000 words would not fit."""
    model = TinyCaptioner()
    features = encode(model, pixels_of(model))

    def rows(words: int) -> int:
        text = Target("text", (Term(1.0, (0,) * words, (words - 1,)),))
        return rows_that_fit(model, features, [text], DEFAULT_MEMORY)

    assert rows(1) > rows(16) > 50 * rows(2000) > 0
    assert rows_that_fit(model, features, [], 1) == 1


@pytest.mark.parametrize("weight", [1e-3, 1.0, 300.0])
def test_gradients_in_float16_neither_underflow_nor_overflow(weight: float) -> None:
    """Of log-probabilities they are tiny, of logits they may be large, each within one model."""
    model = TinyCaptioner()
    words = targets.units(model.read(CAPTION))
    words.append(targets.whole(model.read(CAPTION)))
    words = [Target(one.name, tuple(replace(t, weight=weight) for t in one.terms)) for one in words]
    words.insert(2, Target("little", (replace(words[1].terms[0], weight=1e-4),)))
    pixels = pixels_of(model)
    (exact,) = seam_gradients(model, encode(model, pixels), words)
    model.module.half()
    (found,) = seam_gradients(model, encode(model, pixels.half()), words)
    for one, expected in zip(found.gradients, exact.gradients, strict=True):
        assert (one - expected).norm() < 0.05 * expected.norm()
