"""Text as others write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlcam.utils.files.text_files import read_json, read_lines, read_text


def test_marks_and_line_ends_are_no_part_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for start in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(start + b" a photo.jpg \r\nb.JPG\rc.jpg\n\n \r\n")
        assert read_lines(path) == ["a photo.jpg", "b.JPG", "c.jpg"]
        path.write_bytes(start + "a\x85b\u2028c\n".encode())  # no ends of lines
        assert read_text(path) == "a\x85b\u2028c\n"
        path.write_bytes(start + b"[1]\r\n")
        assert read_json(path) == [1]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content, said in (
        ("one\ntwo caf\xe9".encode("latin-1"), "line 2 is not UTF-8 (byte 0xe9 at 11)"),
        ("one".encode("utf-16"), "line 1 is not UTF-8 (byte 0xff at 0)"),
        (b"[1", "not JSON, or cut in the middle"),
        (b"[" * 100_000, "not JSON, or cut in the middle"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.txt: ") as error:
            read_json(path)
        assert str(error.value).startswith(f"{path}: {said}") and "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"b\.txt: No such file"):
        read_text(tmp_path / "b.txt")
