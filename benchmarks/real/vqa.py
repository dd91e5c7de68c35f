"""A VQA model of real photos, on questions made of captions and on those of VQA v2.

    vlcam questions --data DATA/flickr8k --entities DATA/flickr30k_entities/annotations.zip --out Q
    vlcam train vqa --data Q --out MODEL ...
    python -m benchmarks.real.vqa --data ../shared/data --questions Q --model MODEL
        [--question-only MODEL]

On the test photos' questions, by type:

1. accuracy, beside the most frequent training answer to questions of that type, and beside a model
   that never sees a photo;
2. whether maps peak in the boxes that show the answer, and their box ratio there;
3. rank correlation with occlusion.

Then accuracy on the VQA v2 questions under ``DATA/vqa``, about photos under ``DATA/coco``, as the
model is. Results are sums over many items; nothing of the data is written.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import vqa
from benchmarks.shared import answering, program, report
from benchmarks.shared.report import Table
from vlcam import look
from vlcam.attribution import methods, targets
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import explain_targets
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.cli.arguments import methods_argument
from vlcam.evaluation.tables import table
from vlcam.geometry.grid import Placement, place
from vlcam.geometry.peaks import peaks
from vlcam.metrics.box_ratio import Box, BoxMeans, box_means, boxes_in_input
from vlcam.metrics.pointing import centre, centred_gaussian, hit, points_at
from vlcam.utils.terminal import progress
from vqa.answering.answerer import Answerer
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.data.accuracy import accuracy
from vqa.data.make_questions import EVIDENCE
from vqa.data.questions import AnsweredQuestion, read_data, read_questions

KINDS = ("what", "color", "number", "where", "all")
OFFICIAL = ("yes/no", "number", "other", "all")
OWN, RIGHT, FORCED = "own answer", "own answer, right", "people's answer, forced"

Boxes = dict[int, tuple[Box, ...]]
"""Of each question's evidence, in photo pixels, by question id."""


@dataclass(frozen=True)
class Item:
    """A question with the boxes of its evidence, and the model's answer to it."""

    question: AnsweredQuestion
    boxes: tuple[Box, ...]
    answer: str
    target: Target
    right: bool


@dataclass
class Results:
    """What was measured, each with its photo."""

    scored: Table
    pointed: Table
    boxes: dict[tuple[str, ...], list[tuple[str, BoxMeans]]]
    occluded: Table

    @classmethod
    def empty(cls) -> Results:
        return cls(Table(), Table(), {}, Table())


def priors(questions: Sequence[AnsweredQuestion]) -> dict[str, str]:
    """The most frequent answer to questions of each type."""
    counts: dict[str, Counter[str]] = {}
    for one in questions:
        counts.setdefault(one.kind, Counter())[one.answer] += 1
    return {kind: count.most_common(1)[0][0] for kind, count in counts.items()}


def by_photo(questions: Sequence[AnsweredQuestion]) -> dict[Path, list[AnsweredQuestion]]:
    found: dict[Path, list[AnsweredQuestion]] = {}
    for one in questions:
        found.setdefault(one.photo, []).append(one)
    return found


def entries(model: Answerer, items: Sequence[Item]) -> list[tuple[Item, Target, tuple[str, ...]]]:
    """What to explain, and what it counts as: the model's own answers, and what most people said,
    where the model has that answer."""
    found: list[tuple[Item, Target, tuple[str, ...]]] = []
    for item in items:
        found.append((item, item.target, (OWN, RIGHT) if item.right else (OWN,)))
        if item.question.answer in model.answers:
            reading = model.read(model.understand(item.question.text), [item.question.answer])
            found.append((item, targets.units(reading, "logit")[0], (FORCED,)))
    return found


