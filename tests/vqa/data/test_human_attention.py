"""Human attention: VQA-HAT's files and its measure of agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.samples.vqa.human_attention import grey, noise
from vlcam.metrics.pointing import centred_gaussian
from vqa.data.human_attention import CELLS, agreement, between_people, find, on_cells, read


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
