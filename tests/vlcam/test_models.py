"""Models: found by name or by what a path holds, put on devices, and never run unasked."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import captioning
import vlcam
import vqa
from tests.samples.captioning import blip
from tests.samples.captioning.neuraltalk2_pytorch import write_checkpoint
from tests.samples.tiny import TinyCaptioner, photo
from tests.tools import hub
from tests.tools.command_line import PHOTO, SCENES, Payload, refused
from vlcam import models
from vlcam.adapters.cnn import CnnAdapter
from vlcam.cli.commands.models import families_table
from vlcam.cli.parser import main
from vlcam.formats.hub.published import Published
from vlcam.formats.pretrained import from_pretrained_with
from vlcam.models import Family, families, load


def family(name: str, kind: str = "captioner", **more: Any) -> Family:
    """A family that takes files with its name for a suffix."""
    return Family(
        name=name,
        kind=kind,
        reference=f"the {name} paper",
        recognises=lambda path: path.suffix == f".{name}",
        load=lambda path, layer: (name, path, layer),  # type: ignore[arg-type, return-value]
        **more,
    )


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[Family]:
    """Families that other packages have registered, in place of all others."""
    found = [family("b", bundled={"small": (Path("small.b"), "a small one")}), family("a")]
    found.append(family("c", "vqa", bundled={"asked": (Path("asked.c"), "another")}))

    def entry_points(group: str) -> list[Any]:
        assert group == "vlcam.models"
        return [
            SimpleNamespace(name=f.name, value="", dist=None, load=lambda f=f: f) for f in found
        ]

    monkeypatch.setattr("vlcam.utils.registered.entry_points", entry_points)
    return found


def test_families_of_other_packages(registered: list[Family], tmp_path: Path) -> None:
    assert [found.name for found in families()] == ["a", "b", "c"]
    path = tmp_path / "model.c"
    path.touch()
    assert load(path, "layer") == ("c", path, "layer")  # type: ignore[comparison-overlap]
    assert load("small") == ("b", Path("small.b"), None)  # type: ignore[comparison-overlap]


def test_another_kind_of_model_is_not_taken(registered: list[Family], tmp_path: Path) -> None:
    path = tmp_path / "model.c"
    path.touch()
    with pytest.raises(ValueError, match=r"model\.c: c is a VQA model, which writes no captions"):
        load(path, kind="captioner")
    path = tmp_path / "model.a"
    path.touch()
    with pytest.raises(ValueError, match=r"model\.a: a is a captioner, which answers no questions"):
        load(path, kind="vqa")
    with pytest.raises(ValueError, match=r"asked: no such file or folder.*\(small\)"):
        load("asked", kind="captioner")
    with pytest.raises(ValueError, match=r"nope: no such file or folder.*\(small, asked\)"):
        load("nope")


def test_a_chat_model_is_taken_for_either(registered: list[Family], tmp_path: Path) -> None:
    registered.append(family("d", models.CHAT))
    path = tmp_path / "model.d"
    path.touch()
    for kind in ("captioner", "vqa", None):
        assert load(path, kind=kind) == ("d", path, None)  # type: ignore[comparison-overlap]


def test_what_no_family_recognises(registered: list[Family], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["OtherModel"], "model_type": "o"}')
    with pytest.raises(ValueError, match=r"recognises \(it holds a OtherModel\); known.*: a, b, c"):
        load(tmp_path)


def test_names_that_a_folder_holds_are_cut_in_the_error(
    registered: list[Family], tmp_path: Path
) -> None:
    odd = "x\n" * 2000
    for name, said in (
        ("config.json", {"architectures": [odd, odd]}),
        ("adapter_config.json", {"base_model_name_or_path": odd}),
    ):
        (tmp_path / name).write_text(json.dumps(said))
        with pytest.raises(ValueError) as error:
            load(tmp_path)
        assert len(str(error.value).replace(str(tmp_path), "")) < 400
        assert "\n" not in str(error.value)


def test_what_may_be_a_damaged_model_is_named(registered: list[Family], tmp_path: Path) -> None:
    (tmp_path / "model.t7").write_bytes(b"\x03\0\0\0")
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path, tmp_path / "model.t7"):
        with pytest.raises(ValueError, match=r"recognises \(model\.t7: cut short, or of another"):
            load(path)


def test_a_name_of_the_hub_where_there_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"nobody/nothing: no such file.*hub cannot be reached"):
        load("nobody/nothing")


SMALL = Published("owner/small-a", 3, "mit", 1.0, "a small one", "nowhere")


@pytest.fixture
def words(
    registered: list[Family], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Family]:
    """Families two of which have a published model that is one word, of which one is here."""
    registered += [
        family("published", published={"word": SMALL}),
        family("matching", models.MATCHER, published={"texts": SMALL}),
    ]
    hub.at(hub.NOWHERE, monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return registered


def test_a_word_for_a_published_model(words: list[Family], tmp_path: Path) -> None:
    folder = tmp_path / "model.published"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    with pytest.raises(ValueError, match=r"^owner/small-a: not in the cache .*cannot be reached"):
        load("word")
    snapshot = hub.put(tmp_path / "cache", "owner/small-a", folder)
    known = words[3]
    words[3] = replace(known, recognises=lambda path: path == snapshot)
    for name in ("word", "owner/small-a"):
        assert load(name) == ("published", snapshot, None)  # type: ignore[comparison-overlap]


def test_a_folder_comes_before_a_published_model(words: list[Family], tmp_path: Path) -> None:
    (tmp_path / "word").mkdir()
    with pytest.raises(
        ValueError, match=r"word: not a model .*; the published word is owner/small"
    ):
        load("word")
    words[3] = replace(words[3], recognises=lambda path: path == Path("word"))
    assert load("word") == ("published", Path("word"), None)  # type: ignore[comparison-overlap]


def test_a_word_of_another_kind_is_refused_before_anything_is_fetched(words: list[Family]) -> None:
    for word, kind, said in (
        ("word", "vqa", "is a captioner, which answers no questions"),
        ("word", models.MATCHER, "compares no texts with a photo"),
        ("texts", "captioner", "is for comparing a photo with texts: give it some as --answers"),
    ):
        with pytest.raises(ValueError, match=f"^{word}: (published|matching) {said}"):
            load(word, kind=kind)
    for model, expected in (("texts", True), ("word", False), ("small", False), ("a/b", True)):
        assert models.compares_texts(model) is expected


@pytest.mark.parametrize(
    ("given", "near"),
    [("wrod", "word"), ("WORD", "word"), ("smal", "small"), ("asket", "asked"), ("zzz", None)],
)
def test_a_misspelt_name(words: list[Family], given: str, near: str | None) -> None:
    with pytest.raises(ValueError, match=rf"{given}: no such .*\(word, texts\)") as error:
        load(given)
    assert str(error.value).endswith(f"; did you mean {near}?" if near else ")")


def test_two_families_with_one_word(words: list[Family]) -> None:
    words.append(family("other", published={"word": SMALL}))
    with pytest.raises(ValueError, match="published and other both have a published model 'word'"):
        families()


def test_the_table_of_families(registered: list[Family]) -> None:
    assert families_table().splitlines() == [
        "| family | kind | recognised |",
        "| --- | --- | --- |",
        "| `a` | captioning | the a paper |",
        "| `b` | captioning | the b paper |",
        "| `c` | VQA | the c paper |",
    ]


def test_a_bundled_name_comes_before_a_file_of_that_name(
    registered: list[Family], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small").mkdir()
    assert load("small") == ("b", Path("small.b"), None)  # type: ignore[comparison-overlap]
    with pytest.raises(ValueError, match=r"small: not a model"):
        load("./small/")


def test_our_families() -> None:
    known = {found.name: found for found in families()}
    assert known.keys() >= {"blip", "neuraltalk", "neuraltalk2-pytorch"}
    assert all(found.reference and "\n" not in found.reference for found in known.values())
    assert "scenes" in known["neuraltalk"].bundled
    model = captioning.load("scenes")
    assert model.name == "scenes" and type(vlcam.load("scenes")) is type(model)
    assert not isinstance(model, TinyCaptioner)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return blip.save(tmp_path / "blip")


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
    with pytest.raises(SystemExit):
        main([*asked, "--model", str(folder), "--device", "warp"])
    err = capsys.readouterr().err
    assert "device 'warp'" in err and err.count("\n") == 1 and not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="device 'warp': "):
        vlcam.load("scenes", device="warp")


def _neuraltalk(folder: Path, payload: Payload) -> list[Path]:
    shutil.copytree(SCENES, folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(payload))
    torch.save(payload, folder / "other.pth")  # which no family takes
    return [folder, folder / "model.safetensors", folder / "other.pth"]


def _neuraltalk2_infos(folder: Path, payload: Payload) -> list[Path]:
    write_checkpoint(folder)
    (folder / "infos_tiny.pkl").write_bytes(pickle.dumps({"opt": payload, "vocab": {}}))
    return [folder, folder / "infos_tiny.pkl", folder / "model.pth"]


def _neuraltalk2_weights(protocol: int | None) -> Callable[[Path, Payload], list[Path]]:
    def make(folder: Path, payload: Payload) -> list[Path]:
        write_checkpoint(folder)
        if protocol is None:
            torch.save({"embed.weight": payload}, folder / "model.pth")
        else:
            (folder / "model.pth").write_bytes(pickle.dumps(payload, protocol))
        return [folder, folder / "model.pth"]

    return make


def _blip(folder: Path, payload: Payload) -> list[Path]:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "blip", "architectures": null}')
    (folder / "vocab.txt").write_text("[UNK]\na\n")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(payload))
    return [folder, folder / "pytorch_model.bin"]


def _alone(name: str) -> Callable[[Path, Payload], list[Path]]:
    def make(folder: Path, payload: Payload) -> list[Path]:
        folder.mkdir()
        (folder / name).write_bytes(pickle.dumps(payload))
        return [folder, folder / name]

    return make


MALICIOUS = {
    "as neuraltalk": _neuraltalk,
    "as neuraltalk2-pytorch's infos": _neuraltalk2_infos,
    "as neuraltalk2-pytorch's weights": _neuraltalk2_weights(None),
    "as a plain pickle of weights": _neuraltalk2_weights(2),
    "as a plain pickle of a newer protocol": _neuraltalk2_weights(4),
    "as blip": _blip,
    "as model.pth alone": _alone("model.pth"),
    "as infos_x.pkl alone": _alone("infos_x.pkl"),
    "as config.json": _alone("config.json"),
}


@pytest.mark.parametrize("place", MALICIOUS)
def test_a_malicious_pickle_is_never_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    ran, out = tmp_path / "ran", tmp_path / "out"
    for model in MALICIOUS[place](tmp_path / "model", Payload(ran)):
        line = refused(capsys, "explain", PHOTO, "--model", model, "--out", out)
        assert str(tmp_path / "model") in line and "False" not in line  # torch's advice to trust it
        assert not ran.exists() and not out.exists()


def test_the_payload_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_the_models_of_real_photos_that_come_with_the_package() -> None:
    caption, answer = captioning.load("photos"), vqa.load("photos")
    assert isinstance(caption, CnnAdapter) and isinstance(answer, CnnAdapter)
    captions, answers = (model.module.encoder.net.state_dict() for model in (caption, answer))
    assert all(torch.equal(value, captions[name]) for name, value in answers.items())
    folders = [Path(module.__file__).parent / "bundled" for module in (captioning, vqa, vlcam)]
    folders = [folders[0] / "photos", folders[1] / "photos", folders[2] / "cnn"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") < 16e6
    for folder in folders[:2]:
        card = (folder / "README.md").read_text("utf-8")
        for part in ("Data", "Licence of the data", "Recipe", "Figures", "What it does not know"):
            assert f"**{part}" in card
        assert (folder / "world.safetensors").is_file()
