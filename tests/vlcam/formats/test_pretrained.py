"""Mutated folders: a model, or one line, in bounded time and memory."""

from __future__ import annotations

from tests.tools import damaged_folders
from tests.tools.limited import limited


def test_mutated_folders() -> None:
    assert limited(damaged_folders.failures, 20, 7, megabytes=3000).result == []
