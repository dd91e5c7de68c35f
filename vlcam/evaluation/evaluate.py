"""From a model and an experiment to tables: what ``vlcam evaluate`` does."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from vlcam.adapters.adapter import Adapter
from vlcam.attribution import methods
from vlcam.evaluation import gallery, report, runner, summary
from vlcam.evaluation import ray_runner as on_ray
from vlcam.evaluation.experiment import Experiment
from vlcam.evaluation.ray_runner import Cluster
from vlcam.evaluation.store import opened
from vlcam.models import families_that_attend, load
from vlcam.utils.files.atomic import folder_written

_VERSIONS = ("vlcam", "torch", "torchvision", "numpy", "pycocotools")


@dataclass(frozen=True)
class How:
    """What to evaluate an experiment with.

    Attributes:
        model: what :func:`vlcam.load` takes.
        methods: their names.
        layer: None: the model's own.
        size: of the square input; None: the model's own.
        out: the folder for records and summaries.
        resume: go on with what is there.
        part: photos whose records are written together; a kill loses those of one part at most.
        cluster: to run on Ray; None: in this process.
        device, yes: as for :func:`vlcam.load`.
    """

    model: str
    methods: Sequence[str]
    out: Path
    layer: str | None = None
    size: int | None = None
    resume: bool = False
    part: int = runner.PART
    cluster: Cluster | None = None
    device: str | None = None
    yes: bool = False

    def load(self, kind: str) -> Adapter:
        return load(
            self.model,
            layer=self.layer,
            kind=kind,
            size=(self.size, self.size) if self.size else None,
            device=self.device,
            yes=self.yes,
        )


def evaluate(experiment: Experiment, how: How) -> summary.Summary:
    """Run an experiment, print its tables, and write ``summary.json``, ``summary.md``,
    ``summary.tex`` and ``report.html`` beside its records.

    Raises:
        ValueError: model, data, a method or the folder cannot be used, or no photo is left.
    """
    chosen = tuple(dict.fromkeys(methods.get(name.strip()) for name in how.methods))
    if not experiment.items:
        why = "; ".join(experiment.skipped[:3]) or "the annotations name none"
        raise ValueError(f"no photo to evaluate ({why})")
    model = how.load(experiment.kind)
    about = manifest(experiment, model, [method.name for method in chosen], how.part)
    with opened(how.out, about, experiment.columns, resume=how.resume) as store:
        work = runner.Work(experiment, chosen, how.part)
        if how.cluster is None:
            with families_that_attend():
                runner.run(work, model, store)
        else:
            on_ray.run(work, partial(how.load, experiment.kind), store, how.cluster)
        records, lines = runner.read_all(work, store)
        skipped = [*experiment.skipped, *lines]
        for line in told_once(skipped):
            print(f"skipped: {line}", file=sys.stderr)
        if not len(records):
            raise ValueError(f"{how.out}: nothing could be scored")
        tables = experiment.summarise(records)
        title = f"{experiment.title} of {model.name}, layer {model.layer}"
        shown = list(gallery.pictures(experiment, model, chosen[0], records))
        text = summary.to_markdown(tables, title, about=about, skipped=skipped)
        told = gallery.about(experiment, chosen[0])
        page = report.page(
            tables, title, about=about, skipped=skipped, shown=shown, about_shown=told
        )
        with folder_written(how.out) as draft:
            for name, content in (
                ("summary.json", summary.to_json(tables, about=about, skipped=skipped)),
                ("summary.md", text),
                ("summary.tex", summary.to_latex(tables)),
                ("report.html", page),
            ):
                (draft / name).write_text(content, "utf-8")
    print(text)
    print(f"-> {how.out / 'report.html'}")
    return tables


def told_once(skipped: Sequence[str]) -> list[str]:
    """Lines about things that could not be used (``name: reason``), those with one reason in one
    line where they are many."""
    names: dict[str, list[str]] = {}
    for line in skipped:
        name, _, reason = line.partition(": ")
        names.setdefault(reason, []).append(name)
    many = {reason: some for reason, some in names.items() if reason and len(some) > _FEW}
    lines: dict[str, None] = {}  # each once, in their order
    for line in skipped:
        reason = line.partition(": ")[2]
        if reason in many:
            some = many[reason]
            line = f"{', '.join(some[:_FEW])} and {len(some) - _FEW} more: {reason}"
        lines[line] = None
    return list(lines)


_FEW = 3


def manifest(
    experiment: Experiment, model: Adapter, names: Sequence[str], part: int
) -> dict[str, Any]:
    """All that an experiment's records depend on."""
    items = "\n".join(item.name for item in experiment.items)
    return {
        "experiment": experiment.name,
        "settings": experiment.settings(),
        "model": model.name,
        "layer": model.layer,
        "input": _input_size(model),
        "weights": digest(model.module),
        "methods": list(names),
        "photos": len(experiment.items),
        "part": part,
        "names": hashlib.sha256(items.encode()).hexdigest()[:16],
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _VERSIONS},
        },
    }


def _input_size(model: Adapter) -> list[int] | None:
    """(height, width); None where the model is not fed pixels."""
    if not model.sees_pixels:
        return None
    return list(model.prepare(Image.new("RGB", (8, 8)))[0].shape[1:])


def digest(module: nn.Module) -> str:
    """A hash of a model's weights."""
    found = hashlib.sha256()
    for name, value in module.state_dict().items():
        found.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
