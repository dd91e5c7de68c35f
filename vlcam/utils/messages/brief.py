"""Values as somebody who prints them wants to see them: a tensor's shape, not its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

_LONGEST = 60  # characters of a text
_MOST = 6  # values of a container


class Brief:
    """A data class that is printed in one line, whatever it holds; declared with ``repr=False``."""

    def __repr__(self) -> str:
        named: Any = self
        said = ", ".join(f"{f.name}={brief(getattr(self, f.name))}" for f in fields(named))
        return f"{type(self).__name__}({said})"


def brief(value: Any) -> str:
    """A value in a few words: ``float32 (8, 14, 14)``, ``[1, 2, 3, 4, 5, 6, ... 120 in all]``."""
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and kind is not None:
        return f"{str(kind).removeprefix('torch.')} {tuple(shape)}"
    if isinstance(value, str):
        return shortened(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        pairs = [f"{brief(k)}: {brief(v)}" for k, v in list(value.items())[:_MOST]]
        return f"{{{_joined(pairs, len(value))}}}"
    if isinstance(value, tuple | list):
        said = _joined([brief(one) for one in value[:_MOST]], len(value))
        if isinstance(value, list):
            return f"[{said}]"
        return f"({said},)" if len(value) == 1 else f"({said})"
    size, mode = getattr(value, "size", None), getattr(value, "mode", None)
    if isinstance(mode, str) and isinstance(size, tuple):  # an image of PIL
        return f"{mode} image of {size[0]} x {size[1]}"
    return repr(value)


def shortened(text: str, longest: int = _LONGEST) -> str:
    """A text in quotes, cut short where it is long."""
    return repr(text if len(text) <= longest else f"{text[: longest - 3]}...")


def _joined(said: list[str], count: int) -> str:
    return ", ".join(said if count <= len(said) else [*said, f"... {count} in all"])
