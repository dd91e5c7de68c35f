"""Any module by a layer and a scoring function: asked questions, and where its tokens lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils import ModelOutput

import vlcam
from tests.samples.tiny import photo
from vlcam.adapters.adapter import Prompt, Question
from vlcam.attribution.occlusion import Patch
from vlcam.explanation.result import Answer
from vlcam.geometry.grid import Grid, Placement
from vlcam.testing import problems

ANSWERS = ["red", "yellow", "two"]
WORDS = ["what", "colour", "dog"]
PATCH, SKIP = 8, 2


class Asked(nn.Module):
    """A CNN whose maps are modulated by the question (one word), so that they depend on it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(len(WORDS), 6)
        self.first = nn.Conv2d(3, 6, 4, stride=4)
        self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.answer = nn.Linear(8, len(ANSWERS))

    def forward(self, pixels: Tensor, questions: Tensor) -> Tensor:
        maps = self.first(pixels).relu() * self.words(questions)[:, :, None, None]
        return self.answer(self.second(maps).relu().mean((2, 3)))


def score(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    return net(pixels, torch.tensor(prompts))


def read(question: str) -> Question:
    words = question.split()
    unknown = tuple(word for word in words if word not in WORDS)
    known = [word for word in words if word in WORDS]
    if not known:
        raise ValueError(f"no word of {question!r} is known")
    return Question(question, WORDS.index(known[-1]), unknown)


def wrapped(net: nn.Module, **more: object) -> vlcam.ModuleAdapter:
    arguments = {"layer": "second", "score": score, "answers": ANSWERS, "read": read} | more
    return vlcam.wrap(net, preprocess=vlcam.Preprocess(size=(32, 32)), **arguments)  # type: ignore[arg-type]


def test_a_question_and_its_answers() -> None:
    net = Asked().train()
    model = wrapped(net)
    found = vlcam.explain(model, photo(60, 40), question="what big dog", answers=["two", "red"])
    pixels = model.prepare(photo(60, 40))[0][None]
    kept: list[Tensor] = []
    handle = net.second.register_forward_hook(lambda m, i, o: kept.append(o))
    logits = net.eval()(pixels, torch.tensor([2]))[0]
    handle.remove()
    (maps,) = kept
    for answer, own in zip(found.answers, found.maps, strict=True):
        column = ANSWERS.index(answer.text)
        (gradient,) = torch.autograd.grad(logits[column], maps, retain_graph=True)
        weights = gradient.mean((2, 3), keepdim=True)
        torch.testing.assert_close(own, (weights * maps).sum(1)[0].relu().detach())
        assert answer.logit == pytest.approx(float(logits[column].detach()))
    assert found.unknown == ("big",) and [a.text for a in found.answers] == ["two", "red"]


def test_another_question_is_seen_anew() -> None:
    model, asked = wrapped(Asked()), {}
    encoded = vlcam.look(model, photo(60, 40))
    for question in ("what", "dog"):
        asked[question] = vlcam.explain(model, encoded, question=question, answers=["two"])
    assert not torch.equal(asked["what"].maps, asked["dog"].maps)


def test_what_is_asked_nothing_has_a_question_of_its_own() -> None:
    model = wrapped(Asked(), question="what")
    found = vlcam.explain(model, photo(60, 40), answers=["red"])
    assert found.question == "what"
    with pytest.raises(ValueError, match="writes no captions: give a question"):
        vlcam.explain(wrapped(Asked()), photo(60, 40), answers=["red"])


def test_answers_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="'rad' is no answer of Asked; did you mean red"):
        vlcam.explain(wrapped(Asked()), photo(), question="what", answers=["rad"])
    both = "'rad' is no answer of Asked; .*'grean' is no answer of Asked; "
    with pytest.raises(ValueError, match=both):
        vlcam.explain(wrapped(Asked()), photo(), question="what", answers=["rad", "red", "grean"])
    for answers in ([], ["red", "red"]):
        with pytest.raises(ValueError, match="at least one, and no two alike"):
            wrapped(Asked(), answers=answers)
    with pytest.raises(ValueError, match=r"no layer 'secnod'; .*second"):
        wrapped(Asked(), layer="secnod")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"answers": "red"}, "answers is 'red', expected a list of texts"),
        ({"answers": {"red"}}, "answers is a set of 1, expected a list of texts, in order"),
        ({"answers": [1]}, "one of answers is 1, expected a text"),
        ({"answers": [None]}, "one of answers is None, expected a text"),
        ({"contrast": ("red",)}, "contrast is a tuple of 1, expected two answers"),
        ({"contrast": ("red", "blue", "red")}, "contrast is a tuple of 3, expected two answers"),
        ({"contrast": "ab"}, "contrast is 'ab', expected a list of texts"),
        ({"top": 1.5}, "top is 1.5, expected a whole number"),
        ({"top": True}, "top is True, expected a whole number"),
        ({"top": "2"}, "top is '2', expected a whole number"),
    ],
)
def test_what_is_no_list_of_answers(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        vlcam.explain(wrapped(Asked()), photo(), question="what", **asked)


class Transformer(nn.Module):
    """Two tokens of its own and patches, with a layer that returns a tuple."""

    def __init__(self, pair: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 10, PATCH, stride=PATCH)
        self.own = nn.Parameter(torch.randn(1, SKIP, 10))
        self.layer = Layer(pair)
        self.answer = nn.Linear(10, len(ANSWERS))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patches(pixels).flatten(2).transpose(1, 2)
        tokens = self.layer(torch.cat([self.own.expand(len(pixels), -1, -1), patches], 1))
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        mixed = functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.answer(mixed[:, 0])


class Layer(nn.Module):
    def __init__(self, pair: bool) -> None:
        super().__init__()
        self.linear, self.pair = nn.Linear(10, 10), pair

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, str]:
        tokens = tokens + self.linear(tokens).relu()
        return (tokens, "and more") if self.pair else tokens


