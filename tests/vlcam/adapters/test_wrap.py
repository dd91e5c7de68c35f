"""Any module by a layer and a scoring function: asked questions, and where its tokens lie."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import vlcam
from tests.samples.tiny import photo
from vlcam.adapters.adapter import Prompt, Question
from vlcam.geometry.grid import Grid

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
    with pytest.raises(ValueError, match="'rad' is no answer of Asked; near: red"):
        vlcam.explain(wrapped(Asked()), photo(), question="what", answers=["rad"])
    for answers in ([], ["red", "red"]):
        with pytest.raises(ValueError, match="at least one, and no two alike"):
            wrapped(Asked(), answers=answers)
    with pytest.raises(ValueError, match=r"no layer 'secnod'; .*second"):
        wrapped(Asked(), layer="secnod")


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
