"""The code in docs/ runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.samples.tiny import photo
from vlcam.models import table

DOCS = Path(__file__).parent.parent / "docs"


def test_own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("own_model.md", 4, tmp_path, monkeypatch)
    assert {p.name for p in tmp_path.iterdir()} == {"photo.jpg", "vqa", "detector", "clip"}


def test_own_captioner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("own_captioner.md", 3, tmp_path, monkeypatch)
    assert {p.name for p in Path("explained").iterdir()} == {"explanation.json", "maps.npz"}
    assert Path("figure.png").stat().st_size > 10_000


def test_the_table_of_families_in_the_readme() -> None:
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    written = re.search(r"<!-- vlcam models --markdown -->\n(.*?)\n<!-- end -->", readme, re.DOTALL)
    assert written is not None and written.group(1) == table()


def run(page: str, count: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the blocks of a page one behind the other, beside a photo.jpg."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert len(blocks) == count
    monkeypatch.chdir(folder)
    photo(300, 200).save("photo.jpg")
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCS / page), "exec"), names)
