"""What an evaluation says of things that could not be used."""

from __future__ import annotations

from vlcam.evaluation.evaluate import told_once


def test_many_things_of_one_reason_are_told_in_one_line() -> None:
    lines = [f"{number}: no visual word" for number in range(40)]
    lines.insert(20, "photo 7: 7.jpg: no such file")
    lines += ["a: empty", "b: empty", "c: empty", "without a colon", "without a colon"]
    assert told_once(lines) == [
        "0, 1, 2 and 37 more: no visual word",
        "photo 7: 7.jpg: no such file",
        "a: empty",
        "b: empty",
        "c: empty",
        "without a colon",
    ]
    assert told_once([]) == []
