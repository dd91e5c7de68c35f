"""The bundled VQA model on scenes it has never seen, where everything is known.

    vlcam scenes /tmp/unseen --images 1000 --seed SEED
    python -m benchmarks.scenes.vqa --scenes /tmp/unseen [--question-only MODEL]

1. accuracy (the official one), beside a model that never sees a photo;
2. whether the map of the model's own answer peaks on the things the question is about;
3. hydrants with a red body and a yellow cap (Fig. 12a of the paper, as a number): where "red" and
   "yellow" peak, and likewise of all hydrants of two colours, as they are;
4. rank correlation of maps with occlusion, on the places of the patch.

Which pixels show what is not in VQA's files: the scenes are drawn again from their seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import vqa
from benchmarks.shared import answering, program
from benchmarks.shared.report import Table
from vlcam import look
from vlcam.attribution import methods, targets
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import explain_targets
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.cli.arguments import methods_argument
from vlcam.evaluation.tables import table
from vlcam.geometry.peaks import peaks
from vlcam.metrics.pointing import Mask, centre, hit, points_at
from vlcam.scenes.questions import SceneQuestion, questions
from vlcam.scenes.scene import Item, Scene, scene
from vlcam.utils.terminal import progress
from vqa.answering.answerer import Answerer
from vqa.data.accuracy import accuracy
from vqa.data.questions import AnsweredQuestion, read_data

HYDRANT = "fire hydrant"
ASK_COLOUR = f"what color is the {HYDRANT}?"
PAINTED = {HYDRANT: {"body": "red", "cap": "yellow"}}


@dataclass(frozen=True)
class Entry:
    """A question of the files, and the scene's own, which knows what it is about."""

    answered: AnsweredQuestion
    question: SceneQuestion
    kind: str


def kind_of(question: SceneQuestion) -> str:
    if question.answer_type == "yes/no":
        return "yes/no"
    for start, kind in (("what color", "colour"), ("where", "where"), ("how many", "count")):
        if question.text.startswith(start):
            return kind
    return "what"


KINDS = ("what", "where", "colour", "count", "yes/no")


def by_photo(folder: Path, limit: int) -> Iterator[tuple[Path, int, Scene, list[Entry]]]:
    """Each photo with its number, its scene drawn again, and its questions.

    Raises:
        ValueError: the files do not hold the questions of the scenes that their seed names.
    """
    seed = json.loads((folder / "annotations" / "questions.json").read_text("utf-8"))["info"][
        "seed"
    ]
    splits = read_data(folder)
    answered: dict[Path, list[AnsweredQuestion]] = {}
    for one in sorted((*splits.train, *splits.val), key=lambda one: one.number):
        answered.setdefault(one.photo, []).append(one)
    for path, some in progress.each(list(answered.items())[:limit], "scenes", unit="scene"):
        number = int(path.stem)
        drawn = scene(seed, number - 1)
        known = questions(drawn)
        if [q.text for q in known] != [one.text for one in some]:
            raise ValueError(f"{folder}: scene {number} has other questions: of another version?")
        items = [Entry(a, q, kind_of(q)) for a, q in zip(some, known, strict=True)]
        yield path, number, drawn, items


def union(items: Sequence[Item]) -> Mask:
    shown: Mask = np.any([item.mask for item in items], axis=0)
    return shown


def point(
    model: Answerer,
    encoded: Encoded,
    items: Sequence[tuple[Entry, Target, bool]],
    *,
    number: int,
    names: Sequence[str],
    results: Table,
) -> None:
    """Point with the model's answers of a photo's questions that are about something in it."""
    visible = [one for one in items if one[0].question.items]
    if not visible:
        return
    masks = [union(one.question.items) for one, _, _ in visible]
    for (one, _, right), mask in zip(visible, masks, strict=True):
        for row in (one.kind, "all", *(("right answers",) if right else ())):
            results.add(row, "random point", float(mask.mean()), photo=number)
            middle = points_at(mask, centre((mask.shape[0], mask.shape[1])))
            results.add(row, "photo's centre", middle, photo=number)
    for name in names:
        asked = [target for _, target, _ in visible]
        found = explain_targets(model, encoded, asked, methods.get(name))
        highest = peaks(found.maps, found.grid, encoded.placement)
        for (one, _, right), mask, peak in zip(visible, masks, highest, strict=True):
            for row in (one.kind, "all", *(("right answers",) if right else ())):
                results.add(row, name, hit(mask, *peak), photo=number)


