"""How many nouns of captions are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import word_maps
from word_maps.coverage import nouns as places_of_nouns


def test_coverage_counts_words_and_names_what_is_missing() -> None:
    seen = word_maps.coverage(
        ["A dog on a fire hydrant.", "two gizmos and a dog", "the gizmos , a"]
    )
    assert (seen.captions, seen.words, seen.matched) == (3, 14, 4)
    assert seen.categories == {"dog": 2, "fire hydrant": 1}
    assert seen.unmatched == {"gizmos": 2}
    assert seen.share == 4 / 14


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a man riding a large wave", ["man", "wave"]),
        ("a living room with a lamp.", ["room", "lamp"]),
        ("the street is full of cars parked by the shed", ["street", "shed"]),
        ("his bright red hat, and some of it", ["hat"]),
        ("red and white", []),
        ("the", []),
        ("", []),
    ],
)
def test_nouns_are_found_without_a_tagger(caption: str, expected: list[str]) -> None:
    tokens = caption.split()
    assert [tokens[i].strip(".,") for i in places_of_nouns(tokens)] == expected


def test_coverage_from_the_command_line(tmp_path: Path) -> None:
    captions, mine = tmp_path / "captions.json", tmp_path / "mine.txt"
    captions.write_text('{"annotations": [{"caption": "a gizmo and a dog"}]}')
    mine.write_text("robot: gizmo\n")
    command = [sys.executable, "-m", "word_maps", str(captions)]
    for more, code, said in (
        ([], 0, "5 words, 1 of them (20.0 %) in visual words"),
        (["--table", str(mine)], 0, "5 words, 2 of them (40.0 %)"),
        (["--table", str(captions)], 2, "captions.json: line 1"),
    ):
        result = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        assert result.returncode == code and said in result.stdout + result.stderr
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()  # whoever read it has had enough, as `| head` has
        assert (process.wait(), process.stderr.read()) == (141, b"")
    captions.write_text("{}")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "captions.json: not captions in COCO's layout" in result.stderr
