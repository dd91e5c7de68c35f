"""The code in docs/ runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny import photo

DOCS = Path(__file__).parent.parent / "docs"


def test_own_captioner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "own_captioner.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    photo(300, 200).save("photo.jpg")
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOCS / "own_captioner.md"), "exec"), names)
    assert {p.name for p in Path("explained").iterdir()} == {"explanation.json", "maps.npz"}
    assert Path("figure.png").stat().st_size > 10_000