@pytest.mark.parametrize("pair", [False, True])
def test_tokens_are_laid_out_on_their_grid(pair: bool) -> None:
    net = Transformer(pair).eval()
    model = vlcam.wrap(
        net,
        layer="layer",
        score=lambda net, pixels, prompts: net(pixels),
        answers=ANSWERS,
        question="what is it?",
        preprocess=vlcam.Preprocess(size=(32, 48)),
        patch=PATCH,
        skip=SKIP,
    )
    found = vlcam.explain(model, photo(60, 40), method="hirescam")
    assert found.maps.shape == (3, 4, 6) and found.grid == Grid.patches((32, 48), 8)
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, str]) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    handle = net.layer.register_forward_hook(keep)
    logits = net(model.prepare(photo(60, 40))[0][None])[0]
    handle.remove()
    best = int(logits.argmax())
    (gradient,) = torch.autograd.grad(logits[best], kept[0])
    expected = (gradient * kept[0])[0, SKIP:].sum(1).relu().view(4, 6)
    torch.testing.assert_close(found.maps[0], expected.detach())


def test_tokens_that_do_not_fit() -> None:
    def explained(**layout: int) -> None:
        model = vlcam.wrap(
            Transformer(False),
            layer="layer",
            score=lambda net, pixels, prompts: net(pixels),
            answers=ANSWERS,
            question="what is it?",
            preprocess=vlcam.Preprocess(size=(32, 48)),
            **layout,  # type: ignore[arg-type]
        )
        vlcam.explain(model, photo(60, 40))

    with pytest.raises(ValueError, match=r"expected tokens \(B, 25, K\): 1 and 4 x 6 patches"):
        explained(patch=PATCH, skip=1)
    with pytest.raises(ValueError, match=r"\(1, 26, 10\); expected a tensor \(B, K, u, v\), or"):
        explained()
    with pytest.raises(ValueError, match="no layout of tokens"):
        explained(patch=0)


