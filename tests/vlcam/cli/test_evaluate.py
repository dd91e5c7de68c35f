"""``vlcam evaluate``: options that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.evaluations import words


@pytest.mark.parametrize(
    ("options", "said", "code"),
    [
        (["--method", "grad-kam"], "unknown method 'grad-kam'", 1),
        (["--limit", "0"], "'0' is not a whole number, at least 1", 2),
        (["--split", "val2017"], "instances_val2017.json: No such file", 1),
        (["--model", "nowhere"], "nowhere: no such file or folder", 1),
        (["--words", "nowhere"], "nowhere: no such file", 2),
    ],
)
def test_bad_options(
    scenes: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    if code == 2:
        with pytest.raises(SystemExit) as stopped:
            words(scenes, out, *options)
        assert stopped.value.code == 2
    else:
        assert words(scenes, out, *options) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not out.exists()
