"""How maps of a VQA model agree with where people looked (section 8.2 of the paper).

The protocol of VQA-HAT (:mod:`vqa.data.human_attention`). Beside the methods stand noise, a centred
Gaussian, the layer's summed activation, a uniform map (all ties), people against each other, and
the model's own attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch

from vlcam.adapters.adapter import Adapter, Prompt
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import TargetMaps
from vlcam.attribution.targets import Target, unit
from vlcam.evaluation import tables
from vlcam.evaluation.baselines import ACTIVATION, GAUSSIAN, NOISE, UNIFORM, summed_activation
from vlcam.evaluation.experiment import Asked, Experiment, Item, sample
from vlcam.evaluation.records import Columns, Record
from vlcam.evaluation.summary import Cell, Summary, Table, difference, differences
from vlcam.geometry.grid import Cells, Placement, place
from vlcam.metrics.estimates import mean
from vlcam.metrics.pointing import centred_gaussian
from vlcam.utils.files.text_files import read_text
from vlcam.utils.messages.errors import one_line
from vlcam.utils.untouched import untouched
from vqa.answering.answerer import Answerer, likeliest
from vqa.data import questions as data
from vqa.data.accuracy import normalised
from vqa.data.human_attention import (
    CELLS,
    Agreement,
    agreement,
    between_people,
    find,
    on_cells,
    read,
)

PAPER = "Selvaraju et al. (2019), VQA-HAT, 1,374 questions: Grad-CAM 0.136; chance 0."
PEOPLE = "people, against each other"
_OWN = "own attention: "


@dataclass(frozen=True)
class Judged:
    """A question, and what its maps are compared with.

    Attributes:
        target: its place among the item's targets.
        number: its ``question_id``.
        human: the maps of the people who answered it, on :data:`CELLS`.
    """

    target: int
    number: int
    prompt: Prompt
    human: list[np.ndarray]


@dataclass(frozen=True)
class AskedQuestions(Asked):
    """A photo's questions, one a target, with the maps of the people who answered them."""

    judged: list[Judged]


