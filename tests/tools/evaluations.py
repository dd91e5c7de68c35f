"""``vlcam evaluate words`` on scenes, and what it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from tests.tools.command_line import OF_SCENES
from vlcam.cli.parser import main

SUMMARIES = ("summary.json", "summary.md", "summary.tex", "report.html")


def words(folder: Path, out: Path, *more: str) -> int:
    command = ["evaluate", "words", "--data", str(folder), "--out", str(out)]
    return main([*command, *more, *(() if "--model" in more else OF_SCENES)])


def records(out: Path) -> list[dict[str, Any]]:
    parts = sorted((out / "records").glob("*.parquet"))
    return [record for part in parts for record in parquet.read_table(part).to_pylist()]


def summaries(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in SUMMARIES]
