"""``vlcam questions``: questions and answers about captioned photos, written in VQA v2's layout."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlcam.evaluation.entities import Entities, Marked
from vlcam.metrics.box_ratio import Box
from vlcam.photo.loading import size_of
from vlcam.utils.files.atomic import folder_written
from vlcam.utils.files.text_files import read_lines
from vlcam.utils.terminal import progress
from vqa.data.from_captions import Pair, pairs
from word_maps.entries import of_file_name

EVIDENCE = "evidence.json"
_PEOPLE = 10
_TYPES = {"color": "what color", "number": "how many", "where": "where", "what": "what"}


@dataclass
class CaptionQuestion:
    """A question about a photo, what the captions answer, and the boxes that show it."""

    text: str
    kind: str
    answers: list[str] = field(default_factory=list)
    boxes: set[Box] = field(default_factory=set)


def write(data: Path, entities: Path, out: Path, least: int = 5) -> dict[str, int]:
    """Make questions of every captioned photo of Flickr8k's layout and write them.

    Under ``out``: ``SPLIT/*.jpg`` (the photos, named as VQA's are), ``annotations/
    SPLIT_questions.json`` and ``SPLIT_annotations.json``, and ``annotations/evidence.json``: for
    each ``question_id`` the boxes ``[x0, y0, x1, y1]``, in photo pixels, of what the answer names.

    As in VQA ten answers are written, shared equally by the answers of all captions that have one:
    otherwise the official accuracy, which wants three people to agree, would call right answers
    wrong.

    Args:
        data: folder with ``Images/`` and ``{train,val,test}Images.txt``.
        entities: folder or zip archive of Flickr30k Entities, whose files are named like the
            photos up to the first ``_``.
        out: a new folder.
        least: answers rarer than this among the training questions are left out, with their
            questions where no other answer is left.

    Returns:
        Questions by split.

    Raises:
        ValueError: ``out`` exists, or data or entities are not as expected. A photo that cannot be
            used is skipped, with a line on standard error.
    """
    if out.exists():
        raise ValueError(f"{out}: exists already; name a new folder")
    marked = Entities(entities)
    lists = {name: data / f"{name}Images.txt" for name in ("train", "val", "test")}
    splits = {name: read_lines(path) if path.is_file() else [] for name, path in lists.items()}
    if not splits["train"]:
        raise ValueError(f"{data / 'trainImages.txt'}: no such file, or no photo in it")
    found: dict[str, list[tuple[Path, list[CaptionQuestion]]]] = {}
    numbers = set[int]()
    for split, names in splits.items():
        found[split] = []
        for name in progress.each(names, f"{split} photos", unit="photo"):
            path = data / "Images" / name
            try:
                number = _number(name)
                if number in numbers:
                    raise ValueError(f"another photo of the lists has the number {number}")
                questions = merged(marked.read(path.stem.split("_")[0], size_of(path)))
            except ValueError as error:
                with progress.aside():
                    about = "" if str(error).startswith(f"{path}: ") else f"{path}: "
                    print(f"skipped: {about}{error}", file=sys.stderr)
                continue
            numbers.add(number)
            found[split].append((path, questions))
    usual = Counter(a for _, some in found["train"] for q in some for a in set(q.answers))
    kept = {answer for answer, count in usual.items() if count >= least}
    counts, evidence = {}, {}
    with folder_written(out) as draft:
        for split, photos in found.items():
            counts[split], boxes = _write_split(draft, split, photos=photos, kept=kept)
            evidence.update(boxes)
        _dump(draft / "annotations" / EVIDENCE, {str(n): b for n, b in evidence.items()})
    return counts


def _number(name: str) -> int:
    """The number that a photo's file name begins with.

    Raises:
        ValueError: it does not, or leads out of the folder.
    """
    if wrong := of_file_name(name):
        raise ValueError(wrong)
    number = re.match("[0-9]{1,16}(?=[_.])", Path(name).name)
    if number is None:
        raise ValueError("its name does not begin with a number of at most 16 digits")
    return int(number[0])


def merged(photo: Marked) -> list[CaptionQuestion]:
    """A photo's questions, each once, with the answers and the boxes of all its sentences."""
    found: dict[str, CaptionQuestion] = {}
    every: list[Pair] = [pair for sentence in photo.sentences for pair in pairs(sentence)]
    for pair in every:
        question = found.setdefault(pair.question, CaptionQuestion(pair.question, pair.kind))
        question.answers.append(pair.answer)
        question.boxes.update(photo.boxes.get(pair.entity, ()))
    return list(found.values())


def _write_split(
    out: Path, split: str, *, photos: Sequence[tuple[Path, list[CaptionQuestion]]], kept: set[str]
) -> tuple[int, dict[int, list[Box]]]:
    """Write a split's photos, questions and annotations; how many questions, and their boxes."""
    questions, annotations, evidence = [], [], {}
    (out / split).mkdir(parents=True, exist_ok=True)
    for path, image, number, question in _numbered(photos, kept):
        target = out / split / f"{image:012}.jpg"
        if not target.exists():
            _link(path, target)
        head = {"question_id": number, "image_id": image}
        questions.append(head | {"question": question.text})
        annotations.append(head | _annotation(question))
        evidence[number] = sorted(question.boxes)
    for name, entries in (("questions", questions), ("annotations", annotations)):
        _dump(out / "annotations" / f"{split}_{name}.json", {name: entries})
    return len(questions), evidence


def _numbered(
    photos: Sequence[tuple[Path, list[CaptionQuestion]]], kept: set[str]
) -> Iterator[tuple[Path, int, int, CaptionQuestion]]:
    """Photo, ``image_id``, ``question_id`` and question, with the kept answers, of all that have
    one left."""
    for path, questions in photos:
        image = _number(path.name)
        for place, question in enumerate(questions):
            answers = [answer for answer in question.answers if answer in kept]
            if answers:
                yield path, image, 100 * image + place, replace(question, answers=answers)


def _annotation(question: CaptionQuestion) -> dict[str, Any]:
    """An entry of VQA's annotations, without its numbers."""
    best = Counter(question.answers).most_common(1)[0][0]
    given = sorted(question.answers)
    said = [
        {"answer_id": i + 1, "answer": given[i * len(given) // _PEOPLE], "answer_confidence": "yes"}
        for i in range(_PEOPLE)
    ]
    return {
        "question_type": _TYPES[question.kind],
        "answer_type": question.kind,
        "multiple_choice_answer": best,
        "answers": said,
    }


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path.resolve(), target)
    except OSError:  # another disk
        shutil.copyfile(path, target)


def _dump(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), "utf-8")
