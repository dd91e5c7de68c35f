"""Methods that follow attention, against transformers' own attention and the papers' equations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    SwinConfig,
    SwinModel,
)

import captioning
import vlcam
from tests.samples import pretrained
from tests.samples.adapters import ADAPTERS
from tests.samples.attention import blip_vqa, encoder_decoder
from tests.samples.captioning import blip
from tests.samples.families.case import Case
from tests.samples.tiny import TinyCaptioner, photo
from tests.samples.vqa import lxmert, vilt
from tests.tools.untouched import unchanged
from vlcam.attribution import targets
from vlcam.attribution.attention import RecordAttention, explain_by_attention
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import score
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target
from vlcam.geometry.grid import Placement
from vlcam.models import families

ROLLOUT, RELEVANCE = (METHODS[f"attention-{name}"] for name in ("rollout", "relevance"))

# --- the equations, spelled out: R of streams is a dictionary, Ā of a matrix with its gradient


def averaged(attention: Tensor, gradient: Tensor | None) -> Tensor:
    """Eq. 5, head by head; without a gradient the plain mean."""
    total = torch.zeros_like(attention[0])
    for head in range(len(attention)):
        if gradient is None:
            total += attention[head]
        else:
            total += (attention[head] * gradient[head]).clamp(min=0)
    return total / len(attention)


def rolled(layers: Sequence[Tensor]) -> Tensor:
    product = torch.eye(layers[0].shape[1], dtype=layers[0].dtype)
    for layer in layers:
        residual = torch.eye(layer.shape[1], dtype=layer.dtype)
        product = (0.5 * averaged(layer, None) + 0.5 * residual) @ product
    return product


def shares(relevance: Tensor) -> Tensor:
    """Eq. 8 and 9, row by row."""
    result = torch.eye(len(relevance), dtype=relevance.dtype)
    rest = relevance - result
    for row in range(len(rest)):
        if float(rest[row].sum()) > 0:
            result[row] += rest[row] / rest[row].sum()
    return result


def alone(layers: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Eq. 6 of one stream."""
    relevance = torch.eye(layers[0].shape[1], dtype=layers[0].dtype)
    for layer, gradient in zip(layers, gradients, strict=True):
        relevance = relevance + averaged(layer, gradient) @ relevance
    return relevance


def decoded(
    layers: Sequence[tuple[Tensor, Tensor]], gradients: Sequence[Tensor], encoded: Tensor
) -> tuple[Tensor, Tensor]:
    """Eq. 6 to 10 of a decoder's layers (at itself, at what was encoded): R^ss and R^sq."""
    own = torch.eye(layers[0][0].shape[1], dtype=encoded.dtype)
    across = torch.zeros(len(own), len(encoded), dtype=encoded.dtype)
    found = iter(gradients)
    for self_attention, cross_attention in layers:
        mean = averaged(self_attention, next(found))
        own, across = own + mean @ own, across + mean @ across
        mean = averaged(cross_attention, next(found))
        across = across + shares(own).T @ mean @ shares(encoded)
    return own, across


