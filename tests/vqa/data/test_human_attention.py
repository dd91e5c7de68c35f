"""Human attention: VQA-HAT's files and protocol, and ``vlcam evaluate attention``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from tests.vqa.training.test_answerer import SIZES, write_data
from vlcam.adapters.adapter import FeatureMaps
from vlcam.cli.parser import main
from vlcam.evaluation import gallery
from vlcam.metrics.pointing import centred_gaussian
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.data.human_attention import CELLS, agreement, between_people, find, on_cells, read
from vqa.training.answerer import Training, train


def grey(path: Path, levels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels.astype(np.uint8)).save(path)
    return path


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape)


def test_maps_are_found_by_question_and_annotator(tmp_path: Path) -> None:
    for name in ("12_2.png", "12_10.png", "12_1.png", "7_1.png", "12.png", "x_1.png"):
        grey(tmp_path / name, noise((4, 4)))
    (tmp_path / "README.md").write_text("about")
    maps = find(tmp_path)
    assert {n: [p.name for p in paths] for n, paths in maps.files.items()} == {
        12: ["12_1.png", "12_2.png", "12_10.png"],
        7: ["7_1.png"],
    }
    assert [line.split("/")[-1] for line in maps.skipped] == [
        "12.png: not named QUESTION_K.png",
        "x_1.png: not named QUESTION_K.png",
    ]


def test_folders_without_maps(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing: no such folder"):
        find(tmp_path / "missing")
    with pytest.raises(ValueError, match="no attention map in it"):
        find(tmp_path)


@pytest.mark.parametrize("shape", [(14, 14), (28, 42), (480, 640), (31, 17), (5, 3)])
def test_a_cell_is_the_mean_over_its_area(shape: tuple[int, int]) -> None:
    levels = torch.from_numpy(noise(shape)).double()
    # Fourteen times as many pixels a side: whole ones make up each cell.
    fine = levels.repeat_interleave(14, 0).repeat_interleave(14, 1)
    slow = fine.view(14, shape[0], 14, shape[1]).mean((1, 3))
    np.testing.assert_allclose(on_cells(levels[None])[0], slow)


def test_what_a_human_map_may_be(tmp_path: Path) -> None:
    levels = noise((48, 64))
    found = read(grey(tmp_path / "1_1.png", levels), (480, 640))
    np.testing.assert_allclose(found, on_cells(torch.from_numpy(levels)[None])[0])
    # A photo of 500 x 333 made smaller has a side rounded to whole pixels.
    assert read(grey(tmp_path / "1_2.png", noise((67, 100))), (333, 500)).shape == CELLS
    for name, values, message in (
        ("2_1", noise((64, 48)), "48 x 64 pixels are not of the shape of the photo, 640 x 480"),
        ("3_1", np.zeros((48, 64)), "all black, so it shows nothing"),
        ("4_1", np.full((48, 64), 9), "the same everywhere"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            read(grey(tmp_path / f"{name}.png", values), (480, 640))
        assert f"{name}.png" in str(error.value)
    (tmp_path / "5_1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"5_1.png: not a readable image"):
        read(tmp_path / "5_1.png", (480, 640))


def test_agreement_is_the_mean_over_annotators() -> None:
    own, *human = np.random.default_rng(0).integers(0, 9, (4, *CELLS)).astype(float)
    expected = np.mean([spearmanr(own.ravel(), one.ravel()).statistic for one in human])
    assert agreement(own, human).value == pytest.approx(expected)
    assert agreement(np.zeros(CELLS), human) == agreement(np.full(CELLS, 3.0), human)
    assert agreement(np.zeros(CELLS), human).constant
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([agreement(human[a], [human[b]]).value for a, b in pairs])
    people = between_people(human)
    assert people is not None and people.value == pytest.approx(expected)
    assert between_people(human[:1]) is None
    peak = centred_gaussian((5, 7)).argmax()
    assert peak == 2 * 7 + 3


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


def records(out: Path) -> list[dict[str, Any]]:
    parts = sorted((out / "records").glob("*.parquet"))
    return [record for part in parts for record in parquet.read_table(part).to_pylist()]


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
    command = ["evaluate", "attention", "--model", str(model), "--data", str(data)]
    assert main([*command, "--out", str(tmp_path / "out"), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vlcam: ") and message in line
    assert not (tmp_path / "out").exists()
