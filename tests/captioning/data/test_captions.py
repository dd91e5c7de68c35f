"""The layouts of Flickr8k and COCO."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioning.data.captions import read_data
from tests.samples.photos import photo


def test_both_layouts_are_read(tmp_path: Path) -> None:
    flickr, coco = tmp_path / "flickr", tmp_path / "coco"
    for name in ("a.jpg", "b.jpg"):
        photo(flickr / "Images" / name)
        photo(coco / "images" / name)
    (flickr / "captions.txt").write_text('image,caption\na.jpg,"A dog, here ."\nb.jpg,B\n')
    (flickr / "trainImages.txt").write_text("a.jpg\n")
    (flickr / "valImages.txt").write_text("b.jpg\n")
    splits = read_data(flickr)
    assert splits.train[0].captions == (("a", "dog", "here"),)
    assert [example.photo.name for example in splits.val] == ["b.jpg"]

    (coco / "annotations").mkdir()
    data = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": i, "caption": "One."} for i in (1, 2)],
    }
    (coco / "annotations" / "captions.json").write_text(json.dumps(data))
    held = read_data(coco)
    assert len(held.train) == len(held.val) == 1 and not held.test
    (coco / "images" / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"b\.jpg: no such photo"):
        read_data(coco)


@pytest.mark.parametrize(
    ("row", "words", "said"),
    [
        ("a dog , a cat and a man", "a dog a cat and a man", None),
        ('"a dog , a cat"', "a dog a cat", None),
        ('"a ""big"" dog"  ', "a big dog", None),
        ('a 6" pizza', "a 6 pizza", None),
        ('a man says "hi", and waves', "a man says hi and waves", None),
        ("caf\xe9 dog\x85s", "caf\xe9 dog s", None),
        ('"a dog', None, "line 2: its quotes do not close"),
        ('"a dog" , a cat', None, "line 2: its quotes do not close, or text follows them"),
        ('"a dog",a cat', None, "line 2: 3 fields for 2 columns"),
        ('a dog, a 6" pizza', None, "line 2: 3 fields for 2 columns"),
        ('"a ' + "dog " * 50_000 + '"', None, "line 2: its quotes do not close"),
        ("...", None, "1.jpg: no caption with a word in it"),
        ("", None, "1.jpg: no caption with a word in it"),
    ],
)
def test_a_row_is_read_exactly_or_left_out_and_told(
    row: str, words: str | None, said: str | None, tmp_path: Path
) -> None:
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        photo(tmp_path / "Images" / name)
    rows = ["image,caption", f"1.jpg,{row}", "2.jpg,a cat", '3.jpg,"a cow"', "", ""]
    names = ["1.jpg ", "2.jpg", ""]
    (tmp_path / "valImages.txt").write_text("3.jpg")
    for encoding in ("utf-8", "utf-8-sig"):
        for end in ("\n", "\r\n", "\r"):
            (tmp_path / "captions.txt").write_bytes(end.join(rows).encode(encoding))
            (tmp_path / "trainImages.txt").write_bytes(end.join(names).encode(encoding))
            splits = read_data(tmp_path)
            found = {one.photo.name: one.captions for one in (*splits.train, *splits.val)}
            expected = {"2.jpg": (("a", "cat"),), "3.jpg": (("a", "cow"),)}
            if words:
                expected["1.jpg"] = (tuple(words.split()),)
            assert found == expected
            assert bool(splits.skipped) == bool(said) and (said or "") in "".join(splits.skipped)


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "Images" / "1.jpg")
    table = tmp_path / "captions.txt"
    table.write_bytes("image,caption\n1.jpg,a caf\xe9\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"captions\.txt: line 2 is not UTF-8 \(byte 0xe9 at 25\)"):
        read_data(tmp_path)
    table.write_text("photo,caption\n")
    with pytest.raises(ValueError, match=r"captions\.txt: expected the columns image,caption"):
        read_data(tmp_path)


def test_names_out_of_the_folder_and_names_twice_are_told(tmp_path: Path) -> None:
    for name in ("Images/1.jpg", "Images/2.JPG", "Images/a photo.jpg", "outside.jpg"):
        photo(tmp_path / name)
    outside = str(tmp_path / "outside.jpg")
    names = ["1.jpg", "../outside.jpg", outside, "1.jpg", "a photo.jpg"]
    rows = [f"{name},a dog\n" for name in dict.fromkeys([*names, "2.JPG"])]
    (tmp_path / "captions.txt").write_text("image,caption\n" + "".join(rows))
    (tmp_path / "trainImages.txt").write_text("\n".join(names))
    (tmp_path / "valImages.txt").write_text("2.JPG")
    splits = read_data(tmp_path)
    assert [one.photo.name for one in splits.train] == ["1.jpg", "a photo.jpg"]
    assert [one.photo.name for one in splits.val] == ["2.JPG"]
    assert [line.split(": ", 2)[2] for line in splits.skipped] == [
        "'../outside.jpg' leads out of the folder of photos",
        f"{outside!r} leads out of the folder of photos",
        "occurs twice",
    ]


def test_odd_entries_of_coco_are_left_out_and_told(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2, 3)]
    for n in (1, 2, 3):
        photo(tmp_path / "images" / f"{n}.jpg")
    captions = [{"id": n, "image_id": n, "caption": "a dog"} for n in (1, 2, 3)]
    captions += [
        {"id": 4, "image_id": 1, "caption": None},
        {"id": 5, "image_id": 1, "caption": ["a dog"]},
        {"id": 6, "image_id": 1, "caption": 3},
        {"id": 7, "image_id": None, "caption": "a dog"},
        {"id": 8, "image_id": 9, "caption": "a dog"},
        {"id": 3, "image_id": 1, "caption": "a dog"},
        {"id": 9, "image_id": 1, "caption": "half a pair \ud800"},
    ]
    images.append({"id": 5, "file_name": "../../etc/passwd"})
    captions.append({"id": 10, "image_id": 5, "caption": "a dog"})
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "captions.json"
    file.write_text(json.dumps({"images": images, "annotations": captions}))
    splits = read_data(tmp_path)
    every = [*splits.train, *splits.val]
    assert sorted((one.photo.name, one.captions) for one in every) == [
        (f"{n}.jpg", (("a", "dog"),)) for n in (1, 2, 3)
    ]
    assert len(splits.skipped) == 8
    assert all(line.startswith("captions.json: ") for line in splits.skipped)
