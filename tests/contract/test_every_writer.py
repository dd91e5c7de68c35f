"""Everything that is written is there whole or not at all, whatever fails, wherever it is killed.

``tests/tools/disk.py`` lets each operation on the disk fail, and kills the program before each.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captioning.data.regions import write_densecap
from tests.samples import by_hand
from tests.tools.command_line import PHOTOS
from tests.tools.disk import check_writer, hidden, killed
from tests.tools.evaluations import SUMMARIES, words
from vlcam.cli import batch, sweep
from vlcam.evaluation.store import Part, check_free, opened
from vlcam.explanation.explanation import Explanation
from vlcam.formats import checkpoint
from vlcam.formats.vocabulary import Vocabulary
from vlcam.photo.preprocess import Preprocess
from vlcam.scenes import write as scenes
from vlcam.training.photo_cache import Photos
from vlcam.training.trainer import STATE, Phase, Schedule, Trainer
from vlcam.utils.files.atomic import recover

Write = Callable[[Path, int], object]
Read = Callable[[Path], object]


def of_version(version: int) -> Explanation:
    return by_hand.explanation(["a", "red", "dog"][:version], size=(12, 16))


def explained(folder: Path) -> object:
    """What an explanation is about, if it is there."""
    place = folder / "photo"
    recover(folder)
    recover(place)
    if not place.exists():
        return None
    found = Explanation.load(place)
    texts = {p.name for p in place.iterdir()} - {"explanation.json", "maps.npz"}
    return [word.text for word in found.words], found.maps.shape, sorted(texts)


def save_explanation(folder: Path, version: int) -> None:
    of_version(version).save(folder / "photo")


def write_explanation(folder: Path, version: int) -> None:
    batch.write(of_version(version), folder / "photo")


def write_layers(folder: Path, version: int) -> None:
    sweep.write([[of_version(version)]], folder)


def layers(folder: Path) -> object:
    recover(folder)
    return explained_layer(folder) if (folder / "layers.png").exists() else None


def explained_layer(folder: Path) -> object:
    (layer,) = (path for path in folder.iterdir() if path.is_dir())
    Image.open(folder / "layers.png").load()
    return [word.text for word in Explanation.load(layer).words]


def save_model(folder: Path, version: int) -> None:
    model = nn.Linear(2, version)
    checkpoint.save_folder(model, {"size": version}, folder)


def model(folder: Path) -> object:
    recover(folder)
    if not (folder / "config.json").exists():
        assert not (folder / "model.safetensors").exists()
        return None

    def build(config: Any, state: dict[str, torch.Tensor]) -> nn.Module:
        assert config["size"] == len(state["bias"])
        return nn.Linear(2, config["size"])

    return checkpoint.load_folder(folder, build, "model").bias.shape  # type: ignore[union-attr]


def write_part(folder: Path, version: int) -> None:
    with opened(folder / "out", {"model": "one"}, {"n": int}, resume=True) as store:
        store.write(0, Part([{"n": version}], [f"photo {version}"]))


def part(folder: Path) -> object:
    with opened(folder / "out", {"model": "one"}, {"n": int}, resume=True) as store:
        if not store.done():
            return None
        table, skipped = store.read(0)
        return table.to_pylist(), skipped


class Training(Trainer):
    """Of a state that says of which version it is."""

    def __init__(self, out: Path) -> None:
        schedule = Schedule(1, 1, 1.0, 0.0)
        super().__init__(nn.Linear(2, 2), out, options={}, schedules=[schedule], seed=0)

    def make_phase(self, index: int) -> Phase:
        raise NotImplementedError

    def validate(self) -> tuple[dict[str, Any], str]:
        raise NotImplementedError

    def save(self, version: int) -> None:
        self.epoch, self.optimizer = version, torch.optim.AdamW(self.model.parameters())
        self._save_state()

    def epoch_saved(self) -> int:
        self._resume()
        return self.epoch


def save_training(folder: Path, version: int) -> None:
    Training(folder).save(version)


def training(folder: Path) -> object:
    return Training(folder).epoch_saved() if (folder / STATE).exists() else None


@dataclass(frozen=True)
class Region:
    text: str
    box: tuple[float, float, float, float] = (0, 0, 1, 1)
    score: float = 1.0


def write_regions(folder: Path, version: int) -> None:
    write_densecap(folder / "results.json", {Path("a.jpg"): ((10, 10), [Region(str(version))])})


def regions(folder: Path) -> object:
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


def save_words(folder: Path, version: int) -> None:
    Vocabulary((*"ab"[:version], "UNK")).save(folder / "words.json")


def vocabulary(folder: Path) -> object:
    path = folder / "words.json"
    return Vocabulary.load(path) if path.exists() else None


def write_scenes(folder: Path, version: int) -> None:
    if not scenes_there(folder):
        scenes.write(folder / "scenes", version, seed=1, workers=1)


def scenes_there(folder: Path) -> object:
    recover(folder)
    if not (folder / "scenes").exists():
        return None
    photos = json.loads((folder / "scenes" / "annotations" / "instances.json").read_text())
    names = [photo["file_name"] for photo in photos["images"]]
    for name in names:
        Image.open(folder / "scenes" / "images" / name).load()
    return names


def cache_photos(folder: Path, version: int) -> None:
    assert Photos(PHOTOS[:2], Preprocess(size=(8, 8)), folder).bytes.shape == (2, 8, 8, 3)


def cached(folder: Path) -> object:
    found = [np.load(path) for path in folder.glob("*.npy")]
    assert all(array[-1].mean() > 1 for array in found)
    return [array.shape for array in found] or None


SLOW: dict[str, Any] = {"every": 0, "sizes": (100,)}
NEW: dict[str, Any] = {"replaces": False}


@pytest.mark.parametrize(
    ("write", "read", "more"),
    [
        pytest.param(save_explanation, explained, {"every": 5}, id="maps"),
        pytest.param(write_explanation, explained, SLOW, id="explanation"),
        pytest.param(write_layers, layers, SLOW, id="layers"),
        pytest.param(save_model, model, {"every": 5}, id="model"),
        pytest.param(write_part, part, {"every": 5}, id="part"),
        pytest.param(save_training, training, {"every": 5}, id="training"),
        pytest.param(write_regions, regions, {"sizes": (0, 50)}, id="regions"),
        pytest.param(save_words, vocabulary, {"sizes": (0, 20)}, id="vocabulary"),
        pytest.param(
            write_scenes,
            scenes_there,
            {"every": 0, "sizes": (100,), "replaces": False},
            id="scenes",
        ),
        pytest.param(cache_photos, cached, {"replaces": False}, id="photos"),
    ],
)
def test_old_or_new_is_whole(
    quick_path: Path,
    capsys: pytest.CaptureFixture[str],
    write: Write,
    read: Read,
    more: dict[str, Any],
) -> None:
    check_writer(quick_path, write, read, **more)


def test_an_evaluation_is_resumed_wherever_it_was_killed(
    scenes: Path, quick_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All four summaries are there or none is; what one kill left is finished."""
    out, copies = quick_path / "out", quick_path / "copies"
    out.mkdir()
    copies.mkdir()
    states = killed(lambda: words(scenes, out, "--part", "3"), out, copies)
    assert len(states) > 40
    for state in states:
        check_free(state, resume=True)
        there = [name for name in SUMMARIES if (state / name).exists()]
        assert there in ([], list(SUMMARIES)) and not hidden(state), state
    half = next(s for s in states if len([*(s / "records").glob("*.parquet")]) == 1)
    assert words(scenes, half, "--part", "3", "--resume") == 0
    assert not hidden(half) and (half / "report.html").exists()
    for name in ("summary.json", "summary.tex"):
        assert (half / name).read_bytes() == (out / name).read_bytes()
    shutil.rmtree(copies)
