"""Lets mkdocs show what lies outside ``docs/``: tables of ``benchmarks/``, cards of the models.

A link to one (``../benchmarks/real/words.md``) works in the repository as it stands; on the site
it is a page of its own, and the link leads there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "benchmarks": "tables",
    "captioning/bundled": "cards/captioning",
    "vqa/bundled": "cards/vqa",
}
"""Where pages lie outside ``docs/``, and on the site."""


def on_files(files: Files, *, config: Any) -> Files:
    """Each becomes a page that the navigation does not list."""
    for folder, there in FOLDERS.items():
        for path in sorted((ROOT / folder).glob("*/*.md")):
            uri = f"{there}/{path.relative_to(ROOT / folder).as_posix()}"
            page = File.generated(config, uri, abs_src_path=str(path))
            page.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(page)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links between ``docs/`` and such pages lead to where they are on the site; each says which
    file it is."""
    uri = page.file.src_uri
    up = "../" * uri.count("/")
    for folder, there in FOLDERS.items():
        link = rf"\]\((?:\.\./)+{folder}/([\w/]+\.md)"
        markdown = re.sub(link, rf"]({up}{there}/\1", markdown)
        if uri.startswith(f"{there}/"):
            file = folder + uri.removeprefix(there)
            markdown += f"\n\nThis is `{file}`; see [results]({up}results.md).\n"
    return re.sub(r"\]\((?:\.\./)+docs/", f"]({up}", markdown)
