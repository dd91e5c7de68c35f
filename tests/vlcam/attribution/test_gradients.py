"""The fast path against the slow obvious one, and what it may cost."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.contract.leftovers import no_tensor_left
from tests.samples.tiny import TinyCaptioner, photo
from vlcam import ModuleAdapter
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import targets
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels, score, seam_gradients
from vlcam.attribution.methods import METHODS, Method
from vlcam.attribution.occlusion import Patch
from vlcam.geometry.grid import Grid, Placement, place

CAPTION = "a red dog on the grass"


def asked(model: TinyCaptioner) -> list[targets.Target]:
    """Words, a whole caption, a contrast of two captions' words, a negation."""
    reading, other = model.read(CAPTION), model.read("a red cat")
    words = targets.units(reading)
    cat = targets.unit(other, other.units[2])
    return [*words, targets.whole(reading), words[2] - cat, -words[1]]


def pixels_of(model: TinyCaptioner) -> Tensor:
    return model.prepare(photo())[0][None].double()


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


def test_counterfactual_is_grad_cam_of_the_negation() -> None:
    model = TinyCaptioner()
    features = encode(model, pixels_of(model))
    words = targets.units(model.read(CAPTION))
    _, against = explain_at_layer(model, features, words, METHODS["counterfactual"])
    _, negated = explain_at_layer(model, features, [-w for w in words], METHODS["grad-cam"])
    assert torch.equal(against, negated)


def test_one_encode_whatever_is_asked() -> None:
    import vlcam

    model = TinyCaptioner(dtype=torch.float32)
    encoded = vlcam.look(model, photo())
    for caption in (CAPTION, "a cat", None):
        vlcam.explain(model, encoded, caption)
    assert model.encoded == 1


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


