"""Options that are given several values: taken alike however they are spelled, or refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import vlcam
from tests.tools.command_line import OF_SCENES, PHOTOS, below, called, read, refused
from vlcam.adapters.adapter import FeatureMaps
from vlcam.adapters.cnn import CnnAdapter
from vlcam.attribution.methods import METHODS
from vlcam.cli.argument_parser import Parser
from vlcam.cli.arguments import Collect, methods_argument
from vlcam.cli.parser import parser

BOTH = ["grad-cam", "layercam"]
METHOD_OPTIONS = [
    ["--method", "grad-cam,layercam"],
    ["--methods", "grad-cam,layercam"],
    ["--method", "grad-cam", "--method", "layercam"],
    ["--method=grad-cam", "--methods=layercam"],
    ["--method", " grad-cam , layercam"],
]
HERE = str(Path(__file__).parent)
COMMANDS = [
    ["explain", "a.jpg"],
    ["layers", "a.jpg"],
    ["evaluate", "words", "--data", HERE],
    ["evaluate", "regions", "--regions", HERE, "--photos", HERE],
    ["evaluate", "faithfulness", "--photos", HERE],
    ["evaluate", "attention", "--data", HERE],
]
VALUES = ("1", "2", "0.5", "cpu", "cuda", "float32", "bfloat16", HERE, f"{HERE}/..")
VALUES += (__file__, f"{HERE}/conftest.py")
"""Of which every option takes two."""


def parsed(*argv: str) -> argparse.Namespace:
    return parser(argv).parse_args(argv)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_methods_are_spelled_alike_in_every_command(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = parser(command)
    default = whole.parse_args(command).methods  # of layers it depends on --score
    assert default is None if command[0] == "layers" else list(default) == ["grad-cam"]
    for options in METHOD_OPTIONS:
        assert whole.parse_args([*command, *options]).methods == BOTH
    for options, said in (
        (["--method", "grad-cam", "--method", "grad-cam"], "grad-cam is named twice"),
        (["--method", "grad-cam,layercam,grad-cam"], "grad-cam is named twice"),
        (["--method", "grad-cam,"], "'grad-cam,': expected names with a comma between two"),
        (["--method", ""], "'': expected names with a comma between two"),
    ):
        with pytest.raises(SystemExit):
            whole.parse_args([*command, *options])
        line = capsys.readouterr().err
        assert said in line and line.count("\n") == 1


def test_models_layers_and_answers_are_spelled_alike(tmp_path: Path) -> None:
    with_comma = tmp_path / "a,b"
    with_comma.mkdir()
    for options, models in (
        ([], ["photos"]),
        (["--model", "a", "--model", "b"], ["a", "b"]),
        (["--model", "a,b"], ["a", "b"]),
        (["--models", "a, b", "--model", "a"], ["a", "b", "a"]),
        (["--model", str(with_comma)], [str(with_comma)]),
        (["--model", ",".join(100 * ["a"])], 100 * ["a"]),
    ):
        assert list(parsed("explain", "a.jpg", *options).models) == models
    assert {parsed(*command).model for command in COMMANDS[1:]} == {"photos"}
    for options in (["a", "b"], ["a,b"], ["a", "--layers", "b"], ["a", "--layer", "b"]):
        assert parsed("layers", "a.jpg", "--layers", *options).layers == ["a", "b"]
    for options in (["a, b", "c"], ["a, b", "--answers", "c"]):
        assert parsed("explain", "a.jpg", "--answers", *options).answers == ["a, b", "c"]


def test_scripts_take_methods_word_by_word_too() -> None:
    script = argparse.ArgumentParser()
    methods_argument(script, default=["gradient"], nargs="+")
    assert script.parse_args([]).methods == ["gradient"]
    for options in (*METHOD_OPTIONS, ["--methods", *BOTH]):
        assert script.parse_args(options).methods == BOTH


def test_every_option_of_one_value_is_refused_when_it_is_given_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In all commands, those of other packages, too: none keeps the last in silence."""
    tried = 0
    for command in (*COMMANDS, ["regions", "a.jpg"], ["train", "captioner", "--out", "o"]):
        own = _last(command)
        for action in own._actions:
            if not action.option_strings or action.nargs == 0 or isinstance(action, Collect):
                continue
            name = action.option_strings[0]
            taken = action.choices or [value for value in VALUES if _takes(action, value)]
            values = [[str(value)] for value in list(taken)[:2]]
            if action.nargs == 2:
                values = [["1", "2"], ["1", "3"]]
            twice = [word for value in values for word in (name, *value)]
            with pytest.raises(SystemExit):
                own.parse_args(twice)
            line = capsys.readouterr().err
            assert f"argument {name}: given twice, " in line and line.count("\n") == 1
            tried += 1
    assert tried > 60
    assert parsed("explain", "a.jpg", "--beam", "2", "--beam", "2").beam == 2


def _takes(action: argparse.Action, value: str) -> bool:
    try:
        return not callable(action.type) or bool(str(action.type(value)))
    except (argparse.ArgumentTypeError, ValueError):
        return False


def _last(command: list[str]) -> Parser:
    """The parser of a command's own arguments."""
    found: Any = parser(command)
    for word in command:
        branches = [a for a in found._actions if isinstance(a, argparse._SubParsersAction)]
        if not branches:
            break
        found = branches[0].choices[word]
    assert isinstance(found, Parser)
    return found


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one at each forward pass of the captioner's CNN."""
    plain, passes = CnnAdapter.encode, list[int]()

    def counted(self: CnnAdapter, pixels: Tensor, *more: Any) -> FeatureMaps:
        passes.append(len(pixels))
        return plain(self, pixels, *more)

    monkeypatch.setattr(CnnAdapter, "encode", counted)
    return passes


