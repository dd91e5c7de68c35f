"""The tree of docs/architecture.md: every module, with the first sentence of its docstring.

    python docs/site/tree.py            # prints it
    python docs/site/tree.py --write    # writes it into the page

A test compares the page with the files.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
MARKS = "<!-- python docs/site/tree.py -->", "<!-- end -->"
LONGEST = 84  # characters of a summary
ORDER = (
    *(
        "utils",
        "geometry",
        "photo",
        "formats",
        "networks",
        "adapters",
        "attribution",
        "explanation",
    ),
    *("metrics", "language", "answering", "models", "data", "evaluation", "training", "scenes"),
    *("choosing", "experiments", "cli", "commands"),
)
"""Folders in the order in which they build on each other."""


def tree() -> str:
    """A block of text for each package."""
    return "\n\n".join(block(name) for name in ("vlcam", "captioning", "vqa", "word_maps"))


def block(package: str) -> str:
    """One package: its folders in order, then its own modules."""
    folder = ROOT / package
    inner = [child for child in folder.iterdir() if is_package(child)]
    inner.sort(key=place)
    lines = [f"{package}/"]
    for child in inner:
        lines += listed(child, depth=1)
    lines += modules(folder, depth=1)
    return "```text\n" + "\n".join(lines) + "\n```"


def place(folder: Path) -> tuple[int, str]:
    """Where a folder stands; those not in the order stand last."""
    return (ORDER.index(folder.name) if folder.name in ORDER else len(ORDER), folder.name)


def listed(folder: Path, depth: int) -> list[str]:
    """A folder and what is in it."""
    lines = [line(depth, f"{folder.name}/", summary(folder / "__init__.py"))]
    lines += modules(folder, depth + 1)
    for child in sorted(child for child in folder.iterdir() if is_package(child)):
        lines += listed(child, depth + 1)
    return lines


def modules(folder: Path, depth: int) -> list[str]:
    """The modules of a folder."""
    paths = sorted(path for path in folder.glob("*.py") if not path.name.startswith("__"))
    return [line(depth, path.name, summary(path)) for path in paths]


def line(depth: int, name: str, text: str) -> str:
    start = f"{'  ' * depth}{name:28}" if text else f"{'  ' * depth}{name}"
    return f"{start} {text}".rstrip()


def summary(path: Path) -> str:
    """The first sentence of a module's docstring; of a long one the beginning."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    first = " ".join(text.split("\n\n")[0].split())
    first = re.sub(r":\w+:`~?([^`]+)`", r"\1", first).replace("``", "")
    first = re.split(r"(?<=[\w)])(?<!al)\.(?= )", first)[0].rstrip(".")
    if len(first) <= LONGEST:
        return first
    cuts = [m.start() for m in re.finditer(r", |: |; | \(", first[:LONGEST])]
    start = max((c for c in cuts if first.count("(", 0, c) == first.count(")", 0, c)), default=0)
    return first[:start] if start > LONGEST // 3 else f"{first[:LONGEST].rsplit(' ', 1)[0]} ..."


def is_package(path: Path) -> bool:
    return (path / "__init__.py").is_file()


def written(page: str) -> str:
    """The page with the tree of today."""
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1], 1)[1]
    return f"{before}{MARKS[0]}\n{tree()}\n{MARKS[1]}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
    else:
        print(tree())
