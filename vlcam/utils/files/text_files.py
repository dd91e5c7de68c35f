"""Text and JSON files as others wrote them: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlcam.utils.files.input_files import read_bytes


def read_text(path: Path) -> str:
    """A file's text; its lines end with a line feed.

    Raises:
        ValueError: naming the file, which is missing or not UTF-8.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    return decoded(data, str(path))


def decoded(data: bytes, name: str) -> str:
    """The text of a file, as of :func:`read_text`.

    Raises:
        ValueError: naming the file and the line that is not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{name}: line {line} is not UTF-8 (byte {data[error.start]:#04x} at {error.start});"
            " save the file as UTF-8"
        ) from error
    return io.StringIO(text, newline=None).read()


def read_lines(path: Path) -> list[str]:
    """The lines of a list, a thing a line, without blanks around them; empty ones are left out.

    Raises:
        ValueError: as by :func:`read_text`.
    """
    return [line.strip() for line in read_text(path).split("\n") if line.strip()]


def objects_within(data: Any) -> Iterator[dict[str, Any]]:
    """Every object in data as JSON has it, however deep; without recursion."""
    waiting = [data]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            yield found
            waiting += found.values()


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: naming the file, which is missing, not UTF-8, or no JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON, or cut in the middle ({error})") from error
