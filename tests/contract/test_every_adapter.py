"""What must stay true of every method with every adapter, whatever lies behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from captioning.language.captioner import Captioner
from tests.samples.adapters import ADAPTERS, CAPTIONED
from tests.samples.families.case import Case
from tests.tools.leftovers import no_tensor_left
from tests.tools.untouched import unchanged
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.backward_rules import BackwardRule
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels, score, seam_gradients
from vlcam.attribution.incremental import incremental
from vlcam.attribution.methods import METHODS, Method
from vlcam.attribution.occlusion import Patch, occlusion_maps
from vlcam.attribution.targets import Target, Term
from vlcam.geometry.grid import Placement, place
from vlcam.models import families

SOME = ("grad-cam", "counterfactual", "grad-cam-guided", "gradient", "guided-grad-cam", "deconv")
"""Methods of every kind: at the layer and at the pixels, with and without a rule."""

PATCH = Patch(12, 10, 0.5)


@pytest.fixture(scope="module", params=ADAPTERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return ADAPTERS[request.param](tmp_path_factory.mktemp("model"))


@pytest.fixture
def case(made: Case) -> Iterator[Case]:
    """Before each test in the same state, whatever the test before it did."""
    for parameter in made.adapter.module.double().eval().requires_grad_(True).parameters():
        parameter.grad = None
    yield made


def explained(case: Case, method: Method, memory: int = 2**30) -> tuple[Tensor, Tensor]:
    if method.at == "pixels":
        return explain_at_pixels(case.adapter, case.pixels, case.asked(), method, memory=memory)
    if method.at == "patches":
        encode_covered, _ = incremental(case.adapter, case.pixels, PATCH)
        batch = min(memory, 32)
        return occlusion_maps(
            case.adapter, case.pixels, case.asked(), PATCH, batch=batch, encode=encode_covered
        )[:2]
    features = encode(case.adapter, case.pixels, case.prompts)
    return explain_at_layer(case.adapter, features, case.asked(), method, memory=memory)


def refuses(case: Case, name: str) -> bool:
    """Whether the model has no maps of the method's kind, and says so."""
    if case.adapter.sees_pixels or METHODS[name].at == "layer":
        return False
    with pytest.raises(ValueError, match="not fed pixels"):
        explained(case, METHODS[name])
    return True


def slow_value(case: Case, target: Target, features: FeatureMaps) -> Tensor:
    """Each term by a decode of one row."""
    value = torch.zeros((), dtype=torch.float64)
    for term in target.terms:
        rest = {name: tensor.clone() for name, tensor in features.rest.items()}
        one = FeatureMaps(features.maps.clone(), rest)
        scores = case.adapter.decode(one, [term.prompt])
        value = value + term.weight * scores[0, list(term.scores)].sum()
    return value


class Slow:
    """One target at a time, by a graph of its own from the layer or from the pixels.

    What several methods need of these is computed for the first of them only.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.adapter, self.asked = case, case.adapter, case.asked()
        self.size = (case.pixels.shape[2], case.pixels.shape[3])
        self.at_layer = cache(self._at_layer)
        self.at_pixels = cache(self._at_pixels)

    def maps(self, method: Method) -> list[tuple[Tensor, Tensor]]:
        """Each target's value and map."""
        if method.at == "patches":
            return self.drops()
        at_layer = self.at_layer(method.rule if method.at == "layer" else None)
        cams = [method.reduce(m, g) if method.reduce else None for _, m, g in at_layer]
        if method.at == "layer":
            return [(value, cam[0]) for (value, *_), cam in zip(at_layer, cams, strict=True)]
        found = []
        for (value, *_), cam, one in zip(at_layer, cams, self.at_pixels(method.rule), strict=True):
            if cam is not None:
                grid = self.adapter.grid(self.size)
                one = one * place(cam, grid, Placement.identity(self.size))[0]
            found.append((value, one))
        return found

    def _at_layer(self, rule: str | None) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Each target's value, feature maps and gradient."""
        return [self._gradient(target, rule) for target in self.asked]

    def _gradient(self, target: Target, rule: str | None) -> tuple[Tensor, Tensor, Tensor]:
        features = self.adapter.encode(self.case.pixels.clone(), self.case.prompts)
        leaf = features.maps.detach().requires_grad_()
        with BackwardRule(rule) if rule else nullcontext():
            value = slow_value(self.case, target, FeatureMaps(leaf, features.rest))
        return value.detach(), leaf.detach(), torch.autograd.grad(value, leaf)[0]

    def _at_pixels(self, rule: str | None) -> list[Tensor]:
        """The largest of each target's gradient's three channels."""
        found = []
        for target in self.asked:
            leaf = self.case.pixels.clone().requires_grad_()
            with BackwardRule(rule) if rule else nullcontext():
                features = self.adapter.encode(leaf.clone(), self.case.prompts)
                value = slow_value(self.case, target, features)
            found.append(torch.autograd.grad(value, leaf)[0][0].abs().amax(0))
        return found

    def drops(self) -> list[tuple[Tensor, Tensor]]:
        """One patch at a time, through the whole CNN."""
        pixels, prompts = self.case.pixels, self.case.prompts

        def values(pixels: Tensor) -> Tensor:
            features = self.adapter.encode(pixels, prompts)
            return torch.stack([slow_value(self.case, target, features) for target in self.asked])

        with torch.no_grad():
            whole = values(pixels.clone())
            rows, columns = PATCH.grid(self.size).size
            drops = torch.zeros(len(self.asked), rows, columns, dtype=torch.float64)
            for i in range(rows):
                for j in range(columns):
                    covered = pixels.clone()
                    covered[:, :, 10 * i : 10 * i + 12, 10 * j : 10 * j + 12] = 0.5
                    drops[:, i, j] = whole - values(covered)
        return list(zip(whole, drops, strict=True))