def test_methods_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoded: list[int]
) -> None:
    """Each photo is encoded once for all; the maps are those that each method gives by itself."""
    names = ["grad-cam", "layercam", "grad-cam-no-relu", "counterfactual"]
    out, alone = tmp_path / "out", tmp_path / "alone"
    (tmp_path / "bad.png").write_bytes(b"no photo")
    photos = [PHOTOS[0], tmp_path / "bad.png", PHOTOS[1]]
    common = (*OF_SCENES, "--caption", "a dog", "--layer", "stage3")
    assert called("explain", *photos, *common, "--method", ",".join(names), "--out", out) == 1
    assert encoded == [1, 1, 1]  # two, and the plain picture that is tried after a failure
    told, err = capsys.readouterr()
    assert err.splitlines()[-1] == f"vlcam: 1 of 3 photos failed: {photos[1]}"
    assert told.count(": a dog\n") == 2  # said once, whatever the number of methods
    assert called("explain", PHOTOS[0], *common, "--method", "layercam", "--out", alone) == 0
    own = vlcam.Explanation.load(alone / PHOTOS[0].stem)
    for name in names:
        found = vlcam.Explanation.load(out / name / PHOTOS[0].stem)
        assert found.method == name and f"  -> {out / name / PHOTOS[0].stem}\n" in told
        assert (out / name / PHOTOS[1].stem / "page.html").is_file()
        if name == "layercam":
            np.testing.assert_array_equal(found.maps, own.maps)
            assert found.words == own.words
    compared = [f"{photo.stem}.{kind}" for photo in PHOTOS[:2] for kind in ("html", "png")]
    assert below(out / "compared") == sorted(compared)
    page = (out / "compared" / f"{PHOTOS[0].stem}.html").read_text("utf-8")
    assert page.count("<section>") == 2  # a word each, its maps side by side
    assert page.count('<li class="card">') == 2 * len(names)
    for name in names:
        link = f"../{name}/{PHOTOS[0].stem}/page.html"
        assert page.count(f'<a href="{link}">{name}</a>') == 2
        assert (out / "compared" / link).is_file()


def test_models_and_methods_side_by_side(
    answerers: list[Path],
    two_photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, by = tmp_path / "out", ["grad-cam", "gradient"]
    models = ",".join(map(str, answerers))
    ask = ("--question", "the red dog", "--answers", "red", "--answers", "two", "--out", out)
    assert called("explain", two_photos[0], "--model", models, *ask, "--method", ",".join(by)) == 0
    told = capsys.readouterr().out
    page = (out / "compared" / "one.html").read_text("utf-8")
    for folder in answerers:
        assert f"{folder}:\n" in told
        for name in by:
            data = read(out / folder.name / name / "one")
            assert (data["model"], data["method"]) == (folder.name, name)
            assert f'href="../{folder.name}/{name}/one/page.html">{folder} · {name}</a>' in page
    with Image.open(out / "compared" / "one.png") as picture:
        picture.load()
    assert "gradient: Each map is scaled by its own 99.5th percentile" in page
    assert "grad-cam: Each map is scaled by its own maximum" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--method", "grad-cam,grad-cm"), "unknown method 'grad-cm'"),
        (("--method", "grad-cam,layercam", "--patch-size", "9"), "--patch-size goes with"),
        (("--method", "grad-cam,attention-rollout"), "that attention-rollout follows"),
        (("--model", "scenes,nowhere"), "nowhere: no such file or folder"),
        (("--model", "scenes,"), "'scenes,': expected names with a comma between two"),
    ],
)
def test_what_cannot_be_compared_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert said in refused(
        capsys, "explain", PHOTOS[0], "--caption", "a dog", *options, "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_caveats_are_told_of_the_methods_they_are_about(
    two_photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (*OF_SCENES, "--caption", "a dog", "--target", "caption", "--out", tmp_path / "out")
    by = "grad-cam,guided-grad-cam,guided-backprop"
    assert called("explain", two_photos[0], "--method", by, *common) == 0
    caveat = METHODS["guided-grad-cam"].caveat
    assert caveat is not None and capsys.readouterr().out.count(caveat) == 1
    page = (tmp_path / "out" / "compared" / "one.html").read_text("utf-8")
    assert f"guided-grad-cam, guided-backprop: {caveat}" in page


def test_layers_by_methods(
    answerers: list[Path],
    two_photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rows of layers by columns of methods; of many answers, rows of both."""
    ask = ("--question", "the red dog", "--model", answerers[1], "--layers", "stage1,stage4")
    sizes = {}
    for number in ("1", "5"):
        out = tmp_path / number
        methods = ("--method", "grad-cam", "--method", "layercam,hirescam", "--out", out)
        assert called("layers", two_photos[0], *ask, "--top", number, *methods) == 0
        lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:-1]]
        names = ["grad-cam", "layercam", "hirescam"]
        assert lines == [[layer, name] for layer in ("stage1", "stage4") for name in names]
        for layer, name in lines:
            found = vlcam.Explanation.load(out / "one" / name / layer)
            assert (found.layer, found.method) == (layer, name)
        with Image.open(out / "one" / "layers.png") as picture:
            sizes[number] = picture.size
    assert sizes["5"][1] > 2 * sizes["1"][1]
    data = json.loads(
        (tmp_path / "1" / "one" / "grad-cam" / "stage1" / "explanation.json").read_text()
    )
    assert data["method"] == "grad-cam"
