"""``vlcam.explain``: one forward pass of the CNN, and nothing of the model touched."""

from __future__ import annotations

import re
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

import captioning
import vlcam
from tests.samples.tiny import CAPTION, TinyCaptioner, photo
from tests.tools.leftovers import no_tensor_left
from tests.tools.untouched import unchanged
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.methods import METHODS
from vlcam.attribution.occlusion import Patch


def test_one_encode_whatever_is_asked() -> None:
    model = TinyCaptioner(dtype=torch.float32)
    encoded = vlcam.look(model, photo())
    for caption in (CAPTION, "a cat", None):
        vlcam.explain(model, encoded, caption)
    assert model.encoded == 1


class Exploding(TinyCaptioner):
    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        torch.rand(1)  # a model may draw random numbers
        raise KeyboardInterrupt


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.at != "attention"])
def test_nothing_of_the_model_is_touched(name: str, frozen: bool) -> None:
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


def test_two_threads_one_model() -> None:
    model = TinyCaptioner(dtype=torch.float32)
    model.module.train()
    names = ["grad-cam", "guided-grad-cam", "gradient", "deconv", "layercam"] * 4
    alone = [vlcam.explain(model, photo(), CAPTION, method=name).maps for name in names]
    with unchanged(model.module), ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda n: vlcam.explain(model, photo(), CAPTION, method=n).maps, names)
        for expected, maps in zip(alone, together, strict=True):
            torch.testing.assert_close(maps, expected)


def test_no_live_tensors_after_many_calls() -> None:
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


def test_captions_whose_scores_are_no_log_probabilities() -> None:
    class Unnormalised(TinyCaptioner):
        def log_probabilities(self, states: Tensor) -> Tensor:
            return states.double() + 5

    for target in ("word", "caption"):
        with pytest.raises(ValueError, match="no log-probability is above 0; are these logits"):
            vlcam.explain(Unnormalised(), photo(), CAPTION, target=target)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"caption": 3}, "caption is 3, expected a text"),
        ({"caption": ["a", "cat"]}, "caption is a list of 2, expected a text"),
        ({"caption": b"a cat"}, "caption is b'a cat', expected a text"),
        ({"question": 3}, "question is 3, expected a text"),
        ({"question": "what?", "answers": "red"}, "answers is 'red', expected a list of texts"),
        ({"question": "what?", "answers": 3}, "answers is 3, expected a list of texts"),
        ({"question": "what?", "answers": [0]}, "one of answers is 0, expected a text"),
        ({"question": "what?", "contrast": ("red",)}, "contrast is a tuple of 1, expected two"),
        ({"question": "what?", "contrast": "red"}, "contrast is 'red', expected a list of texts"),
        ({"question": "what?", "top": "3"}, "top is '3', expected a whole number"),
        ({"beam": 2.5}, "beam is 2.5, expected a whole number"),
        ({"beam": 0}, "beam is 0, expected at least 1"),
        ({"beam": True}, "beam is True, expected a whole number"),
        ({"memory": 0}, "memory is 0, expected at least 1"),
        ({"question": "what?", "top": -1}, "top is -1, expected at least 1"),
        ({"memory": None}, "memory is None, expected a whole number"),
        ({"method": 3}, "method is 3, expected a name"),
        ({"method": "occlusion", "patch": 3}, "patch is 3, expected a vlcam."),
        ({"caption": "a cat", "answers": ["red"]}, "go with a question"),
        ({"contrast": ("red", "yellow")}, "go with a question"),
    ],
)
def test_arguments_of_another_kind_are_told_by_name(asked: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        vlcam.explain(TinyCaptioner(), photo(), **asked)


@pytest.mark.parametrize(
    ("beams", "said"),
    [
        (0, "beams of tiny is 0, expected at least 1"),
        ("5", "beams of tiny is '5', expected a whole number"),
        (None, "beams of tiny is None, expected a whole number"),
    ],
)
def test_a_models_own_beam_that_cannot_be(beams: Any, said: str) -> None:
    model = TinyCaptioner()
    model.beams = beams
    with pytest.raises(ValueError, match=re.escape(said)):
        vlcam.explain(model, photo())


def test_a_module_is_no_adapter() -> None:
    module: Any = torch.nn.Linear(2, 2)
    for use in (vlcam.explain, vlcam.look):
        with pytest.raises(ValueError, match=r"class Linear, expected an adapter \(vlcam.wrap"):
            use(module, photo())


def test_a_layer_of_a_model_that_is_loaded() -> None:
    model = captioning.load("scenes")
    expected = vlcam.explain(captioning.load("scenes", "stage3"), photo(), "a cat")
    for given in (model, "scenes"):
        found = vlcam.explain(given, photo(), "a cat", layer="stage3")
        assert torch.equal(found.maps, expected.maps) and found.grid == expected.grid
        assert found.layer == "stage3"
    assert model.layer == "stage4" and "stage4" in repr(model)
    glimpses = vlcam.load("scenes", kind="vqa")
    back = glimpses.at_layer("stage3").at_layer("glimpses")
    asked = {"question": "what is on the left?"}
    one, two = (vlcam.explain(m, photo(), **asked) for m in (glimpses, back))  # type: ignore[arg-type]
    assert torch.equal(one.maps, two.maps) and type(back) is type(glimpses)
    with pytest.raises(ValueError, match=r"tiny can be explained at layer before\.3 alone, not at"):
        vlcam.explain(TinyCaptioner(), photo(), layer="after.1")
    with pytest.raises(ValueError, match=r"tiny answers no questions: .*leave the question out"):
        vlcam.explain(TinyCaptioner(), photo(), question="what?")