def point(
    model: Answerer,
    encoded: Encoded,
    items: Sequence[Item],
    *,
    names: Sequence[str],
    results: Results,
) -> None:
    """Peaks in the boxes, and box ratios, of the questions that have boxes."""
    asked = entries(model, [item for item in items if item.boxes])
    if not asked:
        return
    photo, placement = encoded.photo, encoded.placement
    at_photo = Placement.identity(placement.photo_size)
    at_input = Placement.identity(placement.input_size)
    union = [boxes_in_input(item.boxes, at_photo) for item, _, _ in asked]
    inside = [boxes_in_input(item.boxes, placement) for item, _, _ in asked]
    for (item, _, counts), mask, box in zip(asked, union, inside, strict=True):
        middle = points_at(mask, centre(placement.photo_size))
        gaussian = box_means(centred_gaussian(box.shape), box)
        for group in counts:
            for row in (f"{group}: {item.question.kind}", f"{group}: all"):
                results.pointed.add(row, "random point", float(mask.mean()), photo=photo)
                results.pointed.add(row, "photo's centre", middle, photo=photo)
            results.boxes.setdefault(("centred Gaussian", group), []).append((photo, gaussian))
    for name in names:
        wanted = [target for _, target, _ in asked]
        found = explain_targets(model, encoded, wanted, methods.get(name))
        highest = peaks(found.maps, found.grid, placement)
        placed = place(found.maps, found.grid, at_input).numpy()
        for i, (item, _, counts) in enumerate(asked):
            ratio = box_means(placed[i], inside[i])
            for group in counts:
                for row in (f"{group}: {item.question.kind}", f"{group}: all"):
                    results.pointed.add(row, name, hit(union[i], *highest[i]), photo=photo)
                results.boxes.setdefault((name, group), []).append((photo, ratio))


def judge(
    model: Answerer, encoded: Encoded, questions: Sequence[AnsweredQuestion], *, boxes: Boxes
) -> list[Item]:
    """The model's answers to a photo's questions."""
    given = answering.answers(model, encoded, [one.text for one in questions])
    return [
        Item(
            one,
            boxes.get(one.number, ()),
            answer=said,
            target=target,
            right=accuracy(said, one.answers) == 1,
        )
        for one, (said, target) in zip(questions, given, strict=True)
    ]


def made_questions(
    model: Answerer, blind: CnnAnswerer | None, args: argparse.Namespace
) -> list[str]:
    """The chapters on questions made of captions."""
    splits = read_data(args.questions)
    if not splits.test:
        raise ValueError(f"{args.questions}: no questions of test photos")
    boxes = read_boxes(args.questions / "annotations" / EVIDENCE)
    prior = priors(splits.train)
    photos = list(by_photo(splits.test).items())[: args.photos]
    patches = [Patch(size, args.stride) for size in args.patches]
    results = Results.empty()
    for done, (path, questions) in enumerate(progress.each(photos, "photos", unit="photo")):
        encoded = look(model, path)
        items = judge(model, encoded, questions, boxes=boxes)
        texts = [one.text for one in questions]
        guesses = answering.blind_answers(blind, texts) if blind else None
        for i, item in enumerate(items):
            said = {"model": item.answer, "most frequent": prior[item.question.kind]}
            if guesses:
                said["question only"] = guesses[i]
            for who, answer in said.items():
                for row in (item.question.kind, "all"):
                    worth = accuracy(answer, item.question.answers)
                    results.scored.add(row, who, worth, photo=encoded.photo)
        point(model, encoded, items, names=args.methods, results=results)
        if done < args.occluded:
            answering.occlude(
                model,
                encoded,
                [item.target for item in items],
                photo=encoded.photo,
                patches=patches,
                names=args.compared,
                results=results.occluded,
            )
    return made_chapters(results, len(photos), args=args, patches=patches)


def made_chapters(
    results: Results, photos: int, *, args: argparse.Namespace, patches: Sequence[Patch]
) -> list[str]:
    """The tables of :func:`made_questions`, as chapters."""
    who = ("most frequent", "question only", "model")
    scores = [
        (kind, results.scored.count(kind, "model"), *(results.scored.share(kind, w) for w in who))
        for kind in KINDS
    ]
    columns = ("random point", "photo's centre", *args.methods)
    points = [
        (
            row,
            results.pointed.count(row, columns[0]),
            *(results.pointed.share(row, c) for c in columns),
        )
        for row in (f"{group}: {kind}" for group in (OWN, RIGHT, FORCED) for kind in KINDS)
    ]
    parts = [
        f"## Questions made of captions: {photos} test photos",
        "Accuracy, %, of the official kind. Most frequent: the training answer most given to"
        " questions of that type. Question only: a model of the same kind that sees no photo.",
        table(("questions", "number", *who), scores),
        "Maps that peak in a box of what the answer names, %, of the questions that have one:",
        table(("map of", "number", *columns), points),
        "Box ratio there, at input resolution, the box being the union of the boxes:",
        report.box_table(("method", "map of"), results.boxes),
    ]
    if args.occluded:
        parts += answering.occlusion_part(
            results.occluded,
            photos=f"{min(args.occluded, photos)} photos",
            names=args.compared,
            patches=patches,
        )
    return parts


