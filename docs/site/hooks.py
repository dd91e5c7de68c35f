"""Lets mkdocs show the tables under ``benchmarks/``, which lie outside ``docs/``.

A link to one (``../benchmarks/real/words.md``) works in the repository as it stands; on the site
the table is a page of its own, and the link leads there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
TABLES = "tables"  # the site's folder for them


def on_files(files: Files, *, config: Any) -> Files:
    """Each table becomes a page that the navigation does not list."""
    for table in sorted((ROOT / "benchmarks").glob("*/*.md")):
        uri = f"{TABLES}/{table.relative_to(ROOT / 'benchmarks').as_posix()}"
        page = File.generated(config, uri, abs_src_path=str(table))
        page.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(page)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links to a table lead to its page; a table says which file it is."""
    if page.file.src_uri.startswith(f"{TABLES}/"):
        name = page.file.src_uri.removeprefix(f"{TABLES}/")
        return f"{markdown}\n\nThis is `benchmarks/{name}`; see [results](../../results.md).\n"
    up = "../" * page.file.src_uri.count("/")
    return re.sub(r"\]\((?:\.\./)+benchmarks/([\w/]+\.md)\)", rf"]({up}{TABLES}/\1)", markdown)