@pytest.fixture(scope="module")
def slow(made: Case) -> Slow:
    return Slow(made)


def test_the_same_model_at_a_layer(case: Case) -> None:
    """A copy of the adapter around the same module, cut anew."""
    adapter = case.adapter
    before = dict(vars(adapter))
    again = adapter.at_layer(adapter.layer)
    assert again is not adapter and again.module is adapter.module and again.layer == adapter.layer
    others = [layer for layer in adapter.layers if layer != adapter.layer]
    for layer in others[:1]:
        other = adapter.at_layer(layer)
        features = encode(other, case.pixels, case.prompts)
        assert other.layer == layer and len(other.decode(features, [case.long.prompt])) == 1
    with pytest.raises(ValueError, match="no such layer"):
        adapter.at_layer("no such layer")
    assert vars(adapter).keys() == before.keys()
    assert all(vars(adapter)[name] is before[name] for name in before)


def test_every_registered_family_is_tested() -> None:
    assert {family.name for family in families()} <= set(ADAPTERS)


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.at != "attention"])
def test_batched_equals_slow(case: Case, slow: Slow, name: str) -> None:
    if refuses(case, name):
        return
    expected_of_each = slow.maps(METHODS[name])
    for memory in (1, 2**30) if name in SOME else (2**30,):  # chunks are cut before any reducer
        values, maps = explained(case, METHODS[name], memory)
        assert values.dtype == maps.dtype == torch.float64
        torch.testing.assert_close(values, torch.stack([value for value, _ in expected_of_each]))
        for found, (_, expected) in zip(maps, expected_of_each, strict=True):
            scale = float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11 * scale)
    assert maps.abs().amax() > 0