def read_boxes(path: Path) -> Boxes:
    """The boxes of each question's evidence.

    Raises:
        ValueError: the file is missing or not of that form.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        return {int(n): tuple((a, b, c, d) for a, b, c, d in some) for n, some in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of evidence ({error})") from error


def official_kind(question: AnsweredQuestion) -> str:
    """VQA's answer type, guessed from the answer where the file does not say it."""
    if question.kind:
        return question.kind
    if question.answer in ("yes", "no"):
        return "yes/no"
    return "number" if question.answer.isdigit() else "other"


def official_questions(
    model: Answerer, blind: CnnAnswerer | None, args: argparse.Namespace
) -> list[str]:
    """The chapter on the questions of VQA v2."""
    folder, skipped = args.data / "vqa", list[str]()
    photos = [path for path in (args.data / "coco").glob("*2017/*.jpg")]
    questions = list(
        read_questions(
            folder / "questions.json",
            folder / "annotations.json",
            photos=photos,
            subset="",
            skipped=skipped,
        )
    )
    scored = Table()
    refused = 0
    for path, some in progress.each(by_photo(questions).items(), "VQA v2", unit="photo"):
        encoded = look(model, path)
        for one in some:
            said: dict[str, str | None] = {"model": None, "question only": None}
            try:
                said["model"] = answering.answers(model, encoded, [one.text])[0][0]
                if blind:
                    said["question only"] = answering.blind_answers(blind, [one.text])[0]
            except ValueError:  # it knows no word of the question: no answer, no point
                refused += 1
            best = max(accuracy(answer, one.answers) for answer in model.answers)
            for row in (official_kind(one), "all"):
                scored.add(row, "any of its answers", best, photo=encoded.photo)
                for who, answer in said.items():
                    worth = accuracy(answer, one.answers) if answer else 0.0
                    scored.add(row, who, worth, photo=encoded.photo)
    columns = ("any of its answers", "model", *(("question only",) if blind else ()))
    rows = [
        (kind, scored.count(kind, "model"), *(scored.share(kind, c) for c in columns))
        for kind in OFFICIAL
    ]
    single = sum(len(one.answers) == 1 for one in questions)
    return [
        f"## VQA v2: {len(questions)} questions about {len(by_photo(questions))} COCO photos",
        f"Accuracy, %; {single} of the questions have one answer instead of ten. Any of its"
        " answers: what would be reached if of all answers the model has it always gave the best."
        f" Questions without a word that it knows, which count as wrong: {refused}. Skipped:"
        f" {len(skipped)}.",
        table(("questions", "number", *columns), rows),
    ]


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--data", type=Path, required=True, help="holds vqa/ and coco/")
    parser.add_argument("--questions", type=Path, required=True, help="by vlcam questions")
    parser.add_argument("--model", type=Path, required=True, help="a VQA model's folder")
    parser.add_argument("--layer", help="of the CNN (default: the model's)")
    parser.add_argument("--question-only", help="trained by vlcam train vqa --question-only")
    parser.add_argument("--photos", type=int, help="only so many test photos")
    methods_argument(parser, default=["grad-cam", "layercam", "hirescam"], nargs="+")
    parser.add_argument("--occluded", type=int, default=30, help="test photos (default 30)")
    parser.add_argument(
        "--compared", nargs="+", default=["grad-cam", "layercam", "guided-backprop"]
    )
    parser.add_argument(
        "--patches", type=int, nargs="+", default=[64, 96, 128], help="sizes in pixels"
    )
    parser.add_argument("--stride", type=int, default=32, help="pixels (default 32)")
    program.run(parser, measure)


def measure(args: argparse.Namespace) -> tuple[str, list[str]]:
    model = vqa.load(args.model, args.layer)
    blind = answering.load_blind(args.question_only) if args.question_only else None
    parts = [*made_questions(model, blind, args), *official_questions(model, blind, args)]
    return f"VQA model {model.name} on real photos, layer {model.layer}", parts


if __name__ == "__main__":
    main()
