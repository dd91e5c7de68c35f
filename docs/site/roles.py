"""Docstrings speak of other code by Sphinx's roles; on the site these are links.

``:func:`vlcam.explain``` becomes a link to that function, where the site has it, and code where
not.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?([^`]+)`")
LITERAL = re.compile(r"^(.*?) ?::$", re.MULTILINE)  # "as follows::", before an indented block


class Roles(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is None:
            return

        def link(role: re.Match[str]) -> str:
            name = role[1]
            return (
                f'<autoref optional identifier="{_path(obj, name)}"><code>{name}</code></autoref>'
            )

        text = ROLE.sub(link, obj.docstring.value)
        obj.docstring.value = LITERAL.sub(lambda line: line[1] and f"{line[1]}:", text)


def _path(obj: griffe.Object, name: str) -> str:
    """What a name means where it is written: in the class or module, or by itself."""
    first, _, rest = name.partition(".")
    try:
        found = obj.resolve(first)
    except griffe.NameResolutionError:
        return name
    return f"{found}.{rest}" if rest else found
