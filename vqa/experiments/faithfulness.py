"""How faithful the maps of a VQA model's answers are to the model (section 8.2 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

from vlcam.adapters.adapter import Adapter
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.occlusion import Patch
from vlcam.evaluation.experiment import Item, sample
from vlcam.evaluation.faithfulness_experiment import Faithfulness, Occluded
from vlcam.utils.messages.errors import one_line
from vqa.answering.answerer import Answerer, likeliest
from vqa.data import questions as data


class OfAnswers(Faithfulness):
    """Faithfulness of the maps of a model's own answers to questions; the score is the logit.

    Args:
        questions: a folder in VQA's layout; its test questions where it has some, else those of
            validation.
        limit: so many photos, chosen by ``seed``.

    Raises:
        ValueError: a file is missing or not as expected.
    """

    kind: ClassVar = "vqa"

    def __init__(
        self,
        questions: Path,
        *,
        patch: Patch | None = None,
        with_curves: bool = True,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(patch or Patch(), with_curves, seed)
        self.data, self.limit = questions, limit
        self._splits = data.read_data(questions, seed)

    def settings(self) -> dict[str, Any]:
        return self.measures() | {"data": str(self.data), "limit": self.limit}

    @property
    def skipped(self) -> Sequence[str]:
        return self._splits.skipped

    @cached_property
    def _questions(self) -> dict[Path, list[data.AnsweredQuestion]]:
        found: dict[Path, list[data.AnsweredQuestion]] = {}
        for question in self._splits.test or self._splits.val:
            found.setdefault(question.photo, []).append(question)
        return {path: found[path] for path in sample(sorted(found), self.limit, self.seed)}

    @cached_property
    def items(self) -> Sequence[Item]:
        return [Item(str(path.relative_to(self.data)), path) for path in self._questions]

    def ask(self, model: Adapter, item: Item, photo: Encoded, written: Any) -> Occluded:
        targets, problems = [], []
        for question in self._questions[item.photo]:
            try:
                targets.append(likeliest(cast(Answerer, model), photo, question.text))
            except ValueError as error:
                problems.append(f"question {question.number}: {one_line(error)}")
        if not targets:
            raise ValueError("no question about it can be asked")
        return replace(self.occluded(model, item, photo, targets=targets), skipped=tuple(problems))
