"""Where a model is put: on a device by name, or spread as transformers' device_map says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vlcam
from tests.captioning.models import test_blip
from tests.samples.tiny import photo
from vlcam.cli.parser import main
from vlcam.formats.pretrained import from_pretrained_with


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return test_blip.save(tmp_path / "blip")


def test_a_model_spread_over_memory_and_disk_gives_the_same_maps(
    folder: Path, tmp_path: Path
) -> None:
    expected = vlcam.explain(vlcam.load(folder), photo(), "a photo of grass")
    places = {"vision_model": "cpu", "text_decoder": "disk"}
    with from_pretrained_with(device_map=places, offload_folder=str(tmp_path / "offload")):
        spread = vlcam.load(folder)
    assert {p.device.type for p in spread.module.parameters()} == {"cpu", "meta"}
    found = vlcam.explain(spread, photo(), "a photo of grass")
    assert torch.equal(found.maps, expected.maps)
    assert found.words == expected.words


def test_auto(folder: Path) -> None:
    expected = vlcam.explain(vlcam.load(folder), photo(), "a photo of grass")
    found = vlcam.explain(vlcam.load(folder, device="auto"), photo(), "a photo of grass")
    torch.testing.assert_close(found.maps, expected.maps)
    with from_pretrained_with(dtype=torch.float64):
        assert vlcam.load(folder).module.dtype == torch.float64
    assert vlcam.load(folder).module.dtype == torch.float32  # the options end with the block
    with pytest.raises(ValueError, match="device auto is for models of transformers"):
        vlcam.load("scenes", device="auto")


def test_devices_by_name(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert next(vlcam.load("scenes", device="cpu").module.parameters()).device.type == "cpu"
    photo().save(tmp_path / "photo.png")
    asked = ["explain", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]
    assert main([*asked, "--model", str(folder), "--device", "warp"]) == 1
    err = capsys.readouterr().err
    assert "device 'warp'" in err and err.count("\n") == 1 and not (tmp_path / "out").exists()
