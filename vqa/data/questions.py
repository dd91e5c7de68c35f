"""Photos with questions and people's answers, read from VQA v1's or v2's layout of a folder."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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


def read_data(folder: Path, seed: int = 0, val_share: float = 0.05) -> Splits:
    """Read questions from ``annotations/*questions.json`` and ``annotations/*annotations.json``.

    The files are paired by what remains of their names: ``v2_OpenEnded_mscoco_train2014_questions``
    and ``v2_mscoco_train2014_annotations`` are of the split train and the photos in ``train2014/``;
    plain ``questions.json`` and ``annotations.json`` of those in ``images/``. A photo is called
    ``COCO_train2014_%012d.jpg`` or ``%012d.jpg``.

    Without a val split a share of the photos, chosen by ``seed``, is held out. A question without
    answers or photo, or a second one under the same number, is skipped and listed in ``skipped``.

    Raises:
        ValueError: naming the file that is missing or not as expected.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    files = {_subset(path): path for path in sorted(folder.glob("annotations/*questions.json"))}
    if not files:
        raise ValueError(f"{folder}: no annotations/*questions.json (VQA's layout)")
    answers = {_subset(path): path for path in sorted(folder.glob("annotations/*annotations.json"))}
    found = _Found()
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
        raise ValueError(f"{folder}: no question that can be used ({found.skipped[0]})")
    if "train" not in found.splits:
        found.splits["train"] = found.splits.pop(next(iter(found.splits)))
    if "val" not in found.splits:
        _hold_out(found.splits, val_share, seed)
    splits: dict[str, Any] = {name: tuple(some) for name, some in found.splits.items()}
    return Splits(**splits, skipped=tuple(found.skipped))


def _subset(path: Path) -> str:
    """``train2014`` of the official names, empty of the plain ones."""
    match = re.search(r"(train|val|test)\d*", path.stem)
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
    given: dict[int, dict[str, Any]] = {}
    for annotation in _entries(annotations, "annotations"):
        given[annotation["question_id"]] = annotation
    by_name = {path.name: path for path in photos}
    seen = set[int]()
    for question in _entries(questions, "questions"):
        number, image = question["question_id"], question["image_id"]
        names = (f"COCO_{subset}_{image:012}.jpg", f"{image:012}.jpg")
        photo = next((by_name[name] for name in names if name in by_name), None)
        annotation = given.get(number, {})
        answers = tuple(str(one["answer"]) for one in annotation.get("answers", ()))
        if number in seen:
            problem = "asked twice"
        elif photo is None:
            problem = f"no photo {names[-1]}"
        elif not answers:
            problem = "no answer"
        else:
            seen.add(number)
            yield AnsweredQuestion(
                number,
                photo,
                text=str(question["question"]),
                answers=answers,
                kind=str(annotation.get("answer_type", "")),
            )
            continue
        skipped.append(f"question {number}: {problem}")


def _photos(folder: Path, subset: str) -> Iterator[Path]:
    for place in (folder / subset if subset else None, folder / "images"):
        if place is not None and place.is_dir():
            yield from place.iterdir()


def _entries(path: Path, name: str) -> list[dict[str, Any]]:
    needed = {"questions": ("question_id", "image_id", "question"), "annotations": ("question_id",)}
    try:
        entries = json.loads(path.read_text("utf-8"))[name]
        for entry in entries:
            for key in needed[name]:
                entry[key]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a VQA file of {name} ({error!r})") from error
    return list(entries)


def _hold_out(splits: dict[str, list[AnsweredQuestion]], share: float, seed: int) -> None:
    """All questions about a share of the photos become the split val."""
    photos = list(dict.fromkeys(question.photo for question in splits["train"]))
    if len(photos) < 2:
        raise ValueError(f"questions about {len(photos)} photos: too few to hold one out")
    count = min(max(1, round(len(photos) * share)), len(photos) - 1)
    held = set(random.Random(seed).sample(photos, count))
    splits["val"] = [question for question in splits["train"] if question.photo in held]
    splits["train"] = [question for question in splits["train"] if question.photo not in held]
