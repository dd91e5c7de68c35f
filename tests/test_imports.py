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
    {"choosing"},
    {"cli"},
]
"""vlcam's parts; each imports only those before it (docs/architecture.md)."""

NOT_INSTALLED = {"tests", "benchmarks", "docs"}
"""Folders beside the packages, which no package may import."""

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
        if (name in modules() or name in NOT_INSTALLED) and name != module
    )


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = (alias.name for alias in node.names)
        yield from (n.split(".")[0] if n.split(".")[0] in NOT_INSTALLED else n for n in names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "imports are absolute"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            first = node.module.split(".")[0]
            yield first if first in NOT_INSTALLED else inner if inner in modules() else node.module


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
            # Through the package itself everything is reached.
            upward = own != "cli" if name == "vlcam" else level.get(str(other), -1) >= level[own]
            if upward and other != own:
                wrong.append(f"{module} -> {name}")
    assert not wrong


def test_no_circle() -> None:
    """Nor one that only an import inside a function, or of a type, keeps from failing."""
    graph = {module: imports(module) for module in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


UNNAMED = {
    "vlcam": ("captioning", "vqa", "word_maps"),
    "captioning": ("vqa",),
    "vqa": ("captioning",),
    "word_maps": ("vlcam", "captioning", "vqa"),
}
"""What each package may not name: whatever others have comes through entry points."""


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_may_not_name(package: str) -> None:
    """Not even in a string, a comment or a page: ``vqa.models``, ``vqa:load``, ``vqa/models``."""
    named = re.compile(rf"\b({'|'.join(UNNAMED[package])})[.:/]\w")
    imported = re.compile(rf"import_module\(\s*[\"']({'|'.join(UNNAMED[package])})\b")
    files = [
        p for p in (ROOT / package).rglob("*.*") if p.suffix in (".py", ".html", ".css", ".js")
    ]
    assert files
    wrong = [
        f"{path}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if named.search(line) or imported.search(line)
    ]
    assert not wrong
