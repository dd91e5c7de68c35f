"""Records on disk: Parquet parts, each whole or absent, and a manifest that says of what they are.

A folder holds ``manifest.json`` (settings, model, data, versions), ``records/part-00000.parquet``
and so on, each with the records of so many photos in a row and the photos that could not be used,
and ``lock``, held while somebody works in it. A run that was killed leaves whole parts behind, and
the next one makes those that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
from filelock import FileLock, Timeout

from vlcam.evaluation.records import Record
from vlcam.utils.files.atomic import HIDDEN, recover, written
from vlcam.utils.files.text_files import read_json

MANIFEST = "manifest.json"
_SKIPPED = b"skipped"
_TYPES = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_()}


@dataclass(frozen=True)
class Part:
    """The outcome of some photos in a row.

    Attributes:
        records: of all of them.
        skipped: a line for each that could not be used.
    """

    records: Sequence[Record]
    skipped: Sequence[str]


class Store:
    """The folder of one evaluation.

    Args:
        folder: made by :func:`opened`.
        columns: of the records.
    """

    def __init__(self, folder: Path, columns: Mapping[str, type]) -> None:
        self.folder = folder
        self._schema = arrow.schema([(name, _TYPES[kind]) for name, kind in columns.items()])

    def done(self) -> set[int]:
        """The numbers of the parts there are."""
        return {int(path.stem.split("-")[1]) for path in self._parts.glob("part-*.parquet")}

    def write(self, number: int, part: Part) -> None:
        """Write a part, whole."""
        schema = self._schema.with_metadata({_SKIPPED: json.dumps(list(part.skipped))})
        table = arrow.Table.from_pylist(list(part.records), schema)
        with written(self._path(number)) as draft:
            parquet.write_table(table, draft)

    def read(self, number: int) -> tuple[arrow.Table, Sequence[str]]:
        """The records of a part, as a table, and its photos that could not be used.

        Raises:
            ValueError: it is damaged.
        """
        path = self._path(number)
        try:
            table = parquet.read_table(path)
            skipped = json.loads((table.schema.metadata or {}).get(_SKIPPED, b"[]"))
        except (OSError, ValueError, RecursionError, arrow.ArrowException) as error:
            raise ValueError(f"{path}: damaged ({error}); remove it and resume") from error
        return table, skipped

    @property
    def _parts(self) -> Path:
        return self.folder / "records"

    def _path(self, number: int) -> Path:
        return self._parts / f"part-{number:05}.parquet"


@contextmanager
def opened(
    folder: Path, manifest: Mapping[str, Any], columns: Mapping[str, type], resume: bool
) -> Iterator[Store]:
    """An evaluation's folder, new or to be resumed, locked. One that fails before its first part is
    done leaves nothing to resume.

    Args:
        manifest: all that the records depend on, as plain values.

    Raises:
        ValueError: the folder holds something else, an evaluation that is not to be resumed or is
            of other settings, or another run works in it.
    """
    check_free(folder, resume)
    path = folder / MANIFEST
    parts, new = folder / "records", not path.exists()
    parts.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ValueError(f"{folder}: another run works in it") from error
    try:
        _check(path, manifest)
        yield Store(folder, columns)
    except BaseException:
        if new and not any(parts.iterdir()):
            path.unlink(missing_ok=True)
        raise
    finally:
        lock.release()


def check_free(folder: Path, resume: bool) -> None:
    """Raises ValueError where a folder holds something else, or an evaluation that is not to be
    resumed."""
    parts, path = folder / "records", folder / MANIFEST
    for one in (folder, parts):
        recover(one)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is no folder")
    if folder.is_dir() and not path.exists() and any(map(_is_foreign, folder.iterdir())):
        raise ValueError(f"{folder}: is not empty and holds no evaluation; name a new folder")
    if path.exists() and not resume:
        raise ValueError(f"{folder}: holds an evaluation; give --resume to go on, or another --out")


def _is_foreign(path: Path) -> bool:
    """Whether it is nothing that an evaluation without a part leaves in its folder."""
    if path.name == "records" and path.is_dir():
        return any(path.iterdir())
    return path.name not in ("lock", HIDDEN)


def _check(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest, or see that it is the one there."""
    plain = _flat(json.loads(json.dumps(manifest, allow_nan=False)))
    if not path.exists():
        with written(path) as draft:
            draft.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", "utf-8")
        return
    try:
        before = _flat(read_json(path))
    except AttributeError as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    other = [
        f"{name} is {_short(plain.get(name))}, was {_short(before.get(name))}"
        for name in [*plain, *(n for n in before if n not in plain)]
        if plain.get(name) != before.get(name)
    ]
    if other:
        raise ValueError(
            f"{path.parent}: cannot be resumed with other settings: {'; '.join(other)}"
        )


def _flat(found: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """A manifest's values by their full names (``settings.limit``)."""
    flat: dict[str, Any] = {}
    for name, value in found.items():
        flat |= (
            _flat(value, f"{start}{name}.") if isinstance(value, dict) else {start + name: value}
        )
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
