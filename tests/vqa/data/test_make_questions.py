"""Questions made of captions whose phrases are marked: the patterns, and the files written."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tools.disk import check_writer
from vlcam.cli.parser import main
from vlcam.evaluation.entities import Entities, parts
from vlcam.utils.files.atomic import recover
from vqa.data.accuracy import accuracy
from vqa.data.from_captions import pairs
from vqa.data.make_questions import write
from vqa.data.questions import read_data

GIRL = (
    "[/EN#1/people A little girl] in [/EN#2/clothing a pink dress] is climbing"
    " [/EN#3/other a set of stairs] in [/EN#4/scene an entry way] ."
)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (GIRL, [("what color is the dress?", "pink", "2"), ("where is the girl?", "way", "4")]),
        (
            "[/EN#7/animals Two black and white dogs] are running with [/EN#8/other a stick]"
            " on [/EN#9/scene the beach] .",
            [
                ("what color are the dogs?", "black and white", "7"),
                ("how many dogs are there?", "2", "7"),
                ("what is running with a stick on the beach?", "dogs", "7"),
                ("what are the dogs running with?", "stick", "8"),
                ("where are the dogs?", "beach", "9"),
            ],
        ),
        (
            "[/EN#1/people A man] holding [/EN#2/other a ball] while [/EN#3/people a boy] sits",
            [
                ("who is holding a ball?", "man", "1"),
                ("what is the man holding?", "ball", "2"),
            ],
        ),
        # No evidence, no answer, or none that the patterns are sure of.
        ("[/EN#0/notvisual There] is [/EN#1/people a man] .", []),
        ("[/EN#1/people A man] looks at [/EN#0/notvisual it] .", []),
        ("[/EN#1/people He] is holding [/EN#2/other another one] .", []),
        ("[/EN#1/people A man] stands in [/EN#4/scene the background] .", []),
        ("A man runs .", []),
        ("", []),
    ],
)
def test_patterns(sentence: str, expected: list[tuple[str, str, str]]) -> None:
    found = [(pair.question, pair.answer, pair.entity) for pair in pairs(parts(sentence))]
    assert sorted(found) == sorted(expected)


def test_grey_is_gray_and_of_what_a_group_is() -> None:
    (pair,) = pairs(parts("[/EN#1/clothing a grey hat]"))
    assert (pair.question, pair.answer) == ("what color is the hat?", "gray")
    kinds = {
        "[/EN#1/people A group of men] are singing": "men",
        "[/EN#1/other The top of a hill] is glowing": "top",
    }
    for sentence, head in kinds.items():
        assert [pair.answer for pair in pairs(parts(sentence))] == [head]


def annotation(width: int, height: int, boxes: dict[str, tuple[int, int, int, int]]) -> str:
    things = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in boxes.items()
    )
    scene = "<object><name>4</name><scene>1</scene><nobndbox>1</nobndbox></object>"
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{size}{things}{scene}</annotation>"


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    """Flickr8k's layout with four photos, and their archive of entities."""
    folder, archive = tmp_path / "flickr", tmp_path / "annotations.zip"
    (folder / "Images").mkdir(parents=True)
    names = {"train": ["11_a.jpg", "12_a.jpg"], "val": ["13_a.jpg"], "test": ["14_a.jpg"]}
    random = np.random.default_rng(0)
    with zipfile.ZipFile(archive, "w") as written:
        for split, photos in names.items():
            (folder / f"{split}Images.txt").write_text("\n".join(photos) + "\n")
            for photo in photos:
                pixels = random.integers(0, 255, (20, 10, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "Images" / photo)
                number = photo.split("_")[0]
                other = GIRL.replace("pink", "red" if number == "12" else "pink")
                written.writestr(f"Sentences/{number}.txt", f"{GIRL}\n{other}\n")
                text = annotation(20, 40, {"2": (1, 1, 10, 20), "1": (3, 3, 4, 4)})
                written.writestr(f"Annotations/{number}.xml", text)
    return folder, archive


def test_vqas_layout_is_written(data: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write(*data, out, least=1) == {"train": 4, "val": 2, "test": 2}
    splits = read_data(out)
    assert not splits.skipped
    colour, place = (a for a in splits.train if a.photo.name == "000000000012.jpg")
    assert colour.text == "what color is the dress?" and colour.kind == "color"
    assert colour.answers == ("pink",) * 5 + ("red",) * 5
    assert [accuracy(answer, colour.answers) for answer in ("pink", "red", "blue")] == [1, 1, 0]
    assert place.answers == ("way",) * 10 and place.kind == "where"
    evidence = json.loads((out / "annotations" / "evidence.json").read_text())
    # Half the original's size; the first pixel is 1 there, the last is inside.
    assert evidence[str(colour.number)] == [[0.0, 0.0, 5.0, 10.0]]
    assert evidence[str(place.number)] == []  # a scene without a box
    assert [a.photo.name for a in splits.test] == ["000000000014.jpg"] * 2


def test_whatever_fails_all_is_there_or_nothing(data: tuple[Path, Path], quick_path: Path) -> None:
    def make(folder: Path, _: int) -> None:
        if not there(folder):
            write(*data, folder / "out", least=1)

    def there(folder: Path) -> object:
        recover(folder)
        out = folder / "out"
        return [len(a.answers) for a in read_data(out).train] if out.exists() else None

    check_writer(quick_path, make, there, sizes=(), every=10, replaces=False)


def test_rare_answers_go(data: tuple[Path, Path], tmp_path: Path) -> None:
    write(*data, tmp_path / "out", least=2)
    answers = [set(a.answers) for a in read_data(tmp_path / "out").train]
    assert answers == [{"pink"}, {"way"}, {"pink"}, {"way"}]


def test_photos_that_cannot_be_used_are_told_of(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, archive = data
    (folder / "Images" / "13_a.jpg").write_bytes(b"no photo")
    (folder / "trainImages.txt").write_text("11_a.jpg\n99_a.jpg\n12_a.jpg")
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(archive).extractall(unpacked)
    (unpacked / "Annotations" / "14.xml").write_text("<annotation>")
    command = ["questions", "--data", str(folder), "--entities", str(unpacked)]
    assert main([*command, "--out", str(tmp_path / "out"), "--least", "1"]) == 0
    out, err = capsys.readouterr()
    told = [line for line in err.splitlines() if line.startswith("skipped: ")]
    assert [any(name in line for line in told) for name in ("99_a", "13_a", "14.xml")] == [True] * 3
    assert out.splitlines() == ["train: 4 questions", "val: 0 questions", "test: 0 questions"]


def test_what_is_refused(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, archive = data
    (tmp_path / "text.zip").write_text("no archive")
    for options, said in (
        ((folder, archive, tmp_path), f"{tmp_path}: exists already"),
        ((folder, tmp_path / "text.zip", tmp_path / "o"), "neither a folder nor a zip archive"),
        ((folder, folder, tmp_path / "o"), "no Sentences/"),
        ((tmp_path, archive, tmp_path / "o"), "trainImages.txt: no such file"),
    ):
        names = ("--data", "--entities", "--out")
        given = [x for pair in zip(names, map(str, options), strict=True) for x in pair]
        assert main(["questions", *given]) == 1
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_zip_is_read_as_a_folder_is(data: tuple[Path, Path], tmp_path: Path) -> None:
    zipfile.ZipFile(data[1]).extractall(tmp_path / "unpacked")
    one, other = (Entities(path).read("11", (20, 10)) for path in (data[1], tmp_path / "unpacked"))
    assert one == other and len(one.sentences) == 2
