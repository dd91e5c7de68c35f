"""A package of somebody else's, written here and installed by pip, adds a family of models, a
method, an experiment, a training and a command, and nothing of ours is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.command_line import OF_SCENES

ROOT = Path(__file__).parents[1]

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "acme-maps"
version = "1.0"

[project.entry-points."vlcam.models"]
acme = "acme:FAMILIES"

[project.entry-points."vlcam.methods"]
acme = "acme.method:METHODS"

[project.entry-points."vlcam.commands"]
acme = "acme:COMMANDS"

[project.entry-points."vlcam.trainers"]
acme = "acme:TRAINERS"

[project.entry-points."vlcam.experiments"]
acme = "acme:EXPERIMENTS"

[tool.setuptools]
packages = ["acme"]
"""

REGISTRY = """
from vlcam.cli.commands import Command
from vlcam.models import family

FAMILIES = [family("acme", "captioner", "Acme's captioner", "acme.family")]
COMMANDS = [Command("greet", "Says hello.", "acme.greet")]
TRAINERS = [Command("acme", "Train Acme's captioner.", "acme.greet")]
EXPERIMENTS = [Command("strength", "How strong maps are.", "acme.evaluate_strength")]
"""

FAMILY = """
from pathlib import Path

import captioning


def recognises(path: Path) -> bool:
    return path.is_file() and path.read_bytes() == b"acme"


def load(path: Path, layer=None):
    model = captioning.load("scenes", layer)
    model.name = path.stem
    return model
"""

METHOD = """
from vlcam.attribution.methods import Method


def grad_cam_squared(maps, gradients):
    "L = ReLU(sum_k alpha_k A_k)^2"
    return (gradients.mean((2, 3), keepdim=True) * maps).sum(1).relu() ** 2


METHODS = [Method("acme-cam", "Grad-CAM, squared", "layer", grad_cam_squared)]
"""

GREET = """
def add_arguments(parser):
    parser.add_argument("name")


def run(args):
    print("hello", args.name)
    return 0
"""

EXPERIMENT = """
from pathlib import Path

from vlcam.attribution import targets
from vlcam.evaluation.experiment import Asked, Experiment, Item
from vlcam.evaluation.summary import Summary, Table
from vlcam.metrics.estimates import mean


class Strength(Experiment[Asked]):
    name, title, kind, worth = "strength", "Strength", "captioner", "greatest"
    columns = {"image": str, "target": int, "map": str, "greatest": float}

    def __init__(self, photos: Path) -> None:
        self.photos = photos

    @property
    def items(self):
        return [Item(path.name, path) for path in sorted(self.photos.iterdir())][:2]

    def settings(self):
        return {"photos": str(self.photos)}

    def ask(self, model, item, photo, written):
        return Asked(item, photo, targets.units(model.read("a dog")))

    def score(self, model, asked, method, found):
        for i, values in enumerate(found.maps):
            about = {"image": asked.item.name, "target": i, "map": method}
            yield about | {"greatest": float(values.max())}

    def baselines(self, model, asked):
        return iter(())

    def summarise(self, records):
        rows = tuple(
            (name, mean(some["greatest"], some["image"]))
            for name, some in records.by("map").items()
        )
        return Summary((Table("Strength", ("map", "greatest"), rows, "figure"),), ())
"""

EVALUATE = """
from pathlib import Path

from vlcam.cli import evaluate


def add_arguments(parser):
    parser.add_argument("--photos", type=Path, required=True)
    evaluate.add_arguments(parser, "strength")


def run(args):
    def experiment():
        from acme.experiment import Strength

        return Strength(args.photos)

    return evaluate.run(args, experiment)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of processes that find the package, installed by pip beside what is there."""
    folder = tmp_path_factory.mktemp("acme")
    source, installed = folder / "source", folder / "installed"
    (source / "acme").mkdir(parents=True)
    (source / "pyproject.toml").write_text(PYPROJECT)
    for name, text in (
        ("__init__", REGISTRY),
        ("family", FAMILY),
        ("method", METHOD),
        ("greet", GREET),
        ("experiment", EXPERIMENT),
        ("evaluate_strength", EVALUATE),
    ):
        (source / "acme" / f"{name}.py").write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(installed), str(source)], check=True
    )
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}


def vlcam(environment: dict[str, str], *arguments: object) -> str:
    command = [sys.executable, "-m", "vlcam", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_commands_stand_beside_ours(environment: dict[str, str]) -> None:
    text = vlcam(environment, "--help")
    assert "greet" in text and "Says hello." in text and "regions" in text
    assert vlcam(environment, "greet", "you") == "hello you\n"
    assert vlcam(environment, "train", "acme", "you") == "hello you\n"
    assert "strength" in vlcam(environment, "evaluate", "--help")


def test_its_family_and_its_method(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "tnt.acme").write_bytes(b"acme")
    listed = vlcam(environment, "models").splitlines()
    assert [line.split() for line in listed if line.startswith("acme ")] == [
        ["acme", "captioner:", "Acme's", "captioner"]
    ]
    photo = ROOT / "vlcam" / "bundled" / "photos" / "dogs-clock.jpg"
    command = ("explain", photo, "--caption", "a dog", "--out", tmp_path / "out")
    vlcam(environment, *command, "--model", tmp_path / "tnt.acme", "--method", "acme-cam")
    said = json.loads((tmp_path / "out" / "dogs-clock" / "explanation.json").read_text())
    assert (said["model"], said["method"]) == ("tnt", "acme-cam")


def test_its_experiment(environment: dict[str, str], tmp_path: Path) -> None:
    photos = ROOT / "vlcam" / "bundled" / "photos"
    methods = (*OF_SCENES, "--method", "grad-cam,acme-cam")
    text = vlcam(
        environment, "evaluate", "strength", "--photos", photos, "--out", tmp_path / "out", *methods
    )
    assert "acme-cam" in text and "grad-cam" in text
    assert (tmp_path / "out" / "report.html").is_file()