def scored(change: Callable[[Tensor], Any], **more: object) -> vlcam.ModuleAdapter:
    """A model whose scores are changed by a function."""

    def changed(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Any:
        return change(30 * score(net, pixels, prompts))

    return wrapped(Asked(), score=changed, question="what", **more)


def answer(model: vlcam.ModuleAdapter, **more: Any) -> Answer:
    return vlcam.explain(model, photo(60, 40), answers=["red"], **more).answers[0]


KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "probabilities": lambda scores: scores.softmax(1),
    "log-probabilities": lambda scores: scores.log_softmax(1),
    "independent probabilities": lambda scores: scores.sigmoid(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["grad-cam", "gradient", "occlusion"])
def test_what_scores_are_is_asked(kind: str, method: str) -> None:
    given = {"patch": Patch(16, 16)} if method == "occlusion" else {}
    with pytest.raises(ValueError, match=f"gives what looks like {kind} .*say which they are"):
        answer(scored(KINDS[kind]), method=method, **given)
    assert f"looks like {kind}" in problems(scored(KINDS[kind]))[0]
    said = answer(scored(KINDS[kind], scores=kind), method=method, **given)
    plain = answer(scored(lambda scores: scores), method=method, **given)
    if kind.startswith("independent"):
        chance = torch.tensor(plain.logit).sigmoid().item()
        assert said.logit == pytest.approx(plain.logit, abs=1e-3)
        assert said.probability == pytest.approx(chance, abs=1e-4)
    else:
        assert said.probability == pytest.approx(plain.probability, abs=1e-5)
        assert math.exp(said.logit) == pytest.approx(plain.probability, abs=1e-5)
    assert problems(scored(KINDS[kind], scores=kind)) == []


def test_what_scores_are_said_to_be_is_checked() -> None:
    for kind in KINDS:
        with pytest.raises(ValueError, match=f"score gives no {kind} "):
            answer(scored(lambda scores: scores, scores=kind))
    with pytest.raises(ValueError, match="scores='probs'; expected one of: logits, log-prob"):
        scored(lambda scores: scores, scores="probs")
    with pytest.raises(ValueError, match="give answers, too"):
        scored(lambda scores: scores, answers=None, scores="logits")
    # Few logits may lie between 0 and 1 by chance; and whoever says logits is believed.
    between = torch.tensor([0.1, 0.2, 0.3])
    assert answer(scored(lambda scores: between + 0.001 * scores.abs())).logit < 1
    assert answer(scored(KINDS["probabilities"], scores="logits")).logit < 1
    alone = answer(scored(lambda scores: scores, scores="independent logits"))
    assert alone.probability == pytest.approx(torch.tensor(alone.logit).sigmoid().item())


def test_the_gradient_of_probabilities_is_that_of_their_logarithm() -> None:
    model = scored(KINDS["probabilities"], scores="probabilities")
    other = scored(KINDS["log-probabilities"], scores="log-probabilities")
    one, two = (vlcam.explain(m, photo(60, 40), method="hirescam") for m in (model, other))
    torch.testing.assert_close(one.maps, two.maps)
    assert one.target == "log-probability of each answer"
    sure = vlcam.explain(
        scored(lambda s: torch.eye(3)[:1] + 0 * s, scores="probabilities"), photo(60, 40)
    )
    assert sure.maps.isfinite().all() and [a.text for a in sure.answers][:1] == ["red"]


def test_as_many_scores_as_answers() -> None:
    for count in (2, 4):
        names = [f"answer {i}" for i in range(count)]
        model = wrapped(Asked(), answers=names, question="what")
        for asked in (None, names[:1]):
            with pytest.raises(ValueError, match=f"score gives 3 scores, answers names {count}"):
                vlcam.explain(model, photo(60, 40), answers=asked)
        (found,) = problems(model)
        assert f"score gives 3 scores, answers names {count}" in found


NO_SCORES: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "squeezed": (lambda s: s.squeeze(0), r"shape \(3,\) for 1 rows; expected \(1, S\)"),
    "in the middle": (lambda s: s[:, None], r"shape \(1, 1, 3\) for 1 rows"),
    "one number": (lambda s: s.mean(), r"shape \(\) for 1 rows"),
    "twice": (lambda s: torch.cat([s, s]), r"shape \(2, 3\) for 1 rows"),
    "tuple": (lambda s: (s, None), r"gave a tuple of 2; expected a tensor of scores \(1, S\)"),
    "list": (lambda s: s.tolist(), "gave a list of 1"),
    "dictionary": (lambda s: {"logits": s}, "gave a dict with the tensors logits"),
    "output": (lambda s: ModelOutput(logits=s), "gave a ModelOutput with the tensors logits"),
    "array": (lambda s: s.detach().numpy(), "gave a ndarray"),
    "nothing": (lambda s: None, "gave nothing"),
    "sparse": (lambda s: s.to_sparse(), "gave a sparse tensor"),
    "whole numbers": (lambda s: s.long(), "type int64; expected floating point"),
    "truths": (lambda s: s > 0, "type bool"),
    "complex": (lambda s: s.to(torch.complex64), "type complex64"),
    "not a number": (lambda s: s * float("nan"), "the score of 'red' is nan"),
    "infinite": (lambda s: s / 0, "the score of 'red' is -?inf"),
    "another": (lambda s: s * torch.tensor([1, float("nan"), 1]), "of 'yellow' is nan"),
    "asked": (lambda s: s - torch.tensor([float("inf"), 0, 0]), r"'logit\(red\)' is -inf"),
}


