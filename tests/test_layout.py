"""A test file is where its source file is, and offers nothing to others.

What tests share is in ``samples`` (tiny models and files of every published layout), in ``tools``
and in ``conftest.py``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent

WITHOUT_SOURCE = {
    ".": {"docs", "imports", "layout", "third_party"},
    "contract": {
        "hostile_files",
        "every_adapter",
        "every_annotation_reader",
        "every_writer",
        "testing",
    },
}
"""Test files about the repository as a whole, and about every adapter, reader and writer."""

MOST_FILES = 15


def names_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {names_of(path): path for path in sorted(TESTS.rglob("*.py"))}
TEST_MODULES = {name for name, path in FILES.items() if path.name.startswith("test_")}


def imported(name: str) -> Iterator[str]:
    """The modules of tests that one of them imports, wherever the import stands."""
    for node in ast.walk(ast.parse(FILES[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{name}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_test_module_is_imported() -> None:
    """Neither by another one, nor by samples, tools or a conftest."""
    assert not [
        f"{name} -> {other}" for name in FILES for other in imported(name) if other in TEST_MODULES
    ]


def test_samples_use_nothing_else_of_the_tests() -> None:
    allowed = ("tests.samples", "tests.tools")
    assert not [
        f"{name} -> {other}"
        for name in FILES
        if name.startswith(allowed)
        for other in imported(name)
        if other.split(".")[0] == "tests" and other != "tests" and not other.startswith(allowed)
    ]


def test_a_test_file_is_where_its_source_file_is() -> None:
    wrong = []
    for name in TEST_MODULES:
        path = FILES[name].relative_to(TESTS)
        source = path.with_name(path.name.removeprefix("test_"))
        whole = source.stem in WITHOUT_SOURCE.get(str(path.parent), ())
        if not whole and (path.parent == Path() or not (ROOT / source).is_file()):
            wrong.append(f"tests/{path}: there is no {source}")
    assert not wrong
    assert not [*TESTS.rglob("*_test.py")], "test files are called test_*.py"


def test_no_folder_is_crowded() -> None:
    counts = {folder: len([*folder.glob("*.py")]) for folder in (TESTS, *TESTS.rglob("*"))}
    assert not {str(folder): count for folder, count in counts.items() if count > MOST_FILES}
