"""Photos with questions and people's answers, read from VQA v1's or v2's layout of a folder."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import msgspec

from word_maps.entries import Entries, Id, Text, read_entries, sound


class Question(msgspec.Struct):
    """An entry of VQA's file of questions."""

    question_id: Id
    image_id: Id
    question: Text


class QuestionsFile(msgspec.Struct):
    """What is read of VQA's file of questions."""

    questions: Entries[Question]


class Answer(msgspec.Struct):
    """What one of the people answered."""

    answer: Text


class Annotation(msgspec.Struct):
    """An entry of VQA's file of annotations."""

    question_id: Id
    answers: list[Answer]
    answer_type: Text = ""


class AnnotationsFile(msgspec.Struct):
    """What is read of VQA's file of annotations."""

    annotations: Entries[Annotation]


@dataclass(frozen=True)
class AnsweredQuestion:
    """One question about a photo.

    Attributes:
        number: the official ``question_id``.
        photo: path.
        text: the question.
        answers: what people answered: ten in the official files.
        kind: the official ``answer_type`` (yes/no, number, other), or an empty text.
    """

    number: int
    photo: Path
    text: str
    answers: tuple[str, ...]
    kind: str = ""

    @property
    def answer(self) -> str:
        """What most people answered; of answers that are equally frequent the first."""
        return Counter(self.answers).most_common(1)[0][0]


@dataclass(frozen=True)
class Splits:
    """Questions to learn from, to choose by, and (where the data has them) to report on."""

    train: tuple[AnsweredQuestion, ...]
    val: tuple[AnsweredQuestion, ...]
    test: tuple[AnsweredQuestion, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass
class _Found:
    """What the files hold: questions by split, and a line for each question that cannot be used."""

    splits: dict[str, list[AnsweredQuestion]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def question_files(folder: Path) -> list[Path]:
    """The files of questions in a folder.

    Raises:
        ValueError: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    files = list(folder.glob("annotations/*questions.json"))
    if not files:
        raise ValueError(f"{folder}: no annotations/*questions.json (VQA's layout)")
    return files


def read_data(folder: Path, seed: int = 0, val_share: float = 0.05) -> Splits:
    """Read questions from ``annotations/*questions.json`` and ``annotations/*annotations.json``.

    The files are paired by what remains of their names: ``v2_OpenEnded_mscoco_train2014_questions``
    and ``v2_mscoco_train2014_annotations`` are of the split train and the photos in ``train2014/``;
    plain ``questions.json`` and ``annotations.json`` of those in ``images/``. A photo is called
    ``COCO_train2014_%012d.jpg`` or ``%012d.jpg``.

    Without a val split a share of the photos, chosen by ``seed``, is held out. What is odd is left
    out and listed in ``skipped``: an entry that is not of the format, a question without answers or
    photo, a second one under the same number.

    Raises:
        ValueError: naming the file that is missing or not as expected.
    """
    found = _Found()
    files = _by_subset(question_files(folder), found.skipped)
    answers = _by_subset(folder.glob("annotations/*annotations.json"), found.skipped)
    for subset, path in files.items():
        if subset not in answers:
            raise ValueError(f"{path}: no annotations file that goes with it")
        name = next((n for n in ("train", "val", "test") if subset.startswith(n)), "train")
        questions = read_questions(
            path,
            answers[subset],
            photos=_photos(folder, subset),
            subset=subset,
            skipped=found.skipped,
        )
        found.splits.setdefault(name, []).extend(questions)
    if not any(found.splits.values()):
        names = ", ".join(path.name for path in (*files.values(), *answers.values()))
        why = "; ".join(found.skipped[:3]) or f"{names} hold none"
        raise ValueError(f"{folder}: no question that can be used ({why})")
    if "train" not in found.splits:
        found.splits["train"] = found.splits.pop(next(iter(found.splits)))
    if "val" not in found.splits:
        try:
            _hold_out(found.splits, val_share, seed)
        except ValueError as error:
            raise ValueError("; ".join([f"{folder}: {error}", *found.skipped[:3]])) from error
    splits: dict[str, Any] = {name: tuple(some) for name, some in found.splits.items()}
    return Splits(**splits, skipped=tuple(found.skipped))


def _by_subset(paths: Iterable[Path], skipped: list[str]) -> dict[str, Path]:
    """The files by their subsets; of two of one subset the last by name."""
    found: dict[str, Path] = {}
    for path in sorted(paths):
        if before := found.get(_subset(path)):
            skipped.append(f"{before.name}: not read, {path.name} is of the same photos")
        found[_subset(path)] = path
    return found


def _subset(path: Path) -> str:
    """``train2014`` of the official names, empty of the plain ones."""
    match = re.search(r"(?<![a-z])(train|val|test)\d*", path.stem)
    return match[0] if match else ""


def read_questions(
    questions: Path,
    annotations: Path,
    *,
    photos: Iterable[Path],
    subset: str,
    skipped: list[str],
) -> Iterator[AnsweredQuestion]:
    """The questions of one pair of files.

    Args:
        photos: where to find them, called as :func:`read_data` says.
        subset: ``train2014`` of ``COCO_train2014_%012d.jpg``, or an empty text.
        skipped: gets a line for each question that cannot be used.

    Raises:
        ValueError: naming the file that is not as expected.
    """
    said, problems = read_entries(annotations, AnnotationsFile, what="a VQA file of annotations")
    lines: list[str] = []
    number = attrgetter("question_id")
    given = {
        one.question_id: one
        for one in sound(said.annotations, "annotations", number, lambda _: None, lines)
    }
    skipped += [*problems, *(f"{annotations.name}: {line}" for line in lines)]
    asked, problems = read_entries(questions, QuestionsFile, what="a VQA file of questions")
    by_name = {path.name: path for path in photos}

    def photo(question: Question) -> Path | None:
        name = f"{question.image_id:012}.jpg"
        return by_name.get(f"COCO_{subset}_{name}") or by_name.get(name)

    def of_question(question: Question) -> str | None:
        if not question.question.strip():
            return "no word in it"
        if photo(question) is None:
            return f"no photo {question.image_id:012}.jpg"
        annotation = given.get(question.question_id)
        return None if annotation and annotation.answers else "no answer"

    lines = []
    for question in sound(asked.questions, "questions", number, of_question, lines):
        annotation = given[question.question_id]
        yield AnsweredQuestion(
            question.question_id,
            cast(Path, photo(question)),
            text=question.question,
            answers=tuple(one.answer for one in annotation.answers),
            kind=annotation.answer_type,
        )
    skipped += [*problems, *(f"{questions.name}: {line}" for line in lines)]


def _photos(folder: Path, subset: str) -> Iterator[Path]:
    for place in (folder / subset if subset else None, folder / "images"):
        if place is not None and place.is_dir():
            yield from place.iterdir()


def _hold_out(splits: dict[str, list[AnsweredQuestion]], share: float, seed: int) -> None:
    """All questions about a share of the photos become the split val."""
    photos = list(dict.fromkeys(question.photo for question in splits["train"]))
    if len(photos) < 2:
        raise ValueError(f"questions about {len(photos)} photos: too few to hold one out")
    count = min(max(1, round(len(photos) * share)), len(photos) - 1)
    held = set(random.Random(seed).sample(photos, count))
    splits["val"] = [question for question in splits["train"] if question.photo in held]
    splits["train"] = [question for question in splits["train"] if question.photo not in held]
