"""Targets: what they are called, and that values and gradients follow from the scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.samples.tiny import CAPTION, TinyCaptioner, pixels_of
from vlcam.adapters.adapter import FeatureMaps, Reading, Unit
from vlcam.attribution import targets
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, score, seam_gradients
from vlcam.attribution.methods import METHODS
from vlcam.attribution.targets import Target, Term

READING = Reading(
    "a zebra dogs",
    (1, 9, 3, 4),
    (Unit("a", (0,)), Unit("zebra", (1,), unknown=True), Unit("dogs", (2, 3))),
)


def test_names_say_what_is_explained() -> None:
    a, dogs = targets.units(READING)
    assert (a.name, dogs.name) == ("log p(a)", "log p(dogs)")
    assert targets.unit(READING, READING.units[0], "logit").name == "logit(a)"
    assert targets.whole(READING).name == "log p(a zebra dogs)"
    assert (-dogs).name == "-(log p(dogs))"
    assert (a - dogs).name == "log p(a) - log p(dogs)"


def test_a_word_of_several_tokens_is_the_sum_of_theirs() -> None:
    assert targets.units(READING)[1].terms == (Term(1.0, READING.prompt, (2, 3)),)
    model = TinyCaptioner()
    features, prompt = encode(model, pixels_of(model)), (1, 2, 3)
    word = Target("word", (Term(1.0, prompt, (1, 2)),))
    tokens = [Target("token", (Term(1.0, prompt, (k,)),)) for k in (1, 2)]
    (chunk,) = seam_gradients(model, features, [word, *tokens])
    torch.testing.assert_close(chunk.scores[0], chunk.scores[1:].sum())
    torch.testing.assert_close(chunk.gradients[0], chunk.gradients[1:].sum(0))


def test_unknown_words_have_no_target() -> None:
    with pytest.raises(ValueError, match="'zebra' is not in the model's vocabulary"):
        targets.unit(READING, READING.units[1])
    assert targets.whole(READING).terms == (Term(1.0, READING.prompt, (0, 2, 3)),)
    nothing = Reading("zebra", (9,), (Unit("zebra", (0,), unknown=True),))
    assert targets.units(nothing) == []
    with pytest.raises(ValueError, match="knows no word of 'zebra'"):
        targets.whole(nothing)


def test_sums_differences_and_negations() -> None:
    model = TinyCaptioner()
    features = encode(model, pixels_of(model))
    words = targets.units(model.read(CAPTION))
    first, second = words[:2]
    asked = [
        first,
        second,
        -first,
        first - second,
        -(first - second),
        targets.whole(model.read(CAPTION)),
    ]
    (chunk,) = seam_gradients(model, features, asked)
    (each,) = seam_gradients(model, features, words)
    for values, all_words in ((chunk.scores, each.scores), (chunk.gradients, each.gradients)):
        a, b, negated, contrast, against, whole = values
        torch.testing.assert_close(negated, -a)
        torch.testing.assert_close(contrast, a - b)
        torch.testing.assert_close(against, b - a)
        torch.testing.assert_close(whole, all_words.sum(0))
    torch.testing.assert_close(score(model, features, asked), chunk.scores)


def test_a_log_probability_adds_not_the_other_words() -> None:
    """d log p(w) = dz(w) - sum over v of p(v) dz(v)."""

    class Both(TinyCaptioner):
        def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
            logits = self.module.language(features.maps, torch.ones(len(features.maps), 1).long())
            return torch.cat([logits[:, 0], logits[:, 0].log_softmax(-1)], 1)

    model = Both()
    features = encode(model, pixels_of(model))
    words = 9
    asked = [Target("z or log p", (Term(1.0, (), (c,)),)) for c in range(2 * words)]
    (chunk,) = seam_gradients(model, features, asked)
    logit, of_logit = chunk.scores[:words], chunk.gradients[:words]
    others = torch.einsum("w,wkuv->kuv", logit.softmax(0), of_logit)
    torch.testing.assert_close(chunk.gradients[words:], of_logit - others)


def test_maps_are_raw() -> None:
    """A score a thousand times smaller has a map a thousand times smaller, not the same one."""
    model = TinyCaptioner()
    features = encode(model, pixels_of(model))
    word = targets.units(model.read(CAPTION))[2]
    small = Target("small", tuple(Term(t.weight / 1000, t.prompt, t.scores) for t in word.terms))
    for name, method in METHODS.items():
        if method.at == "layer":
            _, maps = explain_at_layer(model, features, [word, small], method)
            # Grad-CAM++ takes the score through an exponential, so that its weights know its scale.
            rtol = 1e-3 if name == "grad-cam++" else 1e-9
            torch.testing.assert_close(maps[1], maps[0] / 1000, rtol=rtol, atol=0, msg=name)
