"""The bundled VQA model on scenes it has never seen, where everything is known.

    vlcam scenes /tmp/unseen --images 1000 --seed SEED
    python benchmarks/scenes_vqa.py --scenes /tmp/unseen [--question-only MODEL]

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
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import report
import torch
from torch import Tensor
from tqdm import tqdm

import vqa
from vlcam import look, methods, targets
from vlcam.explaining import Encoded, explain_targets
from vlcam.faithfulness import on_patches, rank_correlation
from vlcam.geometry import Grid, degenerate, peak, place
from vlcam.metrics import Mask, centre, hit, mean, points_at
from vlcam.occlusion import Patch
from vlcam.scenes.questions import Question, questions
from vlcam.scenes.scene import Item, Scene, scene
from vlcam.tables import figure, share, table
from vlcam.targets import Target
from vqa.accuracy import accuracy
from vqa.answerer import Answerer
from vqa.cnn_answerer import CnnAnswerer
from vqa.data import Asked, read_data

HYDRANT = "fire hydrant"
ASK_COLOUR = f"what color is the {HYDRANT}?"
PAINTED = {HYDRANT: {"body": "red", "cap": "yellow"}}


@dataclass(frozen=True)
class Entry:
    """A question of the files, with what the scene knows of it."""

    asked: Asked
    question: Question
    kind: str


class Table:
    """Values by row and column, each with its photo."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)

    def add(self, row: str, column: str, value: float, photo: int) -> None:
        self.values[row, column].append((value, photo))

    def cell(self, row: str, column: str, percent: bool = True) -> str:
        found = self.values.get((row, column))
        if not found:
            return ""
        estimate = mean([value for value, _ in found], [photo for _, photo in found])
        return share(estimate) if percent else figure(estimate)

    def count(self, row: str, column: str) -> int:
        return len(self.values.get((row, column), ()))


def kind_of(question: Question) -> str:
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
    asked: dict[Path, list[Asked]] = {}
    for one in sorted((*splits.train, *splits.val), key=lambda one: one.number):
        asked.setdefault(one.photo, []).append(one)
    for path, some in tqdm(list(asked.items())[:limit], "scenes"):
        number = int(path.stem)
        drawn = scene(seed, number - 1)
        known = questions(drawn)
        if [q.text for q in known] != [one.text for one in some]:
            raise ValueError(f"{folder}: scene {number} has other questions: of another version?")
        items = [Entry(a, q, kind_of(q)) for a, q in zip(some, known, strict=True)]
        yield path, number, drawn, items


def answers(model: Answerer, encoded: Encoded, texts: Sequence[str]) -> list[tuple[str, Target]]:
    """The likeliest answer to each question, and its logit as a target."""
    found = []
    for question in map(model.understand, texts):
        reading = model.read(question)
        with torch.no_grad():
            seen = encoded.seen(model, reading.prompt)
            best = int(model.decode(seen, [reading.prompt]).argmax())
        found.append((model.answers[best], targets.unit(reading, reading.units[best], "logit")))
    return found


def blind_answers(model: CnnAnswerer, texts: Sequence[str]) -> list[str]:
    """What a question-only model answers."""
    module = model.module
    prompts = [list(model.understand(text).prompt) for text in texts]  # type: ignore[call-overload]
    nothing = torch.zeros(1, module.encoder.feature_size)
    with torch.no_grad():
        encoded = module.encode_question(prompts)
        logits = module(nothing, encoded, torch.zeros(len(prompts), dtype=torch.long))
    return [model.answers[column] for column in logits.argmax(1).tolist()]


def peaks(
    model: Answerer, encoded: Encoded, asked: list[Target], method: str
) -> list[tuple[tuple[int, int], bool]]:
    """Where each map is highest, (x, y) in photo pixels, and whether it is constant."""
    maps, grid = explained(model, encoded, asked, method)
    places = peak(place(maps, grid, encoded.placement))[0]
    return list(zip(places, degenerate(maps), strict=True))


