"""Records as columns are the records that were written."""

from __future__ import annotations

import pyarrow as arrow

from vlcam.evaluation.records import Columns, Record

RECORDS: list[Record] = [
    {"image": "7", "map": "grad-cam", "hit": 1.0, "x": 3, "flat": False},
    {"image": "7", "map": "centre", "hit": 0.0, "x": -1, "flat": False},
    {"image": "9", "map": "grad-cam", "hit": 0.5, "x": 0, "flat": True},
]
SCHEMA = arrow.schema(
    [
        ("image", arrow.string()),
        ("map", arrow.string()),
        ("hit", arrow.float64()),
        ("x", arrow.int64()),
        ("flat", arrow.bool_()),
    ]
)


def columns(records: list[Record]) -> Columns:
    return Columns.of(arrow.Table.from_pylist(records, SCHEMA))


def test_a_record_comes_back_as_it_was() -> None:
    found = columns(RECORDS)
    assert [found.record(row) for row in range(len(found))] == RECORDS
    types = {name: type(value) for name, value in found.record(2).items()}
    assert types == {"image": str, "map": str, "hit": float, "x": int, "flat": bool}


def test_parts_keep_their_order() -> None:
    found = columns(RECORDS)
    parts = found.by("map")
    assert list(parts) == ["grad-cam", "centre"]
    assert parts["grad-cam"]["image"].tolist() == ["7", "9"]
    assert [found.rows([2, 0]).record(row)["x"] for row in (0, 1)] == [0, 3]
    assert len(found.rows(found["hit"] > 2)) == 0 and found.rows(found["x"] > 9).by("map") == {}


def test_of_nothing_there_are_no_rows() -> None:
    found = columns([])
    assert len(found) == 0 and len(found["map"]) == 0 and found.by("map") == {}


def test_parts_written_one_by_one_are_one_table() -> None:
    tables = [arrow.Table.from_pylist([record], SCHEMA) for record in RECORDS]
    found = Columns.of(arrow.concat_tables(tables))
    assert [found.record(row) for row in range(3)] == RECORDS
    # A text that occurs again is kept once.
    assert found["map"][0] is found["map"][2]
