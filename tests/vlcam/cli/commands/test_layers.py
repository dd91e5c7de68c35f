"""``vlcam layers``: explanations of one photo at many layers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vlcam
from tests.samples.vqa import blip
from tests.samples.vqa import vilt as vilt_files
from tests.tools.command_line import DEPTHS, OF_SCENES, REPOSITORY
from vlcam.choosing.layers import depths
from vlcam.cli.parser import main
from vlcam.models import Family, load

PHOTO = REPOSITORY / "vlcam" / "bundled" / "photos" / "hydrant-bicycle.jpg"


def test_the_blocks_of_vision_transformers(
    two_photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a model that writes its answers, too: the same at every layer."""
    folder = blip.save(tmp_path / "blip")
    blocks = [f"vision_model.encoder.layers.{i}" for i in range(3)]
    assert depths(load(folder)) == blocks
    ask = ["--question", "a dog?", "--model", str(folder), "--out", str(tmp_path)]
    assert main(["layers", str(two_photos[0]), *ask]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]] == blocks
    found = [vlcam.Explanation.load(tmp_path / "one" / layer) for layer in blocks]
    assert len({e.caption for e in found}) == 1 and found[0].words
    vilt = load(vilt_files.save(tmp_path / "vilt"))
    assert depths(vilt) == ["vilt.encoder.layer.0", "vilt.encoder.layer.1"]


def test_the_command(
    answerers: list[Path],
    two_photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    ask = ["--question", "the red dog", "--answers", "red", "two", "--model", str(answerers[1])]
    assert main(["layers", str(two_photos[0]), *ask, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[1:-1]] == DEPTHS
    for layer in DEPTHS:
        explanation = vlcam.Explanation.load(out / "one" / layer)
        assert explanation.layer == layer and len(explanation.answers) == 2
    with Image.open(out / "one" / "layers.png") as picture:
        assert picture.height > picture.width / 2
    some = ["--layers", "stage1", "stage4.0.relu2", "--out", str(out / "some")]
    assert main(["layers", str(two_photos[0]), *ask, *some]) == 0
    assert len(list((out / "some" / "one").iterdir())) == 3


def test_the_model_is_loaded_once_whatever_there_is_to_see(
    answerers: list[Path], two_photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, opened = [], Family.open

    def open_(*arguments: Any) -> Any:
        loads.append(arguments)
        return opened(*arguments)

    monkeypatch.setattr(Family, "open", open_)
    ask = ["--question", "the red dog", "--answers", "red", "--model", str(answerers[1])]
    some = ["--layers", "stage3", "stage4", "--out", str(tmp_path / "out")]
    assert main(["layers", *map(str, two_photos), *ask, *some]) == 0
    assert len(loads) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "guided-backprop"), "maps of guided-backprop do not live at a layer"),
        (("--method", "cam"), "unknown method 'cam'"),
        (("--layers", "stage9"), "layer 'stage9' of small: unknown; did you mean stage"),
        (("--answers", "red"), "--answers and --contrast go with a --question"),
        (("--caption", "a zyx"), ""),
    ],
)
def test_sweeps_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    code = main(["layers", str(PHOTO), *options, *OF_SCENES, "--out", str(tmp_path / "out")])
    err = capsys.readouterr().err
    if not said:  # an unknown word is left out of a caption
        assert code == 0
        return
    assert code == 1 and said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_layers_and_methods_are_scored(
    answerers: list[Path],
    two_photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One table and one recommendation."""
    out, photos = tmp_path / "out", list(map(str, two_photos))
    ask = ["--question", "the red dog", "--answers", "red", "--model", str(answerers[1])]
    few = ["--layers", "stage4", "--method", "grad-cam", "--method", "gradient"]
    assert main(["layers", *photos, *ask, *few, "--score", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert told.endswith(f"  -> {out / 'scores.md'}\n")
    assert sorted(path.name for path in out.iterdir()) == ["scores.json", "scores.md"]
    found = json.loads((out / "scores.json").read_text("utf-8"))
    named = {(row["layer"], row["method"]) for row in found["rows"]}
    assert named == {("stage4", "grad-cam"), ("pixels", "gradient")}
    assert found["photos"] == photos and found["asked"] == [["logit(red)"]] * 2
    assert found["recommendation"]["text"] in told


def test_several_photos_have_a_folder_each(
    answerers: list[Path], two_photos: list[Path], tmp_path: Path
) -> None:
    out, photos = tmp_path / "out", list(map(str, two_photos))
    ask = ["--question", "the red dog", "--model", str(answerers[1]), "--layers", "stage4"]
    assert main(["layers", *photos, *ask, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["one", "two"]
    (tmp_path / "other").mkdir()
    double = shutil.copy(two_photos[0], tmp_path / "other")
    assert main(["layers", photos[0], str(double), *ask, "--out", str(out / "new")]) == 1
    assert not (out / "new").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "occlusion"), "occlusion is what the other methods are compared with"),
        (("--method", "grad-cam,cam"), "unknown method 'cam'"),
        (("--layers", "stage9"), "layer 'stage9' of small: unknown"),
        (("gone.jpg",), "gone.jpg"),
        (("--caption", "zyx"), "not in the vocabulary of"),
    ],
)
def test_scores_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"
    assert main(["layers", str(PHOTO), *options, *OF_SCENES, "--score", "--out", str(out)]) == 1
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and told.out == ""
    assert not out.exists()
