"""``vlcam layers``: explanations of one photo at many layers."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import vlcam
from tests.samples.vqa import blip
from tests.samples.vqa import vilt as vilt_files
from tests.tools.command_line import DEPTHS, REPOSITORY
from vlcam.cli.parser import main
from vlcam.cli.sweep import depths
from vlcam.models import load

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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "guided-backprop"), "maps of guided-backprop do not live at a layer"),
        (("--method", "cam"), "unknown method 'cam'"),
        (("--layers", "stage9"), "layer 'stage9' of small: unknown; near: stage"),
        (("--answers", "red"), "--answers and --contrast go with a --question"),
        (("--caption", "a zyx"), ""),
    ],
)
def test_sweeps_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    code = main(["layers", str(PHOTO), *options, "--out", str(tmp_path / "out")])
    err = capsys.readouterr().err
    if not said:  # an unknown word is left out of a caption
        assert code == 0
        return
    assert code == 1 and said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()
