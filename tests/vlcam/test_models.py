"""Models are found by name or by what a path holds, and nothing is imported before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import captioning
import vlcam
from tests.samples.tiny import TinyCaptioner
from vlcam import models
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
        return [SimpleNamespace(name=f.name, load=lambda f=f: f) for f in found]

    monkeypatch.setattr(models, "entry_points", entry_points)
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


def test_the_table_of_families(registered: list[Family]) -> None:
    assert models.table().splitlines() == [
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
