"""Whether an output can be written, asked before anything is computed for it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from vlcam.utils.files.atomic import folder_written, written


class _CanBeError(Exception):
    """Ends the writing that was only tried."""


def check_file(path: str | Path) -> None:
    """Try whether a file can be written; nothing is left of it.

    Raises:
        OSError: it cannot; the error names it.
    """
    with suppress(_CanBeError), written(path) as draft:
        draft.write_bytes(b"\0")
        raise _CanBeError


def check_folder(folder: str | Path) -> None:
    """Try whether files can be written to a folder that may not be there yet; nothing is left.

    Raises:
        OSError: they cannot; the error names it.
    """
    with suppress(_CanBeError), folder_written(folder) as draft:
        (draft / "file").write_bytes(b"\0")
        raise _CanBeError


def check_apart(output: Path, *inputs: str | Path) -> None:
    """Raises ValueError where an output is one of the files or folders that are read for it."""
    for path in map(Path, inputs):
        if path.exists() and output.exists() and path.samefile(output):
            raise ValueError(f"{output}: is read for it, so it is not written over; name another")
