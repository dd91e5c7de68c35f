"""``vlcam evaluate attention``: methods, baselines and people against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests.samples.vqa.human_attention import grey, noise
from tests.samples.vqa.training import SIZES, write_data
from tests.tools.command_line import refused
from tests.tools.evaluations import records
from vlcam.adapters.adapter import FeatureMaps
from vlcam.cli.parser import main
from vlcam.evaluation import gallery
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.training.answerer import Training, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and a model of it, and three maps for each of the first four photos' first question."""
    folder = tmp_path_factory.mktemp("attention")
    data = write_data(folder / "data")
    train(Training(str(data), str(folder / "model"), **SIZES))
    for photo in range(1, 5):
        for k in (1, 2, 3):
            grey(data / "attention" / f"{10 * photo}_{k}.png", noise((32, 32), 10 * photo + k))
    return data, folder / "model"


def figures(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of the summary's table by their map."""
    summary = json.loads((out / "summary.json").read_text())
    return {row["map"]: row for row in summary["tables"][0]["rows"]}


def test_the_command_measures_methods_and_baselines(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = trained
    command = ["evaluate", "attention", "--model", str(model), "--data", str(data)]
    command += ["--method", "grad-cam,gradient", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    found = figures(tmp_path / "out")
    assert shown.startswith((tmp_path / "out" / "summary.md").read_text())
    assert list(found) == [
        "grad-cam", "gradient", "noise", "centred Gaussian", "summed activation", "uniform map",
        "people, against each other",
    ]  # fmt: skip
    uniform = found["uniform map"]
    assert (uniform["rank correlation"]["value"], uniform["constant"]) == (0, 4)
    every = records(tmp_path / "out")
    for name, row in found.items():
        values = [r["value"] for r in every if r["map"] == name]
        assert row["rank correlation"]["value"] == pytest.approx(np.mean(values))
        assert len(values) == row["questions"] == 4
    assert "human attention" in shown and "simulated attention" not in shown
    (data / "attention" / "README.md").write_text("These maps are *simulated*.")
    again = [str(tmp_path / "again"), "--limit", "2", "--answer", "given"]
    assert main([*command, *again]) == 0
    (data / "attention" / "README.md").unlink()
    shown = capsys.readouterr().out
    assert "with simulated attention" in shown and "of the given answer" in shown
    assert figures(tmp_path / "again")["noise"]["questions"] == 2
    before = {(r["question"], r["map"]): r["value"] for r in every}
    for record in records(tmp_path / "again"):
        if record["map"] not in ("grad-cam", "gradient"):
            assert before[record["question"], record["map"]] == record["value"]


def test_a_photo_is_encoded_once_for_all_its_questions_and_methods(
    trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model = trained
    extra = [grey(data / "attention" / f"{photo}1_1.png", noise((32, 32))) for photo in (1, 2)]
    seen: list[int] = []
    encode = CnnAnswerer.encode

    def counted(self: CnnAnswerer, pixels: Tensor, prompts: Any = None) -> FeatureMaps:
        seen.append(len(pixels))
        return encode(self, pixels, prompts)

    monkeypatch.setattr(CnnAnswerer, "encode", counted)
    monkeypatch.setattr(gallery, "pictures", lambda *args: ())  # they look once more
    command = ["evaluate", "attention", "--model", str(model), "--data", str(data)]
    assert main([*command, "--method", "grad-cam,layercam", "--out", str(tmp_path / "out")]) == 0
    for path in extra:
        path.unlink()
    assert figures(tmp_path / "out")["layercam"]["questions"] == 6
    assert sum(seen) == 4


def test_what_cannot_be_evaluated_is_skipped_counted_and_listed(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = trained
    maps = tmp_path / "maps"
    grey(maps / "10_1.png", noise((32, 32)))
    grey(maps / "20_1.png", np.zeros((32, 32)))
    grey(maps / "30_1.png", noise((32, 48)))
    grey(maps / "999_1.png", noise((32, 32)))
    grey(maps / "other.png", noise((32, 32)))
    command = ["evaluate", "attention", "--model", str(model), "--data", str(data)]
    command += ["--maps", str(maps), "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    output = capsys.readouterr()
    skipped = json.loads((tmp_path / "out" / "summary.json").read_text())["skipped"]
    assert len(skipped) == 4 and "Could not be used: 4" in output.out
    for text in ("20_1.png: all black", "30_1.png: 48 x 32", "question 999: has maps", "other.png"):
        assert sum(text in line for line in skipped) == 1
        assert text in output.err
    assert figures(tmp_path / "out")["noise"]["questions"] == 1
    (maps / "10_1.png").unlink()
    assert main([*command, str(tmp_path / "none")]) == 1
    assert "nothing could be scored" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "grad-kam"], "unknown method 'grad-kam'"),
        (["--maps", "nowhere"], "nowhere: no such folder"),
        (["--model", "nowhere"], "nowhere"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_options(
    trained: tuple[Path, Path],
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, model = trained
    given = {"--model": str(model), "--data": str(data)} | dict([options])
    words = [word for pair in given.items() for word in pair]
    out = str(tmp_path / "out")
    assert message in refused(capsys, "evaluate", "attention", *words, "--out", out)
    assert not (tmp_path / "out").exists()
