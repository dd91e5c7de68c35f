"""Entries that are left out, and how they are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from word_maps.coco import read_captions, read_instances
from word_maps.entries import Entries, Id, Number, of_file_name, read_entries


class Part(msgspec.Struct):
    id: Id
    at: list[Number] = []


class Whole(msgspec.Struct):
    id: Id
    name: str
    parts: Entries[Part]


class File(msgspec.Struct):
    wholes: Entries[Whole]


SOUND = {"id": 1, "name": "one", "parts": [{"id": 7}, {"id": 8, "at": [1, 2.5]}]}


def left_out(path: Path, text: str) -> tuple[File, list[str]]:
    path.write_text(text)
    return read_entries(path, File, what="a file of wholes")


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({"id": "2"}, "wholes[1]: id is '2', not a whole number"),
        ({"id": True}, "wholes[1]: id is True, not a whole number"),
        ({"id": 2.0}, "wholes[1]: id is 2.0, not a whole number"),
        (
            {"id": 2**63},
            "wholes 9223372036854775808: id is 9223372036854775808, not a whole number <=",
        ),
        ({"name": None}, "wholes 2: name is None, not text"),
        ({"name": "\ud800 dog"}, "wholes 2: half of a surrogate pair in"),
        ({"parts": {}}, "wholes 2: parts is {}, not a list"),
        ({"parts": [{"id": 9}, {"at": []}]}, "wholes 2: parts[1]: no id"),
        (
            {"parts": [{"id": 9}, {"id": 3, "at": [0, None]}]},
            "wholes 2: parts 3: at[1] is None",
        ),
        (
            {"parts": [{"id": 9}, {"id": 3, "at": [float("nan")]}]},
            "wholes 2: parts 3: at[0] is",
        ),
        (
            {"parts": [{"id": 9}, {"id": 3, "at": [float("inf")]}]},
            "wholes 2: parts 3: at[0] is",
        ),
        ({"parts": [{"id": 9}, 7]}, "wholes 2: parts[1] is 7, not an object"),
    ],
)
def test_one_odd_entry_costs_no_others(odd: dict[str, Any], said: str, tmp_path: Path) -> None:
    wholes = [SOUND, {**SOUND, "id": 2, **odd}, {**SOUND, "id": 3}]
    found, (line,) = left_out(tmp_path / "a.json", json.dumps({"wholes": wholes}))
    assert line.startswith(f"a.json: {said}")
    kept = {whole.id: [part.id for part in whole.parts] for whole in found.wholes}
    assert kept.items() >= {1: [7, 8], 3: [7, 8]}.items()
    assert kept.get(2, [9]) == [9]


def test_a_number_of_many_digits_costs_no_other_entry(tmp_path: Path) -> None:
    text = json.dumps({"wholes": [SOUND, {**SOUND, "id": 2}]})
    found, lines = left_out(tmp_path / "a.json", text.replace('"id": 2,', f'"id": {"9" * 5000},'))
    assert [whole.id for whole in found.wholes] == [1]
    assert lines == ["a.json: wholes[1]: id is inf, not a whole number"]


def test_a_key_given_twice_is_told_also_where_both_values_would_do(tmp_path: Path) -> None:
    text = json.dumps({"wholes": [SOUND, {**SOUND, "id": 2}]})
    path = tmp_path / "a.json"
    found, lines = left_out(path, text.replace('"id": 2,', '"id": 2, "id": 3,'))
    assert [whole.id for whole in found.wholes] == [1]
    assert lines == ["a.json: wholes[1]: 'id' is given twice"]
    found, lines = left_out(path, text.replace('"id": 8,', '"id": 8, "id": 9,'))
    assert [len(whole.parts) for whole in found.wholes] == [1, 1] and len(lines) == 2
    with pytest.raises(ValueError, match="not a file of wholes \\('wholes' is given twice"):
        left_out(path, text[:-1] + ', "wholes": []}')
    # Of what is not read, a key may be there as often as it likes, and have a value's name.
    text = json.dumps(
        {"wholes": [{**SOUND, "name": "id", "more": {"id": 3}}], "licenses": [{"id": 0}]}
    )
    found, lines = left_out(path, text)
    assert len(found.wholes) == 1 and not lines


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON, or cut in the middle"),
        (b'{"wholes": [', "not JSON, or cut in the middle"),
        (b"[" * 100_000, "not JSON, or cut in the middle"),
        (b'{"wholes": "caf\xe9"}', "can't decode byte 0xe9 in position 15"),
        (b'{"wholes": [], "caf\xe9": 1}', "can't decode byte 0xe9 in position 19"),
        (b'{"wholes": {}}', "not a file of wholes \\(wholes is {}, not a list"),
        (b'{"whole": []}', "not a file of wholes \\(no wholes"),
        (b"7", "not a file of wholes"),
    ],
)
def test_files_that_are_no_such_files(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_entries(path, File, what="a file of wholes")
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text(json.dumps({"wholes": [SOUND]}), encoding)
        assert len(read_entries(path, File, what="a file of wholes")[0].wholes) == 1


def test_names_that_lead_out_of_their_folder() -> None:
    assert of_file_name("a b/IMG 1.JPG") is None and of_file_name("..jpg") is None
    for name in ("../a.jpg", "a/../../b.jpg", "/etc/passwd"):
        assert "leads out" in (of_file_name(name) or "")
    for name in ("", ".", "a\0.jpg", "\N{SNOWMAN}" * 100):
        assert "no name" in (of_file_name(name) or "")


IMAGES = [{"id": n, "file_name": f"{n}.jpg", "height": 30, "width": 40} for n in (1, 2)]
THING = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 20, 0, 20, 20]]}


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (
            {"segmentation": {"size": None, "counts": "x"}},
            "annotations 1: segmentation.size is None",
        ),
        ({"segmentation": {"size": 480, "counts": "x"}}, "segmentation.size is 480"),
        (
            {"segmentation": {"size": [30, 40], "counts": [1200, -1]}},
            "counts[1] is -1",
        ),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "segmentation[0][5] is '6', not a number"),
        ({"segmentation": None}, "segmentation is None, not"),
        ({"image_id": [1]}, "image_id is [1], not a whole number"),
        ({"category_id": {}}, "category_id is {}, not a whole number"),
        ({"iscrowd": "0"}, "iscrowd is '0'"),
    ],
)
def test_odd_things_of_coco(odd: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    data = {"images": IMAGES, "categories": [{"id": 1, "name": "dog"}]}
    path.write_text(json.dumps({**data, "annotations": [THING | odd, THING | {"id": 2}]}))
    found = read_instances(path)
    assert list(found.coco.anns) == [2]
    (line,) = found.problems
    assert line.startswith("instances.json: ") and said in line


def test_odd_images_of_coco(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    odd = [
        {"height": 0}, {"width": None}, {"width": 40.0}, {"file_name": "../1.jpg"},
        {"height": 2**20, "width": 2**20},
    ]  # fmt: skip
    images = [*IMAGES, *({**IMAGES[0], "id": n, **one} for n, one in enumerate(odd, 3))]
    path.write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    found = read_instances(path)
    assert list(found.coco.imgs) == [1, 2] and len(found.problems) == len(odd)


def test_odd_captions_of_coco(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    texts = ["a dog", None, ["a dog"], 3, " ", "\ud800", "dog " * 10_000, "caf\xe9"]
    notes = [{"id": -n, "image_id": n, "caption": text} for n, text in enumerate(texts, 1)]
    path.write_text(json.dumps({"annotations": notes}), "utf-8-sig")
    found = read_captions(path)
    assert found.by_image == {1: ("a dog",), 8: ("caf\xe9",)} and len(found.problems) == 6
