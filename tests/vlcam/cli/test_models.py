"""``vlcam models``."""

from __future__ import annotations

import pytest

from tests.tools.command_line import called


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("models") == 0
    lines = capsys.readouterr().out.splitlines()
    for name, reference in (
        ("scenes", "captioner of rendered scenes"),
        ("scenes", "VQA model of rendered scenes"),
        ("neuraltalk", "NeuralTalk2"),
        ("neuraltalk2-pytorch", "ImageCaptioning.pytorch"),
        ("blip", "Li et al., 2022"),
    ):
        said = [line for line in lines if line.split()[0] == name and reference in line]
        assert len(said) == 1