def test_no_autograd_graph_below_the_layer() -> None:
    model = TinyCaptioner()
    model.module.requires_grad_(True)
    features = encode(model, pixels_of(model))
    assert not features.maps.requires_grad


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Every trace a library could leave in a model is looked for."""
    modules = list(module.modules())

    def state() -> dict[str, object]:
        parameters = list(module.parameters())
        return {
            "weights": [t.detach().clone() for t in (*parameters, *module.buffers())],
            "requires_grad": [t.requires_grad for t in parameters],
            "grad": [t.grad if t.grad is None else t.grad.clone() for t in parameters],
            "training": [m.training for m in modules],
            "hooks": [
                [list(v) for k, v in vars(m).items() if "_hooks" in k and v] for m in modules
            ],
            "attributes": [list(vars(m)) for m in modules],
            "random numbers": torch.get_rng_state(),
            "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            "function modes": len(torch.overrides._get_current_function_mode_stack()),
            "saved tensors' hooks": torch._C._autograd._top_saved_tensors_default_hooks(False),
            "cudnn": [
                getattr(torch.backends.cudnn, flag)
                for flag in ("enabled", "benchmark", "deterministic")
            ],
        }

    def same(a: object, b: object) -> bool:
        if isinstance(a, list | tuple):
            assert isinstance(b, list | tuple)
            return len(a) == len(b) and all(map(same, a, b))
        return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)  # type: ignore[arg-type]

    before = state()
    try:
        yield
    finally:
        after = state()
        assert [key for key in before if not same(before[key], after[key])] == []


class Exploding(TinyCaptioner):
    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        torch.rand(1)  # a model may draw random numbers
        raise KeyboardInterrupt


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.at != "attention"])
def test_nothing_of_the_model_is_touched(name: str, frozen: bool) -> None:
    import vlcam

    for kind in (TinyCaptioner, Exploding):
        model = kind(dtype=torch.float32)
        model.module.requires_grad_(not frozen)
        model.module.train()
        model.module.before[1].eval()  # a BatchNorm kept fixed on purpose
        how: Any = {"method": name}
        if METHODS[name].at == "patches":
            how["patch"] = Patch(12, 10)
        with unchanged(model.module):
            if kind is Exploding:
                with pytest.raises(KeyboardInterrupt):
                    vlcam.explain(model, photo(), CAPTION, **how)
            else:
                vlcam.explain(model, photo(), CAPTION, **how)
                with pytest.raises(ValueError, match="zebra"):
                    vlcam.explain(model, photo(), "zebra", **how)


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


def test_parameters_made_in_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        model = TinyCaptioner()
    with pytest.raises(ValueError, match="inference"):
        encode(model, pixels_of(model))


def test_a_score_without_gradient_is_refused() -> None:
    class Detached(TinyCaptioner):
        def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
            return super().teacher_force(FeatureMaps(features.maps.detach()), tokens)

    class Elsewhere(TinyCaptioner):
        def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
            return super().teacher_force(FeatureMaps(torch.ones_like(features.maps)), tokens)

    for kind in (Detached, Elsewhere):
        model = kind()
        model.module.requires_grad_(False)
        with pytest.raises(ValueError, match=r"does not depend on layer before\.3"):
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
    with pytest.raises(RuntimeError, match="inplace"):
        explain_at_pixels(model, pixels_of(model), asked(model), METHODS["gradient"])


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


def test_two_threads_one_model() -> None:
    from concurrent.futures import ThreadPoolExecutor

    import vlcam

    model = TinyCaptioner(dtype=torch.float32)
    model.module.train()
    names = ["grad-cam", "guided-grad-cam", "gradient", "deconv", "layercam"] * 4
    alone = [vlcam.explain(model, photo(), CAPTION, method=name).maps for name in names]
    with unchanged(model.module), ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda n: vlcam.explain(model, photo(), CAPTION, method=n).maps, names)
        for expected, maps in zip(alone, together, strict=True):
            torch.testing.assert_close(maps, expected)


def test_no_live_tensors_after_many_calls() -> None:
    import vlcam

    model = TinyCaptioner(dtype=torch.float32)

    names = ["grad-cam", "guided-grad-cam", "deconv", "layercam"]
    for name in names:
        vlcam.explain(model, photo(), CAPTION, method=name)
    with no_tensor_left():
        for name in names * 25:
            explanation = vlcam.explain(model, photo(), CAPTION, method=name)
        kept = weakref.ref(explanation)
        del explanation
        assert kept() is None


def test_cam_equals_grad_cam_on_a_pooled_linear_model() -> None:
    """Section 3.1: with global average pooling and a linear layer, up to the constant 1 / Z."""

    class Pooled(TinyCaptioner):
        def __init__(self) -> None:
            super().__init__()
            self.module.logits = nn.Linear(8, 9, dtype=torch.float64)

        def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
            return self.module.logits(features.maps.mean((2, 3)))

    model = Pooled()
    features = encode(model, pixels_of(model))
    logits = [targets.Target(f"class {c}", (targets.Term(1.0, (), (c,)),)) for c in range(9)]
    _, maps = explain_at_layer(model, features, logits, METHODS["grad-cam"])
    cam = torch.einsum("ck,kuv->cuv", model.module.logits.weight, features.maps[0]).relu()
    cells = features.maps.shape[2] * features.maps.shape[3]
    torch.testing.assert_close(maps, cam / cells)


def test_by_hand() -> None:
    """One channel of 2 x 2 cells; the score is its weighted sum: weights are known."""

    class Hand(TinyCaptioner):
        def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
            weights = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]], dtype=torch.float64)
            return (features.maps * weights).sum((1, 2, 3))[:, None]

        def grid(self, input_size: tuple[int, int]) -> Grid:
            return Grid.pixels((2, 2))

    features = FeatureMaps(torch.tensor([[[[1.0, -1.0], [2.0, 0.5]]]], dtype=torch.float64))
    target = [targets.Target("y", (targets.Term(1.0, (), (0,)),))]
    expected = {
        "grad-cam": [[3.0, 0.0], [6.0, 1.5]],
        "grad-cam-no-relu": [[3.0, -3.0], [6.0, 1.5]],
        "grad-cam-max-pool": [[6.0, 0.0], [12.0, 3.0]],
        "grad-cam-abs": [[3.0, 0.0], [6.0, 1.5]],
        "counterfactual": [[0.0, 3.0], [0.0, 0.0]],
        "hirescam": [[1.0, 0.0], [6.0, 3.0]],
        "layercam": [[1.0, 0.0], [6.0, 3.0]],
        "xgrad-cam": [[3.2, 0.0], [6.4, 1.6]],  # weights: (1 - 2 + 6 + 3) / 2.5 = 3.2
    }
    for name, cells in expected.items():
        values, maps = explain_at_layer(Hand(), features, target, METHODS[name])
        assert values.tolist() == [1 - 2 + 6 + 3]
        torch.testing.assert_close(maps[0], torch.tensor(cells, dtype=maps.dtype), msg=name)