def test_gradients_by_finite_differences(case: Case) -> None:
    features = encode(case.adapter, case.pixels, case.prompts)
    random = torch.Generator().manual_seed(1)
    direction = torch.randn(features.maps.shape, generator=random, dtype=torch.float64)
    step = 1e-6 * float(features.maps.abs().mean())
    ahead, behind = (
        score(
            case.adapter,
            FeatureMaps(features.maps + sign * direction, features.rest),
            case.asked(),
        )
        for sign in (step, -step)
    )
    (chunk,) = seam_gradients(case.adapter, features, case.asked())
    slopes = (chunk.gradients * direction).sum((1, 2, 3))
    torch.testing.assert_close(slopes, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(chunk.scores, score(case.adapter, features, case.asked()))


@pytest.mark.parametrize("name", SOME)
def test_one_pass_of_the_cnn_whatever_is_asked(case: Case, name: str) -> None:
    """Guided methods too share one forward pass. A module without a seam pays one more a row."""
    adapter, method = case.adapter, METHODS[name]
    if refuses(case, name):
        return
    size = (case.pixels.shape[2], case.pixels.shape[3])
    adapter.cells(case.pixels, Placement.identity(size))
    first = case.eye or next(m for m in adapter.module.modules() if isinstance(m, nn.Conv2d))
    passed: list[int] = []
    handle = first.register_forward_hook(
        lambda _, inputs, __: passed.append(0 if inputs[0].is_meta else len(inputs[0]))
    )
    explained(case, method)
    handle.remove()
    rows = sum(len(target.terms) for target in case.asked())
    passes = 1 + (rows if type(adapter).__name__ == "ModuleAdapter" else 0)
    assert sum(passed) == passes * case.eye_rows


class _Breaks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        return scores.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        torch.rand(1)
        raise ZeroDivisionError("on the way back")


def _raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        torch.rand(1)  # a model may draw random numbers
        raise error

    return fail


FAILURES = ("none", "target", "encode", "decode", "interrupt", "backward", "reduce")


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", ["grad-cam-guided", "guided-grad-cam"])
def test_nothing_is_touched(
    case: Case, name: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, method, asked = case.adapter, METHODS[name], case.asked()
    if refuses(case, name):
        return
    features = encode(adapter, case.pixels, case.prompts)
    given = [case.pixels, features.maps, *features.rest.values()]
    before = [tensor.clone() for tensor in given]
    modules = list(adapter.module.modules())
    parameters = list(adapter.module.parameters())
    adapter.module.train()
    modules[-1].eval()
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    handle = modules[-1].register_forward_hook(lambda *_: None)
    expected: Any = nullcontext()
    if failure == "target":
        asked = [*asked, Target("beyond", (Term(1.0, case.long.prompt, (99,)),))]
        expected = pytest.raises(ValueError, match="at least 100")
    elif failure in ("encode", "decode"):
        monkeypatch.setattr(adapter, failure, _raising(RuntimeError("half-way")))
        expected = pytest.raises(RuntimeError, match="half-way")
    elif failure == "interrupt":
        monkeypatch.setattr(adapter, "decode", _raising(KeyboardInterrupt()))
        expected = pytest.raises(KeyboardInterrupt)
    elif failure == "backward":
        decode = adapter.decode
        monkeypatch.setattr(adapter, "decode", lambda *args: _Breaks.apply(decode(*args)))
        expected = pytest.raises(ZeroDivisionError)
    elif failure == "reduce":
        method = Method("broken", "", method.at, lambda maps, _: maps[99], method.rule)
        expected = pytest.raises(IndexError)
    with unchanged(adapter.module), expected:
        if method.at == "layer":
            if failure == "encode":
                encode(adapter, case.pixels, case.prompts)
            explain_at_layer(adapter, features, asked, method)
        else:
            explain_at_pixels(adapter, case.pixels, asked, method)
    handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert not any(tensor.requires_grad for tensor in given)


@pytest.mark.parametrize("name", SOME)
def test_frozen_or_under_no_grad_or_inference_mode(case: Case, name: str) -> None:
    if refuses(case, name):
        return
    case.adapter.module.requires_grad_(True)
    _, expected = explained(case, METHODS[name])
    case.adapter.module.requires_grad_(False)
    for outer in (nullcontext(), torch.no_grad(), torch.inference_mode()):
        with outer:
            _, maps = explained(case, METHODS[name])
        torch.testing.assert_close(maps, expected, rtol=1e-10, atol=0)
    with torch.inference_mode():
        pixels = case.pixels.clone()
    _, maps = explained(Case(case.adapter, pixels, case.long, case.short), METHODS[name])
    torch.testing.assert_close(maps, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", SOME)
def test_autocast(case: Case, name: str) -> None:
    """Near the exact maps; and the map's own arithmetic stays out of it."""
    if refuses(case, name):
        return
    case.adapter.module.float()
    single = Case(case.adapter, case.pixels.float(), case.long, case.short)
    method = METHODS[name]
    _, exact = explained(single, method)
    with torch.autocast("cpu", torch.bfloat16):
        values, maps = explained(single, method)
        if name == "guided-grad-cam":
            _, guided = explained(single, METHODS["guided-backprop"])
            _, cam = explained(single, METHODS["grad-cam"])
    assert values.dtype == maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert (maps / maps.norm() * exact / exact.norm()).sum() > 0.97  # the cosine
    if name == "guided-grad-cam":
        size = (case.pixels.shape[2], case.pixels.shape[3])
        factor = place(cam, case.adapter.grid(size), Placement.identity(size))
        torch.testing.assert_close(maps, guided * factor, rtol=1e-5, atol=1e-12)


def test_threads_share_a_model(case: Case) -> None:
    case.adapter.module.train()
    alone = {name: explained(case, METHODS[name]) for name in SOME if not refuses(case, name)}
    names = [*alone] * 3
    with unchanged(case.adapter.module), ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda name: explained(case, METHODS[name]), names)
        for name, found in zip(names, together, strict=True):
            torch.testing.assert_close(found, alone[name], rtol=1e-10, atol=1e-15, msg=name)


def test_pixels_are_written_to_only_where_that_is_said(case: Case) -> None:
    given, version = case.pixels.clone(), case.pixels._version
    if not case.adapter.writes_pixels:
        with torch.no_grad():
            case.adapter.encode(case.pixels, case.prompts)
    encode(case.adapter, case.pixels, case.prompts)
    assert case.pixels._version == version and torch.equal(case.pixels, given)


def test_no_tensor_lives_on(case: Case) -> None:
    some = [name for name in SOME if not refuses(case, name)]
    for name in some:
        explained(case, METHODS[name])
    with no_tensor_left():
        for name in some * 2:
            explained(case, METHODS[name])


def kept_bytes(case: Case, features: FeatureMaps, rows: int) -> int:
    """Bytes that autograd keeps for the backward pass through so many rows of decode."""
    storages = {p.untyped_storage().data_ptr(): 0 for p in case.adapter.module.parameters()}
    kept = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)  # so that no two share an address
        storage = tensor.untyped_storage()
        storages.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    some = features.rows(torch.zeros(rows, dtype=torch.long))
    leaf = some.maps.requires_grad_()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        case.adapter.decode(
            FeatureMaps(leaf.clone(), some.rest, some.image), [case.long.prompt] * rows
        ).sum()
    return sum(storages.values())


def test_memory_is_bounded(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of rows, not of targets: a target of many terms takes the room of many."""
    features, method = encode(case.adapter, case.pixels, case.prompts), METHODS["layercam"]
    word, *others = case.asked()[:4]
    many = Target("many", tuple(term for t in [word, *others] for term in t.terms))
    asked = [*case.asked(), *[word] * 8, *[many] * 4]
    two, three = (kept_bytes(case, features, rows) for rows in (2, 3))
    memory = two + 3 * (three - two)  # five rows, what they share included
    _, expected = explain_at_layer(case.adapter, features, asked, method)
    decode, chunks = case.adapter.decode, []

    def counting(some: FeatureMaps, *arguments: Any) -> Tensor:
        chunks.append(len(some.maps))
        return decode(some, *arguments)

    monkeypatch.setattr(case.adapter, "decode", counting)
    _, maps = explain_at_layer(case.adapter, features, asked, method, memory=memory)
    torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-14)
    assert sum(chunks) == sum(len(target.terms) for target in asked)
    # The first chunk is a guess, before anything is measured.
    assert max(chunks[1:]) <= memory / (three - two)
    assert 1 < max(chunks[1:]) < len(asked)
    chunks.clear()
    explain_at_layer(case.adapter, features, asked, method)
    assert len(chunks) == 1


@pytest.mark.parametrize("made", CAPTIONED, indirect=True)
def test_padding_changes_nothing(case: Case) -> None:
    """A short caption is scored beside a long one as it is alone."""
    features = encode(case.adapter, case.pixels, case.prompts).rows(torch.tensor([0, 0, 0]))
    prompts = [case.short.prompt, case.long.prompt, case.short.prompt]
    length = len(case.short.prompt)  # type: ignore[arg-type]
    alone = case.adapter.decode(
        encode(case.adapter, case.pixels, case.prompts), [case.short.prompt]
    )
    together = case.adapter.decode(features, prompts)
    assert together.shape[1] > length
    for row in (0, 2):
        torch.testing.assert_close(together[row, :length], alone[0])


@pytest.mark.parametrize("made", CAPTIONED, indirect=True)
def test_a_word_is_scored_after_those_before_it_alone(case: Case) -> None:
    """Step l predicts token l from the image and the tokens before l: not one off."""
    *start, last = case.long.prompt  # type: ignore[misc]
    end, first = tuple(case.short.prompt)[-1], start[1]  # type: ignore[arg-type]
    assert end != last and first != start[0]
    prompts = [(*start, last), (*start, end), (first, *start[1:], last)]
    features = encode(case.adapter, case.pixels, case.prompts).rows(torch.tensor([0, 0, 0]))
    scores = case.adapter.decode(features, prompts)
    torch.testing.assert_close(scores[0, :-1], scores[1, :-1])
    assert (scores[0] - scores[2]).abs().min() > 1e-9  # all of them have seen the first
    assert (scores[0, -1] - scores[1, -1]).abs() > 1e-9
    every = [(word,) for word in range(1, 7)]
    rows = encode(case.adapter, case.pixels, case.prompts).rows(torch.zeros(6, dtype=torch.long))
    assert case.adapter.decode(rows, every).exp().sum() < 1  # of one distribution


@pytest.mark.parametrize("made", sorted(set(CAPTIONED) - {"module"}), indirect=True)
def test_a_caption_of_its_own_leaves_the_feature_maps_alone(case: Case) -> None:
    assert isinstance(case.adapter, Captioner)
    features = encode(case.adapter, case.pixels, case.prompts)
    before = features.maps.clone()
    with torch.no_grad():
        case.adapter.write(features)
    assert torch.equal(features.maps, before)
