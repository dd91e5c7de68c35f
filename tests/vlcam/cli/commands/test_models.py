"""``vlcam models``."""

from __future__ import annotations

from pathlib import Path

import pytest

import captioning
import vqa
from tests.samples.captioning import blip
from tests.samples.vqa import vilt
from tests.tools import hub
from tests.tools.command_line import PHOTO, called, read, refused
from tests.tools.hub import Hub
from vlcam.cli.commands.models import published_table
from vlcam.models import families

WORDS = {"blip", "vit-gpt2", "smolvlm-256m", "qwen2.5-vl-3b", "blip-vqa", "vilt", "clip"}
BLIP = "Salesforce/blip-image-captioning-base"
VILT = "dandelin/vilt-b32-finetuned-vqa"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub."""
    hub.at(hub.NOWHERE, monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


def test_models(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert called("models") == 0
    lines = capsys.readouterr().out.splitlines()
    for name, reference in (
        ("scenes", "captioner of rendered scenes"),
        ("scenes", "VQA model of rendered scenes"),
        ("neuraltalk", "NeuralTalk2"),
        ("neuraltalk2-pytorch", "ImageCaptioning.pytorch"),
        ("blip", "Li et al., 2022"),
        ("blip", BLIP),
        ("clip", "openai/clip-vit-base-patch32"),
    ):
        said = [line for line in lines if line and line.split()[0] == name and reference in line]
        assert len(said) == 1
    row = next(line for line in lines if BLIP in line)
    assert row.split()[:7] == ["blip", "captions", "991", "MB", "2.5", "GB", "no"]
    assert "bsd-3-clause" in row


def test_every_published_model_says_all_that_one_must_know() -> None:
    found = {word: one for family in families() for word, one in family.published.items()}
    assert found.keys() == WORDS
    for word, one in found.items():
        assert one.megabytes > 100 and one.memory > one.megabytes / 1000, word
        assert one.licence and one.about and one.sources, word
    assert [line.split("`")[1] for line in published_table().splitlines()[2:]][:2] == [
        "blip",
        "vit-gpt2",
    ]


def test_both_models_of_one_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("models", "scenes") == 0
    out = capsys.readouterr().out
    assert "scenes: neuraltalk, captioner" in out and "scenes: glimpses, vqa" in out
    assert "captioner of rendered scenes" in out and "VQA model of rendered scenes" in out


def test_a_published_model_that_is_not_here(
    capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    assert called("models", "qwen2.5-vl-3b") == 0
    out = capsys.readouterr().out
    for said in ("7.5 GB (as of", "qwen-research", "about 11 GB", "not yet", str(cache)):
        assert said in out
    assert "not in the cache" in refused(capsys, "models", "blip", "--yes")


def test_one_word_offline_and_from_the_cache(
    capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = refused(capsys, "explain", PHOTO, "--model", "blip", "--out", out)
    assert f"{BLIP}: not in the cache {cache}, and the Hugging Face hub cannot be" in line
    hub.put(cache, BLIP, blip.save(tmp_path / "blip"))
    hub.put(cache, VILT, vilt.save(tmp_path / "vilt"))
    assert called("explain", PHOTO, "--model", "blip", "--caption", "a dog", "--out", out) == 0
    assert read(out / PHOTO.stem)["model"] == "blip-image-captioning-base"
    assert captioning.load("blip").name == "blip-image-captioning-base"
    assert vqa.load("vilt").name == "vilt-b32-finetuned-vqa"
    assert called("models", "blip") == 0
    told = capsys.readouterr().out
    assert "fetched" in told and str(cache) in told and "parameters" in told
    assert called("convert", "blip", tmp_path / "converted") == 0
    line = refused(capsys, "explain", PHOTO, "--model", "vilt", "--out", out)
    assert "vilt: vilt is a VQA model, which writes no captions: ask it a question" in line


def test_a_large_one_is_asked_for(
    capsys: pytest.CaptureFixture[str],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Hub({BLIP: blip.save(tmp_path / "blip")}, sizes={"model.safetensors": 990_000_000})
    out = tmp_path / "out"
    asked = ("explain", PHOTO, "--model", "blip", "--caption", "a dog", "--out", out)
    with hub.serving(served, monkeypatch, cache):
        line = refused(capsys, *asked)
        assert f"{BLIP}: would fetch 990 MB" in line and "--yes" in line and not out.exists()
        with pytest.raises(ValueError, match="would fetch 990 MB"):
            captioning.load("blip")
        assert called("models", "blip") == 0
        assert "(990 MB to fetch, says the hub)" in capsys.readouterr().out
        assert called(*asked, "--yes") == 0
        assert read(out / PHOTO.stem)["model"] == "blip-image-captioning-base"
        served.asked.clear()
        assert captioning.load("blip").name == "blip-image-captioning-base" and not served.asked


def test_answers_without_a_question(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    """For models that compare texts only, which is told before any is loaded."""
    line = refused(capsys, "explain", PHOTO, "--answers", "a dog")
    assert "photos: --answers and --contrast go with a --question" in line
    line = refused(capsys, "explain", PHOTO, "--model", "clip", "--answers", "a dog", "a cat")
    assert "openai/clip-vit-base-patch32: not in the cache" in line