def forced(
    model: Answerer,
    photo: Scene,
    *,
    number: int,
    row: str,
    names: Sequence[str],
    results: Table,
) -> None:
    """Force the body's and the cap's colour as answers, where there is one hydrant of two."""
    hydrants = [item for item in photo.items if item.category == HYDRANT]
    if len(hydrants) != 1 or not {"body", "cap"} <= set(hydrants[0].parts):
        return
    colours = [hydrants[0].appearance.colours[part] for part in ("body", "cap")]
    if colours[0] == colours[1]:
        return
    encoded = look(model, photo.photo)
    question = model.understand(ASK_COLOUR)
    reading = model.read(question, colours)
    asked = targets.units(reading, "logit")
    both = " and ".join(colours)
    best = answering.answers(model, encoded, [ASK_COLOUR])[0][0]
    for name in names:
        found = explain_targets(model, encoded, asked, methods.get(name))
        highest = peaks(found.maps, found.grid, encoded.placement)
        for part, peak in zip(("body", "cap"), highest, strict=True):
            on_it = hit(hydrants[0].part_mask(part), *peak)
            results.add(f"{row}, {name}", part, on_it, photo=number)
        results.add(f"{row}, {name}", "answered with both", best == both, photo=number)


def evaluate(args: argparse.Namespace) -> tuple[str, list[str]]:
    model = vqa.load(args.model, args.layer)
    blind = answering.load_blind(args.question_only) if args.question_only else None
    scored, pointed, hydrants, occluded = Table(), Table(), Table(), Table()
    patches = [Patch(size, args.stride) for size in args.patches]
    for done, (path, number, drawn, items) in enumerate(by_photo(args.scenes, args.images)):
        encoded = look(model, path)
        texts = [one.answered.text for one in items]
        given = answering.answers(model, encoded, texts)
        guessed = answering.blind_answers(blind, texts) if blind else [None] * len(texts)
        worth = [
            accuracy(said, one.answered.answers)
            for one, (said, _) in zip(items, given, strict=True)
        ]
        for one, value, guess in zip(items, worth, guessed, strict=True):
            for row in (one.kind, "all"):
                scored.add(row, "model", value, photo=number)
                if guess is not None:
                    right = accuracy(guess, one.answered.answers)
                    scored.add(row, "question only", right, photo=number)
        judged = [
            (one, target, value == 1)
            for one, (_, target), value in zip(items, given, worth, strict=True)
        ]
        about = {"number": number, "names": args.methods}
        point(model, encoded, judged, **about, results=pointed)
        forced(model, drawn, row="as they are", **about, results=hydrants)
        if any(item.category == HYDRANT for item in drawn.items):
            painted = scene(drawn.seed, drawn.index, PAINTED)
            forced(model, painted, row="painted red and yellow", **about, results=hydrants)
        if done < args.occluded:
            answering.occlude(
                model,
                encoded,
                [target for _, target in given],
                photo=number,
                patches=patches,
                names=args.compared,
                results=occluded,
            )
    parts = [
        f"{args.images} scenes of {args.scenes.name}; {scored.count('all', 'model')} questions.",
        "## Accuracy, %",
        accuracy_table(scored),
        "## Peak on what the question is about, %",
        "The map of the model's own answer, right or wrong; of questions about something that is"
        " in the scene.",
        pointing_table(pointed, args.methods),
        "## Hydrants of two colours, %",
        f"{ASK_COLOUR!r}, the body's and the cap's colour forced as answers: peak on that part.",
        hydrant_table(hydrants, args.methods),
    ]
    if args.occluded:
        parts += answering.occlusion_part(
            occluded, photos=f"{args.occluded} scenes", names=args.compared, patches=patches
        )
    return f"VQA model {model.name} on unseen scenes, layer {model.layer}", parts


def accuracy_table(scored: Table) -> str:
    columns = ("model", "question only")
    rows = [
        (kind, scored.count(kind, "model"), *(scored.share(kind, c) for c in columns))
        for kind in (*KINDS, "all")
    ]
    return table(("questions", "number", *columns), rows)


def pointing_table(pointed: Table, names: Sequence[str]) -> str:
    columns = ("random point", "photo's centre", *names)
    rows = [
        (kind, pointed.count(kind, "random point"), *(pointed.share(kind, c) for c in columns))
        for kind in (*KINDS, "all", "right answers")
    ]
    return table(("questions", "number", *columns), rows)


def hydrant_table(hydrants: Table, names: Sequence[str]) -> str:
    columns = ("body", "cap", "answered with both")
    rows = [
        (row, hydrants.count(row, "body"), *(hydrants.share(row, c) for c in columns))
        for kind in ("painted red and yellow", "as they are")
        for row in (f"{kind}, {name}" for name in names)
    ]
    return table(("hydrants", "number", *columns), rows)


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--scenes", type=Path, required=True, help="written by vlcam scenes")
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--layer", help="of the CNN (default: the model's)")
    parser.add_argument("--question-only", help="trained by vlcam train vqa --question-only")
    parser.add_argument("--images", type=int, default=1000)
    methods_argument(parser, default=["grad-cam"], nargs="+")
    parser.add_argument("--occluded", type=int, default=30, help="scenes (default 30)")
    parser.add_argument("--compared", nargs="+", default=["grad-cam", "guided-backprop"])
    parser.add_argument(
        "--patches", type=int, nargs="+", default=[64, 96, 128], help="sizes in pixels"
    )
    parser.add_argument("--stride", type=int, default=16, help="pixels (default 16)")
    program.run(parser, evaluate)


if __name__ == "__main__":
    main()
