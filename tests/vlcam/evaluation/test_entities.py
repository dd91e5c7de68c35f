"""Flickr30k Entities: marks and boxes that are damaged, and archives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from vlcam.evaluation.entities import Entities, Phrase, parts

SENTENCE = "[/EN#5/animals/people A red dog] runs"
BOX = "<xmin>5</xmin><ymin>3</ymin><xmax>14</xmax><ymax>12</ymax>"
XML = (
    "<annotation><size><width>40</width><height>20</height></size>"
    f"<object><name>5</name><bndbox>{BOX}</bndbox></object></annotation>"
)


def written(folder: Path, sentence: str | bytes = SENTENCE, xml: str = XML) -> Entities:
    for name, content in (("Sentences/7.txt", sentence), ("Annotations/7.xml", xml)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Entities(folder)


def test_marks_line_ends_and_scaled_boxes(tmp_path: Path) -> None:
    entities = written(tmp_path, b"\xef\xbb\xbf" + f"{SENTENCE}\r\nA \x85 b\r\n\r\n".encode())
    found = entities.read("7", (40, 40))  # twice as high
    dog = Phrase("5", ("animals", "people"), ("A", "red", "dog"))
    assert found.sentences == ((dog, "runs"), ("A", "b"))
    assert found.boxes == {"5": ((4.0, 4.0, 14.0, 24.0),)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("<width>40", "<width>0"), "of a photo of 0 x 20 pixels"),
        (("<width>40", "<width>"), "size/width is '', not a whole number"),
        (("<height>20", "<height>nan"), "size/height is 'nan', not a whole number"),
        (("<height>20</height>", ""), "size/height is '', not a whole number"),
        (("<xmin>5", "<xmin>1_4"), "xmin is '1_4', not a whole number"),
        (("<xmin>5", "<xmin>-5"), "xmin is '-5', not a whole number"),
        (("<xmin>5", "<xmin>15"), "has no pixel"),
        (("<ymax>12</ymax>", ""), "ymax is '', not a whole number"),
        (("</annotation>", ""), "damaged"),
        (("<annotation>", '<!DOCTYPE a [<!ENTITY b "x">]><annotation>'), "document type"),
    ],
)
def test_damaged_boxes_are_named(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    entities = written(tmp_path, xml=XML.replace(*change))
    with pytest.raises(ValueError, match=f"Annotations/7.xml: .*{said}"):
        entities.read("7", (20, 40))


def test_a_photo_that_was_turned_since_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of a photo of 40 x 20 pixels that was turned since"):
        written(tmp_path).read("7", (40, 20))


@pytest.mark.parametrize(
    "sentence",
    ["[/EN#5/animals A dog", "A dog] runs", "[/EN5/animals A dog]", "[/EN#5 dog]", "[/EN#5/x ] a"],
)
def test_damaged_marks_are_no_words(sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"marked|without words"):
        parts(sentence)
    with pytest.raises(ValueError, match=r"Sentences/7\.txt: damaged \("):
        written(tmp_path, f"{SENTENCE}\n{sentence}").read("7", (20, 40))


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, sentence in (("7", SENTENCE), ("8", "dog " * 2**20)):
            archive.writestr(f"Sentences/{number}.txt", sentence)
            archive.writestr(f"Annotations/{number}.xml", XML)
    entities = Entities(path)
    assert entities.read("7", (20, 40)).boxes
    with pytest.raises(ValueError, match=r"Sentences/8\.txt: more than 1048576 bytes"):
        entities.read("8", (20, 40))
    with pytest.raises(ValueError, match=r"Sentences/9\.txt: missing or damaged"):
        entities.read("9", (20, 40))
    whole = path.read_bytes()
    for place in range(0, len(whole), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            Entities(path).read("7", (20, 40))
        except ValueError as error:
            assert "\n" not in str(error)