def explained(
    model: Answerer, encoded: Encoded, asked: list[Target], method: str
) -> tuple[Tensor, Grid]:
    """Maps (T, u, v) of answers to any questions, and their grid: question by question, as feature
    maps may depend on it."""
    found = [explain_targets(model, encoded, [target], methods.get(method)) for target in asked]
    return torch.cat([one.maps for one in found]), found[0].grid


def union(items: Sequence[Item]) -> Mask:
    shown: Mask = np.any([item.mask for item in items], axis=0)
    return shown


def point(
    model: Answerer,
    encoded: Encoded,
    number: int,
    items: Sequence[tuple[Entry, Target, bool]],
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
            results.add(row, "random point", float(mask.mean()), number)
            middle = points_at(mask, centre((mask.shape[0], mask.shape[1])))
            results.add(row, "photo's centre", middle, number)
    for name in names:
        found = peaks(model, encoded, [target for _, target, _ in visible], name)
        for (one, _, right), mask, (where, flat) in zip(visible, masks, found, strict=True):
            for row in (one.kind, "all", *(("right answers",) if right else ())):
                results.add(row, name, hit(mask, where, flat), number)


def forced(
    model: Answerer,
    photo: Scene,
    number: int,
    row: str,
    names: Sequence[str],
    results: Table,
) -> None:
    """Force the body's and the cap's colour as answers, where there is one hydrant of two."""
    hydrants = [item for item in photo.items if item.category == HYDRANT]
    if len(hydrants) != 1 or not {"body", "cap"} <= set(hydrants[0].parts):
        return
    colours = [hydrants[0].look.colours[part] for part in ("body", "cap")]
    if colours[0] == colours[1]:
        return
    encoded = look(model, photo.photo)
    question = model.understand(ASK_COLOUR)
    reading = model.read(question, colours)
    asked = targets.units(reading, "logit")
    both = " and ".join(colours)
    best = answers(model, encoded, [ASK_COLOUR])[0][0]
    for name in names:
        found = peaks(model, encoded, asked, name)
        for part, (where, flat) in zip(("body", "cap"), found, strict=True):
            on_it = hit(hydrants[0].part_mask(part), where, flat)
            results.add(f"{row}, {name}", part, on_it, number)
        results.add(f"{row}, {name}", "answered with both", best == both, number)


def occlude(
    model: Answerer,
    encoded: Encoded,
    number: int,
    asked: list[Target],
    patch: Patch,
    names: Sequence[str],
    results: Table,
) -> None:
    size = (encoded.pixels.shape[2], encoded.pixels.shape[3])
    drops = explain_targets(model, encoded, asked, methods.get("occlusion"), patch=patch).maps
    for name in names:
        maps, grid = explained(model, encoded, asked, name)
        coarse = on_patches(maps, grid, patch, size)
        for ours, theirs in zip(coarse, drops, strict=True):
            value = rank_correlation(ours, theirs)
            column = str(patch.size) if value is not None else f"{patch.size}, constant"
            results.add(name, column, value or 0.0, number)


def evaluate(args: argparse.Namespace) -> tuple[Answerer, list[str]]:
    model = vqa.load(args.model, args.layer)
    blind: CnnAnswerer | None = None
    if args.question_only:
        found = vqa.load(args.question_only)
        if not isinstance(found, CnnAnswerer):
            raise ValueError(f"{args.question_only}: not a model that vlcam train vqa wrote")
        blind = found
    scored, pointed, hydrants, occluded = Table(), Table(), Table(), Table()
    patches = [Patch(size, args.stride) for size in args.patches]
    for done, (path, number, drawn, items) in enumerate(by_photo(args.scenes, args.images)):
        encoded = look(model, path)
        texts = [one.asked.text for one in items]
        given = answers(model, encoded, texts)
        guessed = blind_answers(blind, texts) if blind else [None] * len(texts)
        worth = [accuracy(said, i.asked.answers) for i, (said, _) in zip(items, given, strict=True)]
        for one, value, guess in zip(items, worth, guessed, strict=True):
            for row in (one.kind, "all"):
                scored.add(row, "model", value, number)
                if guess is not None:
                    scored.add(row, "question only", accuracy(guess, one.asked.answers), number)
        judged = [
            (one, target, value == 1)
            for one, (_, target), value in zip(items, given, worth, strict=True)
        ]
        point(model, encoded, number, judged, args.methods, pointed)
        forced(model, drawn, number, "as they are", args.methods, hydrants)
        if any(item.category == HYDRANT for item in drawn.items):
            painted = scene(drawn.seed, drawn.index, PAINTED)
            forced(model, painted, number, "painted red and yellow", args.methods, hydrants)
        if done < args.occluded:
            asked = [target for _, target in given]
            for patch in patches:
                occlude(model, encoded, number, asked, patch, args.compared, occluded)
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
        parts += [
            "## Rank correlation with occlusion",
            f"Of the logits of the model's own answers to all questions of {args.occluded} scenes;"
            f" patches of the size in the heading (input pixels) at stride {args.stride}, on whose"
            " places maps are compared: each one, drawn at input size, averaged over the patch.",
            occlusion_table(occluded, args.compared, patches),
        ]
    return model, parts


def accuracy_table(scored: Table) -> str:
    columns = ("model", "question only")
    rows = [
        (kind, scored.count(kind, "model"), *(scored.cell(kind, c) for c in columns))
        for kind in (*KINDS, "all")
    ]
    return table(("questions", "number", *columns), rows)


def pointing_table(pointed: Table, names: Sequence[str]) -> str:
    columns = ("random point", "photo's centre", *names)
    rows = [
        (kind, pointed.count(kind, "random point"), *(pointed.cell(kind, c) for c in columns))
        for kind in (*KINDS, "all", "right answers")
    ]
    return table(("questions", "number", *columns), rows)


def hydrant_table(hydrants: Table, names: Sequence[str]) -> str:
    columns = ("body", "cap", "answered with both")
    rows = [
        (row, hydrants.count(row, "body"), *(hydrants.cell(row, c) for c in columns))
        for kind in ("painted red and yellow", "as they are")
        for row in (f"{kind}, {name}" for name in names)
    ]
    return table(("hydrants", "number", *columns), rows)


def occlusion_table(occluded: Table, names: Sequence[str], patches: Sequence[Patch]) -> str:
    sizes = [str(patch.size) for patch in patches]
    rows = [
        (
            name,
            *(occluded.cell(name, size, percent=False) for size in sizes),
            occluded.count(name, sizes[0]),
            sum(occluded.count(name, f"{size}, constant") for size in sizes),
        )
        for name in names
    ]
    return table(("method", *sizes, "maps", "constant"), rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--scenes", type=Path, required=True, help="written by vlcam scenes")
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--layer", help="of the CNN (default: the model's)")
    parser.add_argument("--question-only", help="trained by vlcam train vqa --question-only")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--methods", nargs="+", default=["grad-cam"])
    parser.add_argument("--occluded", type=int, default=30, help="scenes (default 30)")
    parser.add_argument("--compared", nargs="+", default=["grad-cam", "guided-backprop"])
    parser.add_argument(
        "--patches", type=int, nargs="+", default=[64, 96, 128], help="sizes in pixels"
    )
    parser.add_argument("--stride", type=int, default=16, help="pixels (default 16)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/scenes_vqa.md"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    begun = time.perf_counter()
    try:
        model, parts = evaluate(args)
    except (ValueError, KeyError) as error:
        print(f"scenes_vqa.py: {error}", file=sys.stderr)
        return 2
    title = f"VQA model {model.name} on unseen scenes, layer {model.layer}"
    report.write(args.out, title, parts, time.perf_counter() - begun)
    return 0


if __name__ == "__main__":
    sys.exit(main())
