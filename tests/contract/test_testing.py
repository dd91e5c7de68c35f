"""The check of adapters finds each fault it names, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vlcam
from tests.samples.adapters import ADAPTERS
from tests.samples.families.case import Case, caption_scores
from tests.samples.tiny import TinyCaptioner, TinyNet
from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt, Question, Reading, Unit
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


class Lister(Adapter):
    """Chooses among answers: a logit for each, from the mean over its maps."""

    name, layer, question = "lister", "cnn", "what is it?"
    answers: Any = ("red", "yellow", "two")

    def __init__(self, count: int = 3) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            cnn, head = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, count)
        self.module: Any = nn.ModuleDict({"cnn": cnn, "head": head}).double().eval()

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        return vlcam.Preprocess(size=(32, 32))(photo)

    def encode(self, pixels: Tensor, prompts: object = None) -> FeatureMaps:
        return FeatureMaps(self.module["cnn"](pixels))

    def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
        scores: Tensor = 8 * self.module["head"](features.maps.relu().mean((2, 3)))
        return scores

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return Grid((input_size[0] // 4, input_size[1] // 4), (1.5, 1.5), (4.0, 4.0))

    def understand(self, question: str) -> Question:
        return Question(question, (1,))

    def read(self, question: Question, answers: Sequence[str] | None = None) -> Reading:
        names = list(self.answers)
        units = [Unit(name, (names.index(name),)) for name in answers or names]
        return Reading(question.text, question.prompt, tuple(units))


def reading(units: Callable[[list[str], Sequence[str] | None], list[Unit]]) -> Lister:
    class Other(Lister):
        def read(self, question: Question, answers: Sequence[str] | None = None) -> Reading:
            own = tuple(units(list(self.answers), answers))
            return Reading(question.text, question.prompt, own)

    return Other()


def giving(change: Callable[[Tensor], Tensor], count: int = 3) -> Lister:
    class Other(Lister):
        answers = tuple(f"answer {i}" for i in range(count))

        def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
            return change(super().decode(features, prompts, wanted))

    return Other(count)


def named(*answers: Any) -> Lister:
    other = Lister()
    other.answers = answers
    return other


def wanting(change: Callable[[Tensor, Tensor], Tensor]) -> Lister:
    class Other(Lister):
        def decode(self, features: FeatureMaps, prompts: object, wanted: Any = None) -> Tensor:
            scores = super().decode(features, prompts, wanted)
            return scores if wanted is None else change(scores, wanted)

    return Other()


LISTING: dict[str, tuple[Callable[[], Lister], str]] = {
    "more names": (lambda: named("a", "b", "c", "d"), "decode: gives 3 scores, answers names 4"),
    "fewer names": (lambda: named("a", "b"), "decode: gives 3 scores, answers names 2"),
    "a name twice": (lambda: named("a", "b", "a"), "answers: 'a' names two scores"),
    "a blank name": (lambda: named("a", " ", "b"), "answers: ' ' is no name; expected texts"),
    "a number": (lambda: named("a", 3, "b"), "answers: 3 is no name; expected texts"),
    "another order": (
        lambda: reading(lambda own, _: [Unit(n, (2 - i,)) for i, n in enumerate(own)]),
        "read: 'red' is read at score 2, but answers, in the order of the scores, lists it at 0",
    ),
    "one score for all": (
        lambda: reading(lambda own, some: [Unit(n, (0,)) for n in some or own]),
        "read: 'red' and 'yellow' are both read at score 0",
    ),
    "by their place among those chosen": (
        lambda: reading(lambda own, some: [Unit(n, (i,)) for i, n in enumerate(some or own)]),
        r"read: 'two' is read at scores \(0,\) when it is asked for, at \(2,\) among all",
    ),
    "chosen ones in an order of its own": (
        lambda: reading(
            lambda own, some: [Unit(n, (own.index(n),)) for n in own if n in (some or own)]
        ),
        "asked for 'two' and 'red' it gives 'red', 'two'; expected those, in that order",
    ),
    "two scores of one": (
        lambda: reading(lambda own, some: [Unit(n, (0, 1)) for n in some or own]),
        "read: 'red' has 2 scores; expected the one of it",
    ),
    "a softmax": (lambda: giving(lambda s: s.softmax(1)), "decode: gives probabilities, expected"),
    "percents": (lambda: giving(lambda s: 100 * s.softmax(1)), "gives probabilities, expected log"),
    "percents by hand": (
        lambda: giving(lambda s: 100 * s.exp() / s.exp().sum(1, keepdim=True)),
        "gives probabilities times 100, expected logits",
    ),
    "a log-softmax": (
        lambda: giving(lambda s: s.log_softmax(1)),
        "gives log-probabilities",
    ),
    "sigmoids": (lambda: giving(lambda s: s.sigmoid()), "gives independent probabilities, expect"),
    "many sigmoids": (
        lambda: giving(torch.sigmoid, 30),
        "gives independent probabilities, expected",
    ),
    "sigmoids by hand": (
        lambda: giving(lambda s: 1 / (1 + (-s).exp())),
        "gives independent probabilities, expected logits, before any softmax or sigmoid",
    ),
    "log-sigmoids": (
        lambda: giving(nn.functional.logsigmoid),
        "gives independent log-probabilities, expected logits",
    ),
    "a row's place": (
        lambda: giving(lambda s: s + torch.arange(len(s))[:, None]),
        "decode: rows influence each other",
    ),
    "rows sorted": (lambda: giving(lambda s: s[s[:, 0].argsort()]), "rows influence each other"),
    "rows sorted the other way": (
        lambda: giving(lambda s: s[s[:, 0].argsort(descending=True)]),
        "rows influence each other",
    ),
    "others than are wanted": (
        lambda: wanting(lambda scores, wanted: scores.flip(1)),
        "decode: score 0 is .*, but .* when it alone is wanted",
    ),
    "no numbers where none are wanted": (
        lambda: wanting(lambda s, w: torch.where(w, s[:, : w.shape[1]], torch.nan)),
        "scores that are not wanted are not finite",
    ),
}


@pytest.mark.parametrize("name", LISTING)
def test_which_answer_a_score_is_of_and_on_what_scale(name: str) -> None:
    make, said = LISTING[name]
    with pytest.raises(AssertionError, match=said) as told:
        check_adapter(make())
    assert told.value.args[0].count("\n- ") <= 4  # the fault, and what follows from it


def test_what_was_checked_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """It said nothing."""
    for adapter, on in ((Lister(), "under 'what is it?'"), (TinyCaptioner(), "'log p(")):
        report = check_adapter(adapter)
        told = capsys.readouterr().out
        assert told == f"{report}\n" and on in told.splitlines()[0] and len(repr(report)) < 600
        assert told.startswith(f"{adapter.name} at layer {adapter.layer} keeps what an adapter")
        assert told.count("\n- ") == len(report.kept) >= 9
    assert "- answers: one name for each score" in str(check_adapter(Lister()))
    assert "assumed" not in told


def test_a_score_that_is_no_number_elsewhere() -> None:
    """Logarithms of maps that are never negative, as of the bundled VQA model."""

    class Logarithm(Lister):
        def encode(self, pixels: Tensor, prompts: object = None) -> FeatureMaps:
            return FeatureMaps(super().encode(pixels).maps.relu())

        def decode(self, features: FeatureMaps, prompts: object, wanted: object = None) -> Tensor:
            mean = features.maps.mean((2, 3))
            scores: Tensor = self.module["head"]((1000 * mean).log1p())
            return scores

    assert problems(Logarithm()) == []


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
