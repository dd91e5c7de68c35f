"""Visual words of a caption."""

from __future__ import annotations

import word_maps


def found(caption: str) -> list[tuple[str, str]]:
    tokens = caption.split()
    return [(" ".join(tokens[a:b]), name) for a, b, name in word_maps.visual_words(tokens)]
