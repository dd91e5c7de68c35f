"""Which package may import which: arrows point one way, and nothing goes round in a circle.

Every import counts, wherever it stands: in functions and under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("vlcam", "captioning", "vqa", "word_maps")

ORDER = [
    {"utils"},
    {"geometry"},
    {"photo"},
    {"formats"},
    {"networks"},
    {"adapters"},
    {"attribution"},
    {"explanation", "metrics"},
    {"models"},
    {"explaining"},
    {"testing", "evaluation", "training", "scenes"},
    {"cli"},
]
"""vlcam's parts; each imports only those before it (docs/architecture.md)."""

MAY_IMPORT = {
    "vlcam": {"vlcam"},
    "word_maps": {"word_maps"},
    "captioning": {"captioning", "vlcam", "word_maps"},
    "vqa": {"vqa", "vlcam", "word_maps"},
}


@cache
def modules() -> dict[str, Path]:
    """Every module of the packages by its name; a package by its own."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of ours that a module imports."""
    return frozenset(
        name
        for node in ast.walk(ast.parse(modules()[module].read_text("utf-8")))
        for name in _named(node)
        if name in modules() and name != module
    )


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are absolute"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in modules() else node.module


def part(module: str) -> str | None:
    """The part of vlcam a module belongs to; None: the package itself."""
    names = module.split(".")
    return names[1] if names[0] == "vlcam" and len(names) > 1 else None


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_those_they_build_on(package: str) -> None:
    wrong = [
        f"{module} -> {name}"
        for module in modules()
        for name in imports(module)
        if module.split(".")[0] == package and name.split(".")[0] not in MAY_IMPORT[package]
    ]
    assert not wrong


def test_arrows_within_vlcam_point_one_way() -> None:
    level = {name: i for i, names in enumerate(ORDER) for name in names}
    # The package itself offers the public names of its parts, each when first used.
    known = {part(module) for module in modules()} - {None, "__main__"}
    assert known == set(level)
    wrong = []
    for module in modules():
        own = part(module)
        if own is None or own == "__main__":
            continue
        for name in imports(module):
            other = part(name)
            if other is not None and other != own and level[other] >= level[own]:
                wrong.append(f"{module} -> {name}")
    assert not wrong


def test_no_circle() -> None:
    """Nor one that only an import inside a function, or of a type, keeps from failing."""
    graph = {
        module: {name for name in imports(module) if name not in ("vlcam", "captioning", "vqa")}
        for module in modules()
        if module not in ("vlcam", "captioning", "vqa")
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_vlcam_names_no_package_that_builds_on_it() -> None:
    """Not even in a string: whatever they have comes through entry points."""
    named = re.compile(r"\b(captioning|vqa|word_maps)(\.\w|/)")
    wrong = [
        f"{path}:{number}: {line.strip()}"
        for module, path in modules().items()
        if module.split(".")[0] == "vlcam"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if named.search(line)
    ]
    assert not wrong
