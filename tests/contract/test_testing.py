"""The check of adapters finds each fault it names, and none where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vlcam
from tests.samples.adapters import ADAPTERS
from tests.samples.families.case import Case, caption_scores
from tests.samples.tiny import TinyCaptioner, TinyNet
from vlcam.adapters.adapter import FeatureMaps, Prompt
from vlcam.attribution.targets import Target, Term
from vlcam.geometry.grid import Grid, Placement
from vlcam.testing import check_adapter, problems

CAPTION = "a red dog on the grass"


def test_a_sound_adapter_passes() -> None:
    check_adapter(TinyCaptioner(), caption=CAPTION)
    check_adapter(TinyCaptioner(dtype=torch.float32))


class Meeting(TinyCaptioner):
    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        maps = features.maps - features.maps.mean(0, keepdim=True) / 2
        return super().teacher_force(FeatureMaps(maps, features.rest), tokens)


class Normalising(TinyCaptioner):
    def encode(self, pixels: Tensor, prompts: object = None) -> FeatureMaps:
        maps = super().encode(pixels).maps
        return FeatureMaps(maps / maps.std())


class Detached(TinyCaptioner):
    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        seen = FeatureMaps(features.maps.detach(), features.rest)
        return super().teacher_force(seen, tokens) + 0 * features.maps.sum()


class HalfDetached(TinyCaptioner):
    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        logits = super().teacher_force(features, tokens)
        return logits - 0.9 * logits.detach()


class Elsewhere(TinyCaptioner):
    def grid(self, input_size: tuple[int, int]) -> Grid:
        return replace(super().grid(input_size), offset=(2.0, 0.0))


class Transposed(TinyCaptioner):
    def encode(self, pixels: Tensor, prompts: object = None) -> FeatureMaps:
        return FeatureMaps(super().encode(pixels).maps.flip(3))


class TooFew(TinyCaptioner):
    def grid(self, input_size: tuple[int, int]) -> Grid:
        return Grid((7, 8), (0.0, 0.0), (4.0, 4.0))


class Hooking(TinyCaptioner):
    def encode(self, pixels: Tensor, prompts: object = None) -> FeatureMaps:
        self.module.before.register_forward_hook(lambda *_: None)
        return super().encode(pixels)


class Unfreezing(TinyCaptioner):
    def encode(self, pixels: Tensor, prompts: object = None) -> FeatureMaps:
        self.module.embed.requires_grad_(False)
        return super().encode(pixels)


class Misplaced(TinyCaptioner):
    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        pixels, placement = super().prepare(photo)
        return pixels, replace(placement, photo_size=placement.photo_size[::-1])


class Unnormalised(TinyCaptioner):
    def log_probabilities(self, states: Tensor) -> Tensor:
        return states.double() + 5


class Probable(TinyCaptioner):
    def log_probabilities(self, states: Tensor) -> Tensor:
        return states.double().softmax(-1)


class NoNumber(TinyCaptioner):
    def log_probabilities(self, states: Tensor) -> Tensor:
        return super().log_probabilities(states) * float("nan")


class Tupled(TinyCaptioner):
    def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
        return (super().decode(features, prompts, wanted), None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Unnormalised, r"decode: gives no log-probabilities: log p\(a\) is above 0"),
        (Probable, r"decode: gives no log-probabilities: log p\(a\) is above 0"),
        (NoNumber, r"the score of 'log p\(a\)' is nan"),
        (Tupled, r"decode gave a tuple of 2; expected a tensor of scores"),
        (Meeting, "decode: rows influence each other"),
        (Normalising, "encode: photos in one batch influence each other"),
        (Detached, "the seam is not connected to the score"),
        (HalfDetached, "is cut off from autograd"),
        (Elsewhere, r"wrong geometry: .* \(rows\).* cells off"),
        (Transposed, r"wrong geometry: .* \(columns\)"),
        (TooFew, r"grid: \(7, 8\) cells, but the maps have \(8, 8\)"),
        (Hooking, "state left behind: the module's hooks"),
        (Unfreezing, "state left behind: the module's requires_grad flags"),
        (Misplaced, "prepare: its placement is of a photo of"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_fault_is_told(kind: type[TinyCaptioner], said: str) -> None:
    with pytest.raises(AssertionError, match=said) as told:
        check_adapter(kind(), caption=CAPTION)
    assert told.value.args[0].count("\n- ") <= 2  # the fault, and what follows from it


def test_a_layer_that_runs_twice() -> None:
    net = TinyNet().double().eval()

    def twice(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
        net(pixels, torch.ones(len(pixels), 1, dtype=torch.long))
        return caption_scores(net, pixels, prompts)

    adapter = vlcam.ModuleAdapter(
        net, "after.1", twice, vlcam.Preprocess(size=(32, 32)), example=(1,)
    )
    word = Target("red", (Term(1.0, (1, 2), (1,)),))
    (found,) = [line for line in problems(adapter, asked=[word]) if line.startswith("decode: rows")]
    assert "layer after.1 runs more than once in a forward pass" in found


@pytest.mark.parametrize("name", ["neuraltalk", "module", "lstm-cnn", "glimpses"])
def test_adapters_of_ours_pass(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    case: Case = ADAPTERS[name](tmp_path_factory.mktemp("model"))
    words = case.asked()
    if name == "module":
        case.adapter._preprocess = vlcam.Preprocess(size=(32, 32))  # type: ignore[attr-defined]
    found = problems(case.adapter, asked=words)
    assert found == []


def test_nothing_to_ask() -> None:
    adapter = vlcam.ModuleAdapter(
        TinyNet().double().eval(), "after.1", caption_scores, vlcam.Preprocess(size=(32, 32))
    )
    with pytest.raises(ValueError, match="reads neither captions nor questions: give asked"):
        check_adapter(adapter)