@pytest.mark.parametrize("name", NO_SCORES)
def test_what_is_no_scores(name: str) -> None:
    change, said = NO_SCORES[name]
    for method in ("grad-cam", "gradient", "occlusion"):
        given = {"patch": Patch(16, 16)} if method == "occlusion" else {}
        with pytest.raises(ValueError, match=said):
            answer(scored(change), method=method, **given)
    assert problems(scored(change)) != []


def test_a_gradient_that_is_no_number() -> None:
    for method in ("grad-cam", "gradient"):
        with pytest.raises(ValueError, match=r"the gradient of 'logit\(red\)' is not finite"):
            answer(scored(lambda s: (s - s).sqrt() + s), method=method)


def test_what_has_no_gradient_is_named_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"no true gradient passes detach \(test_wrap\.py:\d+\)"):
        answer(scored(lambda s: s + s.detach().sin()))


def test_scores_of_other_precision() -> None:
    plain = answer(scored(lambda s: s))
    for kind, off in ((torch.float64, 1e-6), (torch.float16, 1e-2)):
        found = answer(scored(lambda s, kind=kind: s.to(kind)))
        assert found.logit == pytest.approx(plain.logit, rel=off)
    masked = answer(scored(lambda s: s - torch.tensor([0, float("inf"), 0])))
    assert masked.logit == pytest.approx(plain.logit)


