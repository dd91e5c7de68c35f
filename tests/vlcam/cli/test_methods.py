"""``vlcam methods``."""

from __future__ import annotations

import re

import pytest

from tests.tools.command_line import called
from vlcam.attribution.methods import METHODS


def test_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    for line in lines:  # a place in the paper, or another paper with its year
        assert re.search(r"eq\. \d|section \d|Table \d|\(.* \d{4}\)", line)
