"""``vlcam evaluate attention``: how maps of a VQA model agree with where people looked.

The protocol of VQA-HAT (``vqa/human_attention.py``); the paper reports 0.136 for Grad-CAM of the
deeper LSTM question + normalised image model, over 1,374 questions. Beside the methods stand a map
of noise, a centred Gaussian, a uniform map, and people against each other.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from tqdm import tqdm

from vlcam import methods
from vlcam.explaining import Encoded, explain, look
from vlcam.explanation import Explanation
from vlcam.geometry import place
from vlcam.metrics import centred_gaussian, mean
from vlcam.models import load
from vlcam.tables import figure, table
from vlcam.writing import written
from vqa.accuracy import normalised
from vqa.answerer import Answerer
from vqa.data import Asked, read_data
from vqa.human_attention import (
    CELLS,
    Agreement,
    HumanMaps,
    agreement,
    between_people,
    find,
    on_cells,
    read,
)

PAPER = "Selvaraju et al. (2019), VQA-HAT, 1,374 questions: Grad-CAM 0.136; chance 0."
PEOPLE = "people, against each other"


@dataclass(frozen=True)
class Settings:
    """What to evaluate; see ``vqa/attention_command.py`` for each."""

    model: str
    data: Path
    maps: Path | None = None
    method: str = "grad-cam"
    answer: Literal["predicted", "given"] = "predicted"
    layer: str | None = None
    limit: int | None = None
    seed: int = 0
    out: Path = Path("attention")

    @property
    def methods(self) -> list[methods.Method]:
        """Raises ValueError for a name that is no method's."""
        return [methods.get(name.strip()) for name in self.method.split(",")]


@dataclass(frozen=True)
class Record:
    """A question's map by one method, or a baseline, against its people's maps."""

    question: int
    photo: str
    map: str
    value: float
    constant: bool


def evaluate(how: Settings) -> dict[str, Any]:
    """Evaluate, print a table, write ``summary.md`` and ``summary.json``, and return the latter.

    Raises:
        ValueError: model, data, maps or a method cannot be used, or no question is left.
    """
    names = [method.name for method in how.methods]
    if how.limit is not None and how.limit < 1:
        raise ValueError(f"--limit {how.limit}: must be at least 1")
    maps = find(how.maps or how.data / "attention")
    splits = read_data(how.data, how.seed)
    every = {asked.number: asked for asked in (*splits.train, *splits.val, *splits.test)}
    strangers = [n for n in maps.files if n not in every]
    skipped = [*splits.skipped, *maps.skipped]
    skipped += [f"question {n}: has maps, but is not in the data" for n in strangers]
    chosen = _chosen([every[n] for n in maps.files if n in every], how)
    model = cast(Answerer, load(how.model, how.layer, "vqa"))
    records: list[Record] = []
    encoded: Encoded | None = None
    for asked in tqdm(chosen, "questions", unit="question"):
        try:
            if encoded is None or encoded.photo != str(asked.photo):
                encoded = look(model, asked.photo)
            records += _records(model, encoded, asked, maps, names, how)
        except ValueError as error:
            skipped.append(f"question {asked.number}: {error}")
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)
    if not records:
        raise ValueError(f"{how.data}: no question could be evaluated")
    return _summary(how, model, records, skipped)


def _chosen(asked: Sequence[Asked], how: Settings) -> list[Asked]:
    """Questions of one photo stand together, so that it is looked at once."""
    rows = list(range(len(asked)))
    if how.limit is not None and how.limit < len(asked):
        rows = np.random.default_rng(how.seed).permutation(len(asked)).tolist()[: how.limit]
    return sorted((asked[i] for i in rows), key=lambda one: (str(one.photo), one.number))


def _records(
    model: Answerer,
    encoded: Encoded,
    asked: Asked,
    maps: HumanMaps,
    names: Sequence[str],
    how: Settings,
) -> Iterator[Record]:
    size = encoded.placement.photo_size
    human = [read(path, size) for path in maps.files[asked.number]]
    answers = None if how.answer == "predicted" else [normalised(asked.answer)]
    found: dict[str, Agreement] = {}
    for name in names:
        explanation = explain(
            model, encoded, question=asked.text, answers=answers, top=1, method=name
        )
        found[name] = agreement(_cells(explanation), human)
    if explanation.attention is not None:
        own = explanation.attention
        for look, one in zip(own.looks, own.maps, strict=True):
            drawn = place(one[None], own.grid, explanation.placement)
            found[f"own attention: {look.text}"] = agreement(on_cells(drawn)[0], human)
    noise = np.random.default_rng([how.seed, asked.number]).random(CELLS)
    found["noise"] = agreement(noise, human)
    found["centred Gaussian"] = agreement(centred_gaussian(CELLS), human)
    found["uniform (all ties)"] = agreement(np.ones(CELLS), human)
    people = between_people(human)
    if people is not None:
        found[PEOPLE] = people
    for name, one in found.items():
        yield Record(asked.number, str(asked.photo), name, one.value, one.constant)


def _cells(explanation: Explanation) -> np.ndarray:
    return on_cells(place(explanation.maps, explanation.grid, explanation.placement))[0]


def _summary(
    how: Settings, model: Answerer, records: Sequence[Record], skipped: Sequence[str]
) -> dict[str, Any]:
    rows, figures = [], {}
    for name in dict.fromkeys(record.map for record in records):
        some = [record for record in records if record.map == name]
        estimate = mean([r.value for r in some], [r.photo for r in some])
        constant = sum(r.constant for r in some)
        low, high = estimate.interval
        rows.append(
            (name, figure(estimate, 3), f"{low:.3f} ... {high:.3f}", estimate.items, constant)
        )
        figures[name] = asdict(estimate) | {"constant": constant}
    simulated = _simulated(how)
    text = "\n\n".join(
        [
            f"# {model.name} against {'simulated' if simulated else 'human'} attention",
            table(("map", "rank correlation", "95 %", "questions", "constant, counted as 0"), rows),
            f"Spearman's rank correlation on {CELLS[0]} x {CELLS[1]} cells, the mean over a"
            f" question's maps, of the {how.answer} answer; ± is the standard error, images being"
            f" the independent draws. Layer {model.layer}. Skipped: {len(skipped)}.",
            PAPER,
        ]
    )
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(how).items()}
    summary = {
        "settings": settings,
        "model": model.name,
        "layer": model.layer,
        "simulated": simulated,
        "figures": figures,
        "skipped": list(skipped),
        "records": [asdict(record) for record in records],
    }
    print(text)
    how.out.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("summary.md", text + "\n"),
        ("summary.json", json.dumps(summary, indent=1) + "\n"),
    ):
        with written(how.out / name) as draft:
            draft.write_text(content, "utf-8")
    return summary


def _simulated(how: Settings) -> bool:
    """Whether the folder of maps says that no people drew them, as those of the scenes do."""
    note = (how.maps or how.data / "attention") / "README.md"
    return note.is_file() and "simulated" in note.read_text("utf-8").lower()
