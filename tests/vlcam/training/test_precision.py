"""The precision that is the faster one here is found by trying, and the CNN is left as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch
from torch import Tensor, nn

from tests.tools.untouched import unchanged
from vlcam.training.precision import PRECISIONS, check_precision, fastest_precision

_TRIED = """
import torch
from vlcam.networks.encoder import Encoder
from vlcam.training.precision import fastest_precision
emulated = not torch.ops.mkldnn._is_mkldnn_bf16_supported()
for trained in (False, True):
    found = fastest_precision(Encoder("small", (96, 96)), (96, 96), trained=trained)
    print(found if emulated else "float32")
"""


class Net(nn.Module):
    """Takes so many seconds forward, and again backward, by the precision."""

    def __init__(self, forward: dict[str, float], backward: dict[str, float]) -> None:
        super().__init__()
        self.seconds = forward, backward
        self.body = nn.Sequential(
            nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(72, 1)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        name = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
        ahead, back = (seconds[name] for seconds in self.seconds)
        _work(ahead)
        feature: Tensor = self.body(pixels)
        if feature.requires_grad:
            feature.register_hook(lambda _: _work(back))
        return feature


def _work(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


SLOW = {"float32": 0.01, "bfloat16": 0.04}
FAST = {"float32": 0.04, "bfloat16": 0.01}


@pytest.mark.parametrize(
    ("ahead", "back", "trained", "expected"),
    [
        (SLOW, SLOW, True, "float32"),
        (SLOW, FAST, False, "float32"),
        (FAST, SLOW, False, "bfloat16"),
        (FAST, FAST, True, "bfloat16"),
        (FAST, {"float32": 0.01, "bfloat16": 0.1}, True, "float32"),
        # A tenth less is not worth it.
        ({"float32": 0.05, "bfloat16": 0.048}, FAST, False, "float32"),
    ],
)
def test_the_faster_one(
    ahead: dict[str, float],
    back: dict[str, float],
    trained: bool,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    net, threads = Net(ahead, back).train(), torch.get_num_threads()
    with unchanged(net):
        assert fastest_precision(net, (8, 8), trained=trained) == expected
    assert torch.get_num_threads() == threads
    assert capsys.readouterr().err.startswith(f"precision: {expected} (bfloat16 takes ")


def test_a_processor_that_emulates_bfloat16_computes_in_float32() -> None:
    """One of x86 is made to do as if it had AVX2 alone; the others are what they are."""
    avx2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", _TRIED]
    found = subprocess.run(command, env=os.environ | avx2, check=True, capture_output=True)
    assert found.stdout.decode().split() == ["float32", "float32"]


@pytest.mark.parametrize("name", ["half", "", "float16", "AUTO", "none"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown --precision '{name}'; "):
        check_precision(name)
    for known in ("auto", *PRECISIONS):
        check_precision(known)