def differentiated(value: Tensor, attention: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(value, attention, retain_graph=True, allow_unused=True)
    return [
        (torch.zeros_like(a) if g is None else g)[0] for a, g in zip(attention, found, strict=True)
    ]


def plain(layers: Sequence[Tensor]) -> list[Tensor]:
    return [layer.detach()[0] for layer in layers]


CAPTION, QUESTION = "a photographers dogs running", "a photo of dogs"


@pytest.fixture(params=["blip", "vision-encoder-decoder"])
def captioner(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    make = blip.save if request.param == "blip" else encoder_decoder
    model: Any = vlcam.load(make(tmp_path / request.param))
    model.module.double()
    return model


def caption_attention(
    model: Any, pixels: Tensor, tokens: Sequence[int]
) -> tuple[Tensor, list[Tensor], list[tuple[Tensor, Tensor]]]:
    """log p of each token, the encoder's attention, the decoder's, by transformers itself."""
    ids = torch.tensor([[5, *tokens]])[:, :-1]
    module = model.module.requires_grad_(True)
    module.set_attn_implementation("eager")
    if hasattr(module, "vision_model"):
        seen = module.vision_model(pixels, output_attentions=True)
        read = module.text_decoder.bert(
            input_ids=ids, encoder_hidden_states=seen.last_hidden_state, is_decoder=True,
            output_attentions=True, use_cache=False,
        )  # fmt: skip
        logits, looked = module.text_decoder.cls(read.last_hidden_state), seen.attentions
        layers = zip(read.attentions, read.cross_attentions, strict=True)
    else:
        found = module(
            pixel_values=pixels, decoder_input_ids=ids, output_attentions=True, use_cache=False
        )
        logits, looked = found.logits, found.encoder_attentions
        layers = zip(found.decoder_attentions, found.cross_attentions, strict=True)
    scores = logits[0].log_softmax(-1)[range(len(tokens)), list(tokens)]
    return scores, list(looked), list(layers)


def test_words_of_captions(captioner: Any) -> None:
    reading = captioner.read(CAPTION)
    pixels = captioner.prepare(photo(50, 40))[0][None].double()
    asked = [*targets.units(reading), targets.whole(reading)]
    methods = [ROLLOUT, RELEVANCE]
    scores, maps = explain_by_attention(captioner, pixels, asked, methods, cells=(4, 4))
    again, encoder, decoder = caption_attention(captioner, pixels, reading.prompt)
    every = [*encoder, *(each for layer in decoder for each in layer)]
    expected = rolled(plain(encoder))[0, 1:].reshape(4, 4)
    for row, target in enumerate(asked):
        columns = list(target.terms[0].scores)
        value = again[columns].sum()
        torch.testing.assert_close(scores[row], value.detach())
        torch.testing.assert_close(maps[0][row], expected)
        gradients = differentiated(value, every)
        seen = alone(plain(encoder), gradients[: len(encoder)])
        layers = [(own.detach()[0], cross.detach()[0]) for own, cross in decoder]
        _, across = decoded(layers, gradients[len(encoder) :], seen)
        relevance = across[columns].sum(0)[1:].reshape(4, 4)
        torch.testing.assert_close(maps[1][row], relevance)
        assert relevance.amax() > 0
    assert not torch.allclose(maps[1][0], maps[1][1])


def test_answers_of_a_single_stream(tmp_path: Path) -> None:
    model: Any = vlcam.load(vilt.save(tmp_path / "vilt"))
    model.module.double().requires_grad_(True)
    question = model.understand(QUESTION)
    asked = targets.units(model.read(question), "logit")
    asked = [*asked, asked[0] - asked[2]]
    pixels = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    scores, maps = explain_by_attention(model, pixels, asked, [ROLLOUT, RELEVANCE], cells=(4, 4))
    # transformers shuffles the patches: where each one came from is seen by what it draws.
    torch.manual_seed(0)
    drawn: list[Tensor] = []
    shuffle = torch.multinomial

    def multinomial(*args: Any, **more: Any) -> Tensor:
        drawn.append(shuffle(*args, **more))
        return drawn[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "multinomial", multinomial)
        found = model.module(
            input_ids=torch.tensor([question.prompt]), pixel_values=pixels,
            pixel_mask=torch.ones(1, 32, 32, dtype=torch.long), output_attentions=True,
        )  # fmt: skip
    first = len(question.prompt) + 1
    order = drawn[0].flatten()
    assert sorted(order.tolist()) == list(range(16))

    def laid_out(row: Tensor) -> Tensor:
        result = torch.zeros(16, dtype=torch.float64)
        result[order] = row[first:]
        return result.reshape(4, 4)

    layers = list(found.attentions)
    values = [*found.logits[0], found.logits[0, 0] - found.logits[0, 2]]
    for row, value in enumerate(values):
        torch.testing.assert_close(scores[row], value.detach())
        torch.testing.assert_close(maps[0][row], laid_out(rolled(plain(layers))[0]))
        expected = alone(plain(layers), differentiated(value, layers))[0]
        torch.testing.assert_close(maps[1][row], laid_out(expected))


def test_answers_written_in_the_light_of_a_question(tmp_path: Path) -> None:
    """Three streams: the answer's tokens look at the question's, and those at the photo's."""
    model: Any = vlcam.load(blip_vqa(tmp_path / "blip-vqa"))
    module = model.module.double().requires_grad_(True)
    question = model.understand(QUESTION)
    reading = model.read_answer(question, "dogs running")
    pixels = model.prepare(photo(50, 40))[0][None].double()
    asked = targets.units(reading)
    scores, (maps,) = explain_by_attention(model, pixels, asked, [RELEVANCE], cells=(4, 4))
    seen = module.vision_model(pixels, output_attentions=True)
    read = module.text_encoder(
        input_ids=torch.tensor([question.prompt]), output_attentions=True,
        encoder_hidden_states=seen.last_hidden_state,
    )  # fmt: skip
    tokens = list(reading.prompt.answer)
    said = module.text_decoder.bert(
        input_ids=torch.tensor([[5, *tokens[:-1]]]), is_decoder=True, use_cache=False,
        encoder_hidden_states=read.last_hidden_state, output_attentions=True,
    )  # fmt: skip
    logits = module.text_decoder.cls(said.last_hidden_state)[0].log_softmax(-1)
    pairs = [
        [
            each
            for layer in zip(some.attentions, some.cross_attentions, strict=True)
            for each in layer
        ]
        for some in (read, said)
    ]
    every = [*seen.attentions, *pairs[0], *pairs[1]]
    for row, target in enumerate(asked):
        columns = list(target.terms[0].scores)
        value = logits[columns, [tokens[c] for c in columns]].sum()
        torch.testing.assert_close(scores[row], value.detach())
        gradients = iter(differentiated(value, every))
        of_photo = alone(plain(seen.attentions), [next(gradients) for _ in seen.attentions])
        layers = list(zip(*[iter(plain(pairs[0]))] * 2, strict=True))
        own, across = decoded(layers, [next(gradients) for _ in pairs[0]], of_photo)
        answer = torch.eye(len(tokens), dtype=torch.float64)
        at_photo = torch.zeros(len(tokens), len(of_photo), dtype=torch.float64)
        found = iter(plain(pairs[1]))
        for _ in range(2):
            mean = averaged(next(found), next(gradients))
            answer, at_photo = answer + mean @ answer, at_photo + mean @ at_photo
            at_photo = at_photo + averaged(next(found), next(gradients)) @ across
        expected = at_photo[columns].sum(0)[1:].reshape(4, 4)
        torch.testing.assert_close(maps[row], expected)
        assert expected.amax() > 0 and own.shape == (len(question.prompt),) * 2


def test_answers_of_two_streams_that_look_at_each_other(tmp_path: Path) -> None:
    model: Any = vlcam.load(lxmert.save(tmp_path / "lxmert"))
    model.module.double().requires_grad_(True)
    question, found = model.understand(QUESTION), lxmert.regions()
    asked = targets.units(model.read(question), "logit")
    pixels = model.prepare_regions(pretrained.photo(), found)[0][None].double()
    scores, (maps,) = explain_by_attention(model, pixels, asked, [RELEVANCE], cells=(1, 6))
    with RecordAttention() as kept:  # transformers gives one of the two looks at each other alone
        logits = model.module(
            input_ids=torch.tensor([question.prompt]), visual_feats=pixels[:, 0, :, :-4],
            visual_pos=pixels[:, 0, :, -4:],
        ).question_answering_score[0]  # fmt: skip
    torch.testing.assert_close(scores, logits.detach())
    kinds = ["q"] * 2 + ["p"] * 2 + ["qp", "pq", "q", "p"] * 2  # transformers reads first
    for row, logit in enumerate(logits):
        gradients = differentiated(logit, kept.seen)
        means = map(averaged, plain(kept.seen), gradients)
        n, m = len(question.prompt), 6
        q, p = torch.eye(n, dtype=torch.float64), torch.eye(m, dtype=torch.float64)
        qp, pq = torch.zeros(n, m, dtype=torch.float64), torch.zeros(m, n, dtype=torch.float64)
        for kind, mean in zip(kinds, means, strict=True):
            if kind == "q":
                q, qp = q + mean @ q, qp + mean @ qp
            elif kind == "p":
                p, pq = p + mean @ p, pq + mean @ pq
            elif kind == "qp":
                waiting = shares(q).T @ mean @ shares(p), mean @ pq
            else:
                more = shares(p).T @ mean @ shares(q), mean @ qp
                qp, q, pq, p = qp + waiting[0], q + waiting[1], pq + more[0], p + more[1]
        torch.testing.assert_close(maps[row], qp[:1])
        assert maps[row].amax() > 0


# --- whatever the model

FOLLOWED = [name for name in ADAPTERS if name in {f.name for f in families() if f.attends}]


@pytest.fixture(scope="module", params=FOLLOWED)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return ADAPTERS[request.param](tmp_path_factory.mktemp("model"))


@pytest.fixture
def case(made: Case) -> Iterator[Case]:
    yield made
    made.adapter.module.eval().requires_grad_(True)


def cells_of(case: Case) -> tuple[int, int]:
    size = (case.pixels.shape[2], case.pixels.shape[3])
    return case.adapter.cells(case.pixels, Placement.identity(size)).size


def explained(case: Case, asked: Sequence[Target]) -> tuple[Tensor, list[Tensor]]:
    methods = [ROLLOUT, RELEVANCE]
    return explain_by_attention(case.adapter, case.pixels, asked, methods, cells=cells_of(case))


def test_scores_are_those_of_the_model_and_targets_do_not_mix(case: Case) -> None:
    features = encode(case.adapter, case.pixels, case.prompts)
    asked = case.asked()
    scores, maps = explained(case, asked)
    torch.testing.assert_close(scores, score(case.adapter, features, asked))
    for own in maps:
        assert own.dtype == torch.float64 and own.shape == (len(asked), *cells_of(case))
        assert own.isfinite().all() and (own >= 0).all() and own.amax() > 0
    for row, target in enumerate(asked):
        _, again = explained(case, [target])
        for own, one in zip(maps, again, strict=True):
            torch.testing.assert_close(own[row : row + 1], one)


@pytest.mark.parametrize("outer", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_is_touched(
    case: Case, outer: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = case.adapter.module
    _, expected = explained(case, case.asked())
    module.train().requires_grad_(False)
    configured = [repr(m.config) for m in module.modules() if hasattr(m, "config")]
    with unchanged(module), outer():
        _, maps = explained(case, case.asked())
    for own, before in zip(maps, expected, strict=True):
        torch.testing.assert_close(own, before)

    def fail(*_: Any, **__: Any) -> Any:
        torch.rand(1)
        raise ZeroDivisionError

    monkeypatch.setattr(case.adapter, "decode", fail)
    with unchanged(module), pytest.raises(ZeroDivisionError):
        explained(case, case.asked())
    assert configured == [repr(m.config) for m in module.modules() if hasattr(m, "config")]


# --- what cannot be followed


def test_models_without_attention_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=r"tiny has no attention .* blip, .*lxmert, .*vilt"):
        vlcam.explain(TinyCaptioner(), photo(), "a red dog", method="attention-relevance")
    scenes = captioning.load("scenes", None)
    with pytest.raises(ValueError, match="attention-rollout follows; models that have: "):
        vlcam.explain(scenes, photo(), "a dog", method="attention-rollout")


def test_attention_in_windows_is_refused(tmp_path: Path) -> None:
    vision = SwinModel(
        SwinConfig(
            image_size=32, patch_size=4, embed_dim=6, depths=[1, 1], num_heads=[2, 2], window_size=2
        ),
        add_pooling_layer=False,
    )
    model = vlcam.load(encoder_decoder(tmp_path / "swin", vision))
    with pytest.raises(ValueError, match="attention in windows"):
        vlcam.explain(model, photo(), CAPTION, method="attention-relevance")


# --- the parts


def test_fused_attention_is_spelled_out() -> None:
    random = torch.Generator().manual_seed(0)

    def made(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    query, key, value = made(1, 4, 5, 3), made(1, 4, 7, 3), made(1, 4, 7, 2)
    allowed = made(1, 1, 5, 7) > -0.5
    for more in (
        {}, {"scale": 0.3}, {"attn_mask": allowed}, {"attn_mask": made(1, 1, 5, 7)},
        {"is_causal": True},
    ):  # fmt: skip
        with RecordAttention() as kept:
            found = F.scaled_dot_product_attention(query, key, value, **more)  # type: ignore[arg-type]
        expected = F.scaled_dot_product_attention(query, key, value, **more)  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(kept.seen[0].sum(-1), torch.ones(1, 4, 5).double())
    with RecordAttention() as kept:
        found = F.scaled_dot_product_attention(query, key[:, :2], value[:, :2], enable_gqa=True)
    expected = F.scaled_dot_product_attention(query, key[:, :2], value[:, :2], enable_gqa=True)
    torch.testing.assert_close(found, expected)


class Detached(torch.nn.Module):
    """A part whose input is cut off, beside its residual connection."""

    def __init__(self, part: torch.nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, states: Tensor) -> Tensor:
        found: Tensor = self.part(states.detach())
        return found


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ("decoder.transformer.h", "between layer encoder.layers.1 and the score"),
        ("encoder.layers", "between the pixels and layer encoder.layers.1"),
    ],
)
def test_what_cuts_the_gradient_of_attention_is_named(
    stack: str, said: str, tmp_path: Path
) -> None:
    model = captioning.load(encoder_decoder(tmp_path / "model"))
    block = model.module.get_submodule(stack)[0]
    whole = vlcam.explain(model, photo(), CAPTION, method="attention-relevance")
    assert not any(word.degenerate for word in whole.words)
    block.mlp = Detached(block.mlp)
    with pytest.raises(ValueError, match=f"no true gradient passes detach .*, {said}"):
        vlcam.explain(model, photo(), CAPTION, method="attention-relevance")
