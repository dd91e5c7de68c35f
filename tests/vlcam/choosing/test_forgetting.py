"""Copies of models that forget what they learned behind a layer, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.samples.adapters import ADAPTERS
from tests.samples.families.located import Halves, wrapped
from tests.tools.untouched import unchanged
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import score
from vlcam.choosing.forgetting import forgetting


@pytest.mark.parametrize("name", ["tiny", "lstm-cnn", "glimpses", "vilt", "show-attend-tell"])
def test_what_lies_before_the_layer_stays(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also where the question is read without gradients; the scores change with every draw."""
    case = ADAPTERS[name](tmp_path_factory.mktemp("model"))
    model, target = case.adapter, case.asked()[0]
    before = encode(model, case.pixels, case.prompts)
    seen = [float(score(model, before, [target]))]
    with unchanged(model.module):
        for changed in forgetting(model, case.pixels, case.long.prompt, draws=3):
            assert changed is not model and changed.module is not model.module
            now = encode(changed, case.pixels, case.prompts)
            torch.testing.assert_close(now.maps, before.maps)
            seen.append(float(score(changed, now, [target])))
    assert len(set(seen)) == 4


def test_every_second_draw_is_the_negative_of_the_one_before() -> None:
    net = Halves()
    answers, drawn = net.answer.weight.detach().clone(), []
    pixels = torch.rand(1, 3, 64, 64)
    for changed in forgetting(wrapped(net), pixels, "left", draws=4):
        assert isinstance(changed.module, Halves)
        drawn.append(changed.module.answer.weight.detach().clone())
        assert changed.module.see[0].weight.equal(net.see[0].weight)  # type: ignore[operator, arg-type]
    assert drawn[1].equal(-drawn[0]) and drawn[3].equal(-drawn[2])
    assert not drawn[2].equal(drawn[0]) and net.answer.weight.equal(answers)


class Shares(Halves):
    def __deepcopy__(self, _: object) -> Shares:
        return self


class Closed(Halves):
    def __deepcopy__(self, _: object) -> Shares:
        raise RuntimeError("there is one\nof it")


class Bare(Halves):
    """Nothing behind the layer has weights."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = nn.Identity()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Shares, "Shares cannot be copied (its copy shares its weights)"),
        (Closed, "Closed cannot be copied (there is one"),
        (Bare, "no weights lie behind see"),
    ],
)
def test_models_that_cannot_forget(kind: type[Halves], said: str) -> None:
    net, pixels = kind(), torch.rand(1, 3, 64, 64)
    with unchanged(net), pytest.raises(ValueError) as error:
        list(forgetting(wrapped(net), pixels, "left", draws=1))
    assert said in str(error.value) and "\n" not in str(error.value)