@pytest.mark.filterwarnings("ignore:.*deprecated:Warning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_scripted_modules() -> None:
    net = Transformer(False).eval()
    arguments: dict[str, Any] = {
        "score": lambda net, pixels, prompts: net(pixels),
        "answers": ANSWERS,
        "question": "what is it?",
        "preprocess": vlcam.Preprocess(size=(32, 32)),
        "patch": PATCH,
        "skip": SKIP,
    }
    traced = torch.jit.trace(net, torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"'layer' lies in a scripted part \(the whole model\)"):
        vlcam.wrap(traced, layer="layer", **arguments)
    expected = answer(vlcam.wrap(net, layer="layer", **arguments))
    net.answer = torch.jit.script(net.answer)
    assert answer(vlcam.wrap(net, layer="layer", **arguments)) == expected
    net.layer = torch.jit.trace(net.layer, torch.rand(1, 18, 10))
    for layer in ("layer", "layer.linear"):
        with pytest.raises(ValueError, match=r"lies in a scripted part \(layer\)"):
            vlcam.wrap(net, layer=layer, **arguments)


def test_other_arguments_that_are_none() -> None:
    for given, said in (
        ({"layer": nn.ReLU()}, "layer: expected its name, got a ReLU"),
        ({"score": None}, "score: expected a function, got a NoneType; it is called as"),
        ({"answers": "red"}, "answers is 'red', expected a list of texts"),
        ({"answers": set(ANSWERS)}, "answers is a set of 3, expected a list of texts, in order"),
        (
            {"answers": {"red": 2}},
            "answers is a dictionary of 1, expected a list",
        ),
        ({"answers": [1, 2, 3]}, "one of answers is 1, expected a text"),
    ):
        with pytest.raises(ValueError, match=said):
            wrapped(Asked(), **given)
    with pytest.raises(ValueError, match=r"expected an nn\.Module, got a function"):
        wrapped(score)  # type: ignore[arg-type]
    model = wrapped(Asked(), answers=(name for name in ANSWERS), question="what")
    model._preprocess = lambda photo: torch.zeros(3, 32, 32)  # type: ignore[assignment, return-value]
    with pytest.raises(ValueError, match="preprocess gave a Tensor; expected pixels"):
        answer(model)


CALLED = r", but is called as score\(module, pixels, prompts\): let it take just that"

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a score of two arguments": (
        {"score": lambda net, pixels: net},
        r"takes \(net, pixels\)" + CALLED,
    ),
    "a score of one": ({"score": lambda pixels: pixels}, r"score: it takes \(pixels\)" + CALLED),
    "a score of four": ({"score": lambda a, b, c, d: a}, r"takes \(a, b, c, d\)" + CALLED),
    "the module as its score": ({"score": Asked()}, r"takes \(pixels, questions\)" + CALLED),
    "a read of two": ({"read": lambda a, b: a}, r"read: it takes \(a, b\), .* read\(question\)"),
    "a read that is none": ({"read": {}}, "read: expected a function, got a dict"),
    "the class of preprocess": (
        {"preprocess": vlcam.Preprocess},
        r"preprocess is the class Preprocess, expected a vlcam\.Preprocess\(size=\(H, W\)\)",
    ),
    "a size as preprocess": (
        {"preprocess": (32, 32)},
        "preprocess is a tuple of 2, expected a vlc",
    ),
    "a preprocess of two": ({"preprocess": lambda a, b: a}, r"is called as preprocess\(photo\)"),
    "a question that is no text": ({"question": 3}, "question is 3, expected a text"),
    "a name that is no text": ({"name": 3}, "name is 3, expected a text"),
    "a patch that is no number": ({"patch": "16"}, "patch '16' and skip 0: .*whole numbers"),
    "a skip without a patch": ({"skip": 1}, "skip 1: goes with patch"),
    "a grid that is none": ({"grid": (7, 7)}, r"grid is a tuple of 2, expected a vlcam\.geometry"),
    "an example that is none": ({"example": [1]}, "example is a list of 1, which cannot be hashed"),
    "no layer": ({"layer": ""}, "no layer ''; known: .*answer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_at_once_with_its_cure(name: str) -> None:
    given, said = WRONG[name]
    arguments = {"layer": "second", "score": score, "answers": ANSWERS, "read": read} | given
    with pytest.raises(ValueError, match=said) as told:
        vlcam.wrap(Asked(), **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(told.value)


class Fixed(nn.Module):
    """Takes inputs of 32 x 32 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Conv2d(3, 6, 4, stride=4)
        self.fc = nn.Linear(6 * 8 * 8, len(ANSWERS))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.fc(self.cnn(pixels).relu().flatten(1))


def fixed(**more: Any) -> vlcam.ModuleAdapter:
    arguments: dict[str, Any] = {
        "layer": "cnn",
        "score": lambda net, pixels, prompts: net(pixels),
        "answers": ANSWERS,
        "question": "what is it?",
        "preprocess": vlcam.Preprocess(size=(32, 32)),
    }
    return vlcam.wrap(Fixed(), **arguments | more)


def raising(error: Exception) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise error

    return function


FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "preprocess forgotten": (
        {"preprocess": None},
        r"Fixed: score failed on pixels \(1, 3, 224, 224\) \(RuntimeError: mat1 .*\); no preprocess"
        r" was given, .*say what the module takes, preprocess=vlcam\.Preprocess\(size=\(H, W\)\)",
    ),
    "another size": (
        {"preprocess": vlcam.Preprocess(size=(64, 64))},
        r"pixels \(1, 3, 64, 64\) .*; preprocess must give the pixels that score takes",
    ),
    "a photo it cannot read": (
        {"preprocess": lambda photo: photo.shape},
        "preprocess failed on a photo, which is given as a PIL image .AttributeError",
    ),
    "pixels without their placement": (
        {"preprocess": lambda photo: torch.zeros(3, 32, 32)},
        r"gave a Tensor; expected pixels .*as vlcam\.Preprocess\(size=\(H, W\)\) gives",
    ),
    "a batch of pixels": (
        {"preprocess": lambda photo: (torch.zeros(1, 3, 4, 4), Placement.identity((40, 60)))},
        r"preprocess gave pixels \(1, 3, 4, 4\) of torch\.float32; expected floating point \(3,",
    ),
    "a score that fails": ({"score": raising(KeyError("logits"))}, "KeyError: 'logits'"),
    "an assertion of the module": ({"score": raising(AssertionError("224\n!"))}, "Error: 224 !"),
    "a ValueError of the module": ({"score": raising(ValueError("size\n224"))}, "Error: size 224"),
    "a question it cannot read": (
        {"read": raising(KeyError("what"))},
        "read failed on the question 'what is it.' .KeyError: 'what'.; it should give a prompt",
    ),
    "a prompt that is none": (
        {"read": lambda question: [1, 2]},
        "what read gives is a list of 2, which cannot be hashed; a prompt can be a tuple",
    ),
    "tokens": (
        {"layer": "fc", "score": lambda net, pixels, prompts: net(pixels)},
        r"layer fc gives \(1, 3\); expected a tensor .*: choose another layer",
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_what_fails_is_told_in_a_line_with_its_cure(name: str) -> None:
    given, said = FAILING[name]
    with pytest.raises(ValueError, match=said) as told:
        vlcam.explain(fixed(**given), photo(60, 40))
    assert "\n" not in str(told.value)


def test_what_was_not_said_is_recorded() -> None:
    pooled = vlcam.wrap(
        Asked(), layer="second", score=score, answers=ANSWERS, read=read, question="what"
    )
    assert "224 x 224" in vlcam.explain(pooled, photo(60, 40)).details["assumed"][0]
    assert "assumed" not in vlcam.explain(fixed(), photo(60, 40)).details


def test_no_memory_is_no_fault_of_the_score() -> None:
    for error in (MemoryError(), torch.OutOfMemoryError()):
        with pytest.raises(type(error)):
            vlcam.explain(fixed(score=raising(error)), photo(60, 40))


def test_a_photo_as_an_array_or_a_tensor() -> None:
    model, picture = fixed(), photo(60, 40)
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1) / 255
    plain = vlcam.explain(model, picture)
    for given in (array, tensor, tensor[None], array / 255):
        found = vlcam.explain(model, given)
        assert torch.equal(found.maps, plain.maps) and found.photo == "photo"
        assert (found.image == array).all()
    assert problems(model, photo=array) == []


def test_a_caption_of_a_classifier() -> None:
    with pytest.raises(ValueError, match=r"Fixed reads no captions: .*answers=\['red', \.\.\.\]"):
        vlcam.explain(fixed(), photo(60, 40), "a red dog")
    with pytest.raises(ValueError, match=r"Fixed writes no captions: give a question instead"):
        vlcam.explain(fixed(question=None), photo(60, 40), "a red dog")
    for asked in ({}, {"caption": "a dog"}):
        with pytest.raises(ValueError, match=r"has scores without names: give vlcam\.wrap their"):
            vlcam.explain(fixed(answers=None), photo(60, 40), **asked)
    with pytest.raises(ValueError, match=r"no VQA model; where scores have names, vlcam\.wrap"):
        vlcam.explain(fixed(answers=None), photo(60, 40), question="what")


def test_another_layer() -> None:
    model = wrapped(Asked(), question="what")
    other = vlcam.wrap(
        model.module,
        layer="first",
        score=score,
        answers=ANSWERS,
        read=read,
        question="what",
        preprocess=vlcam.Preprocess(size=(32, 32)),
    )
    encoded, expected = vlcam.look(model, photo(60, 40)), vlcam.explain(other, photo(60, 40))
    for given in (photo(60, 40), encoded):
        found = vlcam.explain(model, given, layer="first")
        assert torch.equal(found.maps, expected.maps) and found.layer == "first"
        assert found.grid == expected.grid and model.layer == "second"
    with pytest.raises(ValueError, match="no layer 'frist'; did you mean first"):
        vlcam.explain(model, encoded, layer="frist")
    with pytest.raises(ValueError, match="layer is 3, expected its name"):
        vlcam.explain(model, encoded, layer=3)  # type: ignore[arg-type]


def test_what_a_log_sigmoid_gave() -> None:
    change = functional.logsigmoid
    with pytest.raises(ValueError, match=r"independent log-probabilities .*='independent logits'"):
        answer(scored(change))
    assert "independent log-probabilities" in problems(scored(change))[0]
