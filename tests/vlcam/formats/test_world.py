"""The file that says what a model's training photos look like."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import vlcam
from tests.tools.command_line import PHOTO, SCENES, refused
from vlcam.cli.commands.convert import convert
from vlcam.formats.world import WORLD, Likeness, World, read_world
from vlcam.models import find

ABOUT = {"format": 1, "world": "squares", "instead": "", "threshold": 1.5, "rest": 2.0}


def world(**changes: Any) -> World:
    """Of two channels: one varies a hundred times as much as the other."""
    own = World(
        "squares",
        "For circles: --model circles",
        threshold=1.5,
        mean=torch.tensor([1.0, 2.0]),
        directions=torch.tensor([[1.0, 0.0]]),
        variances=torch.tensor([4.0]),
        rest=0.04,
    )
    return replace(own, **changes)


def test_a_score_is_the_distance_in_units_of_the_training_photos_own() -> None:
    """By hand: one standard deviation along the main direction, one across, and both."""
    own = world()
    found = own.scores(torch.tensor([[1.0, 2.0], [3.0, 2.0], [1.0, 2.2], [-1.0, 1.8], [5.0, 2.4]]))
    assert torch.allclose(found, torch.tensor([0, 0.5**0.5, 0.5**0.5, 1, 2]), atol=1e-4)
    maps = torch.tensor([1.0, 4.0])[None, :, None, None] * torch.tensor([[0.5, 1.5]])
    assert own.likeness(maps).score == pytest.approx(0, abs=1e-3)  # square roots of the means
    assert own.likeness(maps * torch.nan).unlike


def test_one_line_for_a_photo_unlike_them() -> None:
    like = Likeness("squares", "For circles: --model circles", 1.5, 1.5)
    assert not like.unlike and like.line is None
    unlike = replace(like, score=1.6)
    assert unlike.line == (
        "This photo is unlike those the model learned from (squares): what it says, and where it"
        " looked, may mean little. For circles: --model circles."
    )
    assert str(replace(unlike, instead="").line).endswith("may mean little.")
    assert [Likeness.from_json(one.to_json()) for one in (like, unlike)] == [like, unlike]
    wrong: list[dict[str, Any]] = [{"score": "1"}, {"threshold": None}, {"world": 3}]
    for change in wrong:
        with pytest.raises(ValueError, match="likeness"):
            Likeness.from_json(like.to_json() | change)


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    assert read_world(tmp_path) is None
    own = world()
    own.save(tmp_path)
    found = read_world(tmp_path)
    assert found is not None and (found.world, found.instead) == (own.world, own.instead)
    photos = torch.rand(5, 2)
    assert torch.equal(found.scores(photos), own.scores(photos))


def test_the_bundled_models_know_their_world_and_keep_it_when_rewritten(tmp_path: Path) -> None:
    for kind in ("captioner", "vqa"):
        own: Any = vlcam.load("scenes", kind=kind)
        assert own.module.world.world == "rendered scenes"
        assert (find("scenes", kind)[1] / WORLD).stat().st_size < 200_000
        own.save(tmp_path / kind)
    convert(SCENES, tmp_path / "converted")
    for name in ("captioner", "converted"):
        assert (tmp_path / name / WORLD).read_bytes() == (SCENES / WORLD).read_bytes()
    again: Any = vlcam.load(tmp_path / "vqa")
    assert again.module.world.threshold == own.module.world.threshold


def test_a_model_without_the_file_says_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SCENES, folder)
    (folder / WORLD).unlink()
    found = vlcam.explain(str(folder), PHOTO)
    assert found.likeness is None and found.unlike is None and "likeness" not in found.to_json()


Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], object]

DAMAGED: list[tuple[str, Change]] = [
    ("its format is None, expected 1", lambda _, about: about.pop("format")),
    ("its format is 2, expected 1", lambda _, about: about.update(format=2)),
    ("no 'world'", lambda _, about: about.pop("world")),
    ("its world is no line", lambda _, about: about.update(world="a\nb")),
    ("its world is no line", lambda _, about: about.update(world="\x1b[31mred")),
    ("its world is empty", lambda _, about: about.update(world=" ")),
    ("its instead is no line", lambda _, about: about.update(instead="a" * 300)),
    ("its world is 3, expected a text", lambda _, about: about.update(world=3)),
    ("its threshold is '1', expected a number", lambda _, about: about.update(threshold="1")),
    ("not all above 0", lambda _, about: about.update(threshold=float("nan"))),
    ("not all above 0", lambda _, about: about.update(rest=-1.0)),
    ("variances", lambda tensors, _: tensors.pop("variances")),
    ("not all above 0", lambda tensors, _: tensors["variances"].zero_()),
    ("its mean holds what is no finite", lambda tensors, _: tensors["mean"].fill_(torch.inf)),
    ("its mean has shape (0,)", lambda t, _: t.update(mean=torch.zeros(0))),
    ("its directions has shape", lambda t, _: t.update(directions=torch.ones(3, 2))),
    ("its directions holds", lambda t, _: t.update(directions=t["directions"].to(torch.int8))),
    ("larger than 1,048,576 bytes", lambda t, _: t.update(more=torch.zeros(2**19))),
]


def test_a_damaged_file_is_told_of_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    shutil.copytree(SCENES, folder)
    path = folder / WORLD
    world().save(folder)
    whole = load_file(path)
    for said, change in DAMAGED:
        tensors, about = {name: t.clone() for name, t in whole.items()}, dict(ABOUT)
        change(tensors, about)
        save_file(tensors, path, {"about": json.dumps(about)})
        with pytest.raises(ValueError) as error:
            read_world(folder)
        assert str(error.value).startswith(f"{path}: ") and said in str(error.value)
    save_file(whole, path, {"about": json.dumps(ABOUT)})
    line = refused(capsys, "explain", PHOTO, "--model", folder, "--out", out)
    assert f"{path}: of a CNN with 2 channels, this one has 256" in line
    for content in (b"", b"\x00" * 50, (SCENES / WORLD).read_bytes()[:900]):
        path.write_bytes(content)
        line = refused(capsys, "explain", PHOTO, "--model", folder, "--out", out)
        assert f"{path}: not a readable file of a model's world" in line and not out.exists()