class Attention(Experiment[AskedQuestions]):
    """Rank correlation of maps with human attention.

    Args:
        questions: a folder in VQA's layout.
        maps: ``QUESTION_K.png``; None: ``attention/`` in there.
        answer: whose map is compared: the model's (``predicted``), or what people ``given``.
        limit: so many of the questions that have maps, chosen by ``seed``.

    Raises:
        ValueError: a folder or file is missing or not as expected.
    """

    name: ClassVar = "attention"
    kind: ClassVar = "vqa"
    columns: ClassVar = {
        "image": str, "target": int, "question": int, "map": str, "value": float, "constant": bool,
    }  # fmt: skip
    worth: ClassVar = "value"
    worth_says: ClassVar = "rank correlation with where people looked {:.2f}"

    def __init__(
        self,
        questions: Path,
        *,
        maps: Path | None = None,
        answer: Literal["predicted", "given"] = "predicted",
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        self.data, self.maps = questions, maps or questions / "attention"
        self.answer, self.limit, self.seed = answer, limit, seed
        self._maps = find(self.maps)
        self._splits = data.read_data(questions, seed)
        self.title = f"Agreement with {'simulated' if self.simulated else 'human'} attention"

    @property
    def simulated(self) -> bool:
        """Whether the folder of maps says that no people drew them, as those of the scenes do."""
        note = self.maps / "README.md"
        return note.is_file() and "simulated" in read_text(note).lower()

    def settings(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in ("answer", "limit", "seed", "simulated")}
        return {"data": str(self.data), "maps": str(self.maps), **plain}

    @cached_property
    def _questions(self) -> dict[int, data.AnsweredQuestion]:
        found = self._splits
        return {one.number: one for one in (*found.train, *found.val, *found.test)}

    @property
    def skipped(self) -> Sequence[str]:
        strangers = [n for n in self._maps.files if n not in self._questions]
        lines = [f"question {n}: has maps, but is not in the data" for n in strangers]
        return [*self._splits.skipped, *self._maps.skipped, *lines]

    @cached_property
    def _chosen(self) -> dict[Path, list[data.AnsweredQuestion]]:
        """The questions by their photo, so that each photo is encoded once."""
        every = [self._questions[n] for n in self._maps.files if n in self._questions]
        every = sample(every, self.limit, self.seed)
        found: dict[Path, list[data.AnsweredQuestion]] = {}
        for question in sorted(every, key=lambda one: (str(one.photo), one.number)):
            found.setdefault(question.photo, []).append(question)
        return found

    @cached_property
    def items(self) -> Sequence[Item]:
        return [Item(str(path.relative_to(self.data)), path) for path in self._chosen]

    def ask(self, model: Adapter, item: Item, photo: Encoded, written: Any) -> AskedQuestions:
        targets: list[Target] = []
        judged: list[Judged] = []
        problems = []
        for question in self._chosen[item.photo]:
            number = question.number
            try:
                human = [
                    read(path, photo.placement.photo_size) for path in self._maps.files[number]
                ]
                target = self._target(cast(Answerer, model), photo, question)
            except ValueError as error:
                problems.append(f"question {number}: {one_line(error)}")
                continue
            prompt = target.terms[0].prompt
            judged.append(Judged(len(targets), number, prompt=prompt, human=human))
            targets.append(target)
        return AskedQuestions(item, photo, targets, judged=judged, skipped=tuple(problems))

    def _target(self, model: Answerer, photo: Encoded, question: data.AnsweredQuestion) -> Target:
        """The logit of the answer that is explained."""
        if self.answer == "predicted":
            return likeliest(model, photo, question.text)
        reading = model.read(model.understand(question.text), [normalised(question.answer)])
        return unit(reading, reading.units[0], "logit")

    def score(
        self, model: Adapter, asked: AskedQuestions, method: str, found: TargetMaps
    ) -> Iterator[Record]:
        for question, values in zip(asked.judged, found.maps, strict=True):
            cells = _on_cells(values[None], found.grid, asked.photo.placement)[0]
            worth = agreement(cells, question.human)
            yield self._record(asked.item, question, map=method, worth=worth)

    def label(self, record: Record) -> str:
        return self._questions[cast(int, record["question"])].text

    def baselines(self, model: Adapter, asked: AskedQuestions) -> Iterator[Record]:
        for question in asked.judged:
            for name, cells in self._baselines(model, asked.photo, question):
                worth = agreement(cells, question.human)
                yield self._record(asked.item, question, map=name, worth=worth)
            people = between_people(question.human)
            if people is not None:
                yield self._record(asked.item, question, map=PEOPLE, worth=people)

    def _baselines(
        self, model: Adapter, photo: Encoded, question: Judged
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Maps on :data:`CELLS` that explain nothing, the model's own attention first."""
        size = (photo.pixels.shape[2], photo.pixels.shape[3])
        with untouched(model.module), torch.no_grad():
            own = model.attention(photo.seen(model, question.prompt), question.prompt, size)
        if own is not None:
            drawn = _on_cells(own.maps.detach(), own.grid, photo.placement)
            for name, cells in zip(own.names, drawn, strict=True):
                yield f"{_OWN}{name}", cells
        yield NOISE, np.random.default_rng([self.seed, question.number]).random(CELLS)
        yield GAUSSIAN, centred_gaussian(CELLS)
        active, grid = summed_activation(model, photo, question.prompt)
        yield ACTIVATION, _on_cells(active, grid, photo.placement)[0]
        yield UNIFORM, np.ones(CELLS)

    @staticmethod
    def _record(item: Item, question: Judged, *, map: str, worth: Agreement) -> Record:
        return {
            "image": item.name,
            "target": question.target,
            "question": question.number,
            "map": map,
            "value": worth.value,
            "constant": worth.constant,
        }

    def summarise(self, records: Columns) -> Summary:
        by_map = records.by("map")
        baselines = (NOISE, GAUSSIAN, ACTIVATION, UNIFORM, PEOPLE)
        own = [name for name in by_map if name.startswith(_OWN)]
        methods = [name for name in by_map if name not in (*own, *baselines)]
        names = [*methods, *own, *(name for name in baselines if name in by_map)]
        table = Table(
            self.title,
            ("map", "rank correlation", "95 %", "less the Gaussian", "constant", "questions"),
            tuple((name, *self._row(by_map, name)) for name in names),
            "figure",
            f"Spearman's rank correlation on {CELLS[0]} x {CELLS[1]} cells, the mean over a"
            f" question's maps, of the {self.answer} answer. A constant map counts as 0.",
            digits=3,
        )
        simulated = ("No people looked: these attention maps are simulated.",)
        return Summary(
            (table, *self._differences(by_map, methods)),
            (*(simulated if self.simulated else ()), PAPER),
        )

    @staticmethod
    def _differences(by_map: dict[str, Columns], names: Sequence[str]) -> tuple[Table, ...]:
        """Of rank correlations, between methods."""
        sums = {name: (by_map[name]["value"], np.ones(len(by_map[name]))) for name in names}
        images = by_map[names[0]]["image"] if names else ()
        return differences(sums, images, "rank correlation", unit="figure", digits=3)

    @staticmethod
    def _row(by_map: dict[str, Columns], name: str) -> list[Cell]:
        some = by_map[name]
        values, images = some["value"], some["image"]
        # People are compared with each other only where a question has several.
        centred = by_map[GAUSSIAN]
        centred = centred.rows(np.isin(centred["question"], some["question"]))
        estimate = mean(values, images)
        less = difference(values, centred["value"], images) if name != GAUSSIAN else ""
        bounds = tables.interval(estimate, 3)
        return [estimate, bounds, less, int(some["constant"].sum()), len(some)]


def _on_cells(maps: torch.Tensor, grid: Cells, placement: Placement) -> np.ndarray:
    """Raw maps on :data:`CELLS`; in float64, so that what is equal is still ranked as equal."""
    return on_cells(place(maps.cpu().double(), grid, placement))
