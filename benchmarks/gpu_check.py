"""Whether vlcam does on a GPU what it does on a CPU, how fast, and in how much memory.

    python -m benchmarks.gpu_check --out benchmarks/gpu_check.md

At most eight minutes on one H200; a check that fails is told in the table, the others go on, and
the exit status is 1. ``--device cpu --quick`` tries the checks themselves.

It needs torch, torchvision, numpy, Pillow and safetensors beside this repository, and downloads
nothing: weights are random, or those of the bundled models. What needs a further package is told as
not checked where that is missing: transformers for adapters of its models, PyYAML and google-crc32c
for two more, captum (with matplotlib, tqdm and packaging) for the comparison, pyarrow for the
evaluation, matplotlib for the figure. They can be carried as wheels, in one folder, for the Python
and the system of that machine (here Python 3.12 on x86-64 Linux)::

    pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \\
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \\
        --platform manylinux2014_x86_64 -d wheels captum "transformers>=5.23" google-crc32c \\
        nltk pycocotools

and there, beside what it has already::

    python3 -m pip install --no-index --no-deps --target /tmp/site wheels/*.whl
    PYTHONPATH=/tmp/site python3 -m benchmarks.gpu_check --out gpu_check.md
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

# Before CUDA is begun: without it cuBLAS has no deterministic algorithms.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch

from benchmarks.gpu.check import Found, Section, Settings, run

MODULES = ("speed", "equality", "threads", "memory", "evaluation")
"""Of ``benchmarks/gpu``, in the order in which they are run."""

MINUTES = 7.5
REPOSITORY = Path(__file__).parents[1]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="little of each, to try the checks")
    parser.add_argument("--only", nargs="+", choices=MODULES, default=list(MODULES))
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"default: {MINUTES}")
    parser.add_argument("--out", type=Path, help="the table, in Markdown")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("gpu_check: torch sees no GPU here; --device cpu tries the checks", file=sys.stderr)
        return 2
    threads, settings = (
        torch.get_num_threads(),
        Settings(torch.device(options.device), options.quick),
    )
    torch.set_num_threads(1 if options.quick else min(threads, 4))  # the models are tiny
    try:
        with tempfile.TemporaryDirectory() as folder:
            as_if_installed(Path(folder))
            return checked(settings, options.only, 60 * options.minutes, options.out)
    finally:
        torch.set_num_threads(threads)


def checked(settings: Settings, modules: list[str], seconds: float, out: Path | None) -> int:
    """Run all, tell and write what was found; 1 if anything is not as it should be."""
    begun = time.perf_counter()
    precise = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    every: list[Found] = []
    try:
        for name in modules:
            for section in sections(name):
                print(section.title, file=sys.stderr)
                every.append(run(section, settings, seconds - (time.perf_counter() - begun)))
                if out is not None:  # also if the next one takes the process with it
                    out.write_text(report(settings, every, time.perf_counter() - begun))
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = precise
    print(report(settings, every, time.perf_counter() - begun))
    return 0 if every and all(found.holds for found in every) else 1


def sections(name: str) -> tuple[Section, ...]:
    """Those of a module; one that says what is missing, where it cannot be imported."""
    try:
        found: tuple[Section, ...] = import_module(f"benchmarks.gpu.{name}").SECTIONS
    except ModuleNotFoundError as error:
        return (_missing(name, error),)
    return found


def _missing(name: str, error: ModuleNotFoundError) -> Section:
    def fail() -> tuple[str, bool | None]:
        raise error

    return Section(name.capitalize(), "", lambda _: iter([("all of it", fail)]), 10)


def report(settings: Settings, every: list[Found], seconds: float) -> str:
    """All tables, with what they were measured on."""
    wrong = [(found, one) for found in every for one in found.outcomes if one.holds is False]
    left_out = sum(one.holds is None for found in every for one in found.outcomes)
    checks = sum(len(found.outcomes) for found in every)
    head = f"{checks} checks: {len(wrong)} not as they should be, {left_out} not checked."
    parts = ["# On a GPU" if settings.is_gpu else "# Trying the checks of a GPU", head]
    parts += [found.markdown() for found in every]
    parts.append(f"{seconds:.0f} s on {_device(settings)}; {_versions()}.")
    return "\n\n".join(parts) + "\n"


def _device(settings: Settings) -> str:
    processors = (
        f"{os.cpu_count()} cores ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    )
    if not settings.is_gpu:
        return processors
    about = torch.cuda.get_device_properties(settings.device)
    cudnn = torch.backends.cudnn.version()
    memory = about.total_memory / 2**30
    return (
        f"{about.name} ({memory:.0f} GiB, CUDA {torch.version.cuda}, cuDNN {cudnn}), {processors}"
    )


def _versions() -> str:
    known = [f"Python {platform.python_version()}"]
    for name in ("vlcam", "torch", "torchvision", "numpy", "transformers", "captum"):
        try:
            known.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            known.append(f"no {name}")
    return ", ".join(known)


def as_if_installed(folder: Path) -> None:
    """Tell Python of vlcam's version and entry points, where the repository is not installed; and
    do without progress bars, where there is no tqdm."""
    try:
        version("vlcam")
    except PackageNotFoundError:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
        about = folder / f"vlcam-{project['version']}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Name: vlcam\nVersion: {project['version']}\n")
        lines = []
        for group, entries in project["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
        sys.path.append(str(folder))
    if find_spec("tqdm") is None:
        (folder / "tqdm.py").write_text("def tqdm(things, *_, **__):\n    return things\n")
        sys.path.append(str(folder))


if __name__ == "__main__":
    sys.exit(main())
