"""The checks of a GPU are tried on the CPU, also where nothing but PyTorch is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distributions
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.gpu.check import Checks, Section, Settings, run

ROOT = Path(__file__).parents[2]
MISSING = (
    "transformers", "tokenizers", "captum", "matplotlib", "pyarrow", "scipy", "yaml",
    "google_crc32c", "pycocotools", "nltk", "filelock", "pytest", "ray", "pandas",
)  # fmt: skip

_BARE = f"""
import sys
sys.modules.update(dict.fromkeys({MISSING!r}))
from benchmarks.gpu_check import main
sys.exit(main(["--device", "cpu", "--quick", "--only", "equality"]))
"""


def test_all_holds_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads, out = torch.get_num_threads(), tmp_path / "table.md"
    assert gpu_check.main(["--device", "cpu", "--quick", "--out", str(out)]) == 0
    text = out.read_text()
    assert text == capsys.readouterr().out.removesuffix("\n")
    assert ": 0 not as they should be, 3 not checked" in text  # memory, which has no counter
    assert f"({torch.backends.cpu.get_cpu_capability()})" in text.replace("x86_64, ", "(")
    for heading in ("Speed", "Adapters and methods", "Half precision", "GPU memory", "Evaluation"):
        assert f"\n## {heading}\n" in text
    assert torch.get_num_threads() == threads


def test_a_machine_with_pytorch_alone() -> None:
    command = [sys.executable, "-c", _BARE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr
    for line in ("adapters of pretrained.py", "adapters of packages.py"):
        assert f"| {line} " in done.stdout
    assert "transformers is missing |     not checked |" in done.stdout
    assert "0 not as they should be" in done.stdout
    assert "| neuraltalk " in done.stdout


def _raises(error: Exception) -> Callable[[], tuple[str, bool]]:
    def fail() -> tuple[str, bool]:
        raise error

    return fail


def _checks(settings: Settings) -> Checks:
    yield "first", _raises(RuntimeError("cuDNN is cross | very"))
    yield "second", _raises(ModuleNotFoundError("no", name="captum"))
    yield "third", lambda: ("0.1", False)
    yield "fourth", lambda: ("fine", True)
    raise ZeroDivisionError("of the list itself")


def test_what_fails_is_told_and_the_others_go_on() -> None:
    settings = Settings(torch.device("cpu"))
    found = run(Section("Some", "About.", _checks, 60), settings, 60)
    assert [one.holds for one in found.outcomes] == [False, None, False, True, False]
    assert not found.holds
    table = found.markdown()
    assert "RuntimeError: cuDNN is cross / very" in table and "captum is missing" in table
    assert "ZeroDivisionError" in table
    late = run(Section("Some", "About.", _checks, -1), settings, 60)
    assert all(one.found == "no time left" for one in late.outcomes[:4]) and not late.holds


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        assert gpu_check.main([]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_repository_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(gpu_check, "version", unknown)
    monkeypatch.setattr(sys, "path", sys.path[:])
    gpu_check.as_if_installed(tmp_path)
    (found,) = distributions(path=[str(tmp_path)])
    (installed, *_) = distributions(name="vlcam")
    assert found.version == installed.version
    names = {(entry.group, entry.name, entry.value) for entry in found.entry_points}
    assert ("vlcam.models", "captioning", "captioning.families:FAMILIES") in names
