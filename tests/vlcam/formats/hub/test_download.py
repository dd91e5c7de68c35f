"""The one door for models of the hub, before a hub on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.tools import hub
from tests.tools.hub import COMMIT, Hub
from vlcam.formats.hub import cache
from vlcam.formats.hub.consent import agreed
from vlcam.formats.hub.download import downloaded, offered
from vlcam.formats.hub.published import Published
from vlcam.utils.terminal import progress

LARGE = {"pytorch_model.bin": 990_000_000}


@pytest.fixture
def served(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub.serving(Hub({"owner/name": model}), monkeypatch, tmp_path / "cache") as made:
        yield made


def test_a_small_model_is_fetched_once_and_then_asked_nobody(served: Hub) -> None:
    folder = downloaded("owner/name")
    assert folder == cache.cached("owner/name") and folder.name == COMMIT
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "vocab.txt", "pytorch_model.bin"}  # nothing of TensorFlow
    served.asked.clear()
    assert downloaded("owner/name") == folder and served.asked == []


def test_the_bytes_that_came_are_told(served: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    size = offered("owner/name").bytes
    with progress.shown(clock=count(0, 10).__next__):
        folder = downloaded("owner/name")
    told = capsys.readouterr().err.splitlines()
    assert sum(path.stat().st_size for path in folder.iterdir()) == size
    assert told[-1].startswith(f"owner/name, bytes: {size} of {size} (100 %), ")
    assert all(line.startswith("owner/name, bytes: ") for line in told)


def test_a_large_one_only_if_one_agrees(served: Hub) -> None:
    served.sizes = LARGE
    with pytest.raises(ValueError, match=r"owner/name: would fetch 990 MB .*licence mit, at least"):
        downloaded("owner/name")
    assert cache.cached("owner/name") is None
    assert [path for path in served.asked if "resolve" in path] == []
    served.card = {"license": "other", "license_name": "mine"}
    with pytest.raises(ValueError, match=r"licence mine"):
        downloaded("owner/name")
    known = Published("owner/name", 1, "bsd", 2.5, "", "")
    with pytest.raises(ValueError, match=r"990 MB .*licence bsd, about 2\.5 GB of memory"):
        downloaded("owner/name", known)
    with agreed():
        assert downloaded("owner/name") == cache.cached("owner/name")


def test_only_what_is_missing_is_asked_for(served: Hub, model: Path) -> None:
    """After a download that broke off between two files."""
    served.sizes = LARGE | {"vocab.txt": 7}
    snapshot = hub.put(cache.place(), "owner/name", model)
    (snapshot / "vocab.txt").unlink()
    (snapshot / "pytorch_model.bin").unlink()
    assert offered("owner/name").bytes == 990_000_007
    (snapshot / "pytorch_model.bin").write_text("{}")
    assert offered("owner/name").bytes == 7
    assert offered("owner/name").weights == 990_000_000


def test_a_transfer_that_breaks_off(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    served.broken = ("pytorch_model.bin",)
    with pytest.raises(ValueError, match=r"owner/name: .*(missing: weights)") as error:
        downloaded("owner/name")
    assert "\n" not in str(error.value) and cache.cached("owner/name") is None
    served.broken = ()
    assert downloaded("owner/name") == cache.cached("owner/name")


def test_what_the_hub_does_not_have(served: Hub, model: Path) -> None:
    with pytest.raises(ValueError, match=r"^no/such: no such file or folder, nor a model of the"):
        downloaded("no/such")
    with pytest.raises(ValueError, match=r"^no/such: no longer a model of the hub$"):
        downloaded("no/such", Published("no/such", 1, "", 1, "", ""))
    (model / "pytorch_model.bin").rename(model / "model.gguf")
    with pytest.raises(ValueError, match=r"owner/name: .*no weights of it that are read"):
        downloaded("owner/name")


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ((403, "GatedRepo"), "to those who agreed to its terms"),
        ((401, "RepoNotFound"), "no such file or folder, nor a model of the hub"),
        ((503, ""), r"not in the cache .*the Hugging Face hub refused it \(.*503"),
        ((200, ""), r"the Hugging Face hub cannot be reached"),  # of a hotel's network
    ],
)
def test_a_hub_that_refuses(served: Hub, failing: tuple[int, str], said: str) -> None:
    served.failing = failing
    with pytest.raises(ValueError, match=f"^owner/name: .*{said}") as error:
        downloaded("owner/name")
    assert "\n" not in str(error.value)


def test_a_disk_that_is_too_small(served: Hub) -> None:
    served.sizes = {"pytorch_model.bin": 10**18}
    with agreed(), pytest.raises(ValueError, match=r"would not fit into .*HF_HOME"):
        downloaded("owner/name")


def test_offline(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is in the cache is found; of another, one line says what to do."""
    hub.at(hub.NOWHERE, monkeypatch, tmp_path / "cache")
    snapshot = hub.put(tmp_path / "cache", "owner/name", model)
    assert downloaded("owner/name") == snapshot
    shutil.move(snapshot / "pytorch_model.bin", tmp_path / "elsewhere")
    for name, said in (
        ("no/such", r"^no/such: no such file or folder, not in the cache .*cache, and .*HF_HOME"),
        ("owner/name", r"only in part in the cache .*\(missing: weights\).*cannot be reached"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            downloaded(name)
        assert "\n" not in str(error.value)
