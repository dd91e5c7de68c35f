"""Files that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlcam.utils.atomic import written


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    with written(path) as draft:
        draft.write_text("one")
        assert not path.exists() and draft.parent == tmp_path
    assert path.read_text() == "one"
    with pytest.raises(error), written(path) as draft:
        draft.write_text("half of tw")
        raise error
    assert path.read_text() == "one" and [p.name for p in tmp_path.iterdir()] == ["file"]
